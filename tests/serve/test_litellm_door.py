"""LiteLLM's door of a real server: what it acknowledged outlives `kill -9`, bad payloads too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from tests.running import Server, running, wait_until

BATCHES, EACH = 40, 5


def payload(number: int, **fields: Any) -> dict[str, Any]:
    known = {
        "id": f"chatcmpl-{number:020d}",
        "litellm_call_id": f"00000000-0000-4000-8000-{number:012d}",
        "call_type": "acompletion",
        "status": "success",
        "custom_llm_provider": "openai",
        "model": "gpt-4o-mini",
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "startTime": 1751367600.0 + number,
        "endTime": 1751367601.0 + number,
    }
    return known | fields


def post(http: httpx.Client, body: Any) -> dict[str, Any]:
    answer = http.post("/integrations/litellm", content=json.dumps(body).encode())
    assert answer.status_code == 200, answer.text
    return answer.json()


def counted(server: Server, sql: str) -> list[Any]:
    with server.client() as http:
        answer = http.post(
            "/api/projects/1/query/", json={"query": {"kind": "HogQLQuery", "query": sql}}
        )
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]


def dead_letters(server: Server) -> list[dict[str, Any]]:
    with server.client() as http:
        return http.get("/api/projects/1/dead_letters/").json()["results"]


def test_every_payload_acknowledged_before_a_kill_is_there_once(tmp_path: Path):
    server = Server(tmp_path / "data").start().wait_ready("capture")
    batches = [[payload(batch * EACH + place) for place in range(EACH)] for batch in range(BATCHES)]
    with server.client() as http:
        for batch in batches:
            assert post(http, batch)["accepted"] == EACH
    server.kill()
    with running(tmp_path / "data") as again, again.client() as http:
        post(http, [*batches[0], *batches[-1]])  # sent again, as another batch
        post(http, [payload(BATCHES * EACH)])  # seen last: what came before is stored by then
        calls = "SELECT count(), sum(total_tokens) FROM calls"
        total = BATCHES * EACH + 1
        wait_until(lambda: counted(again, calls)[0] >= total, seconds=60, what="every call")
        assert counted(again, calls) == [total, 10 * total]
        assert counted(again, "SELECT count() FROM events") == [total]
        assert dead_letters(again) == []


def test_a_bad_payload_is_a_dead_letter_that_says_so_and_no_more(tmp_path: Path):
    secret = '{"user_api_key": "swordfish"}'
    with running(tmp_path / "data") as server, server.client() as http:
        answer = post(http, [payload(1), None, secret, {"user_api_key": "swordfish"}, payload(2)])
        assert (answer["accepted"], answer["dead_lettered"]) == (2, 3)
        letters = wait_until(
            lambda: found if len(found := dead_letters(server)) == 3 else None,
            what="three dead letters",
        )
        assert {letter["reason"] for letter in letters} == {"not_a_payload"}
        assert {letter["detail"] for letter in letters} == {"It is not a payload of LiteLLM."}
        for letter in letters:
            shown = http.get(f"/api/projects/1/dead_letters/{letter['id']}/")
            assert shown.status_code == 200
            assert "swordfish" not in shown.text
        wait_until(lambda: counted(server, "SELECT count() FROM calls") == [2], what="the good")
