"""LiteLLM's proxy, its callbacks side by side, against a running server: every call, once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.clients.litellm_proxy import MASTER_KEY, blocks, litellm_proxy
from tests.clients.mock_openai import TEXT, mock_openai
from tests.running import KEY, Server, running, wait_until

PAGE = "litellm.md"
CALLBACKS = ("generic_api", "posthog", "otel", "langfuse", "arize_phoenix")


@dataclass(frozen=True)
class Project:
    number: int
    key: str


@dataclass(frozen=True)
class Set:
    """A server with a project for each callback, and a proxy that tells each of its own."""

    server: Server
    proxy: httpx.Client
    projects: dict[str, Project]

    def query(self, callback: str, sql: str) -> list[dict[str, Any]]:
        project = self.projects[callback].number
        with self.server.client() as http:
            answer = http.post(
                f"/api/projects/{project}/query/",
                json={"query": {"kind": "HogQLQuery", "query": sql}},
            )
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return [dict(zip(body["columns"], row, strict=True)) for row in body["results"]]

    def calls(self, callback: str) -> list[dict[str, Any]]:
        return self.query(callback, "SELECT * FROM calls ORDER BY timestamp")

    def ask(self, model: str, key: str = MASTER_KEY, **fields: Any) -> httpx.Response:
        """One call, after which every callback has told of it."""
        before = {callback: len(self.calls(callback)) for callback in CALLBACKS}
        answer = self.proxy.post(
            "/v1/chat/completions",
            json={
                "model": model,
                "messages": [{"role": "user", "content": "How high is the river?"}],
                "user": "ada",
                **fields,
            },
            headers={"Authorization": f"Bearer {key}"},
        )
        # LiteLLM forgets what is added to its queues while it sends them: one call at a time.
        for callback, count in before.items():
            wait_until(
                lambda callback=callback, count=count: len(self.calls(callback)) > count,
                seconds=60,
                what=f"{callback} tells of {model}",
            )
        return answer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Set]:
    directory = tmp_path_factory.mktemp("litellm")
    with running(directory / "data", OTLP_GRPC_PORT=0) as server, mock_openai() as upstream:
        projects = {callback: _project(server, callback) for callback in CALLBACKS}
        [config] = blocks(PAGE, "yaml")
        model = f"model: openai/gpt-4o-mini\n      api_base: {upstream}\n"
        config = config.replace("model: openai/gpt-4o-mini\n", model)
        broken = config[config.index("  - model_name") : config.index("litellm_settings")]
        broken = broken.replace("gpt-4o-mini", "gpt-4o").rstrip() + "\n"
        config = config.replace("litellm_settings", f"{broken}litellm_settings")
        environment = _environment(server, projects) | {"OPENAI_API_KEY": "sk-upstream"}
        with litellm_proxy(directory, config, environment) as proxy:
            yield Set(server, proxy, projects)


def _project(server: Server, name: str) -> Project:
    with server.client() as http:
        made = http.post("/api/projects/", json={"name": name})
    assert made.status_code == 201, made.text
    return Project(made.json()["id"], made.json()["api_token"])


def _environment(server: Server, projects: dict[str, Project]) -> dict[str, str]:
    """The page's variables: each block is headed by its callback, and has its project's key."""
    found: dict[str, str] = {}
    for block in blocks(PAGE, "sh"):
        callback = block.split("\n", 1)[0].removeprefix("# ")
        project = projects[callback]
        text = block.replace("$NILOMETER_URL", server.url)
        text = text.replace("$NILOMETER_API_KEY", project.key)
        text = text.replace("$NILOMETER_PROJECT", str(project.number))
        found |= dict(re.findall(r'^export (\w+)="?(.*?)"?$', text, re.MULTILINE))
    assert len(found) > len(CALLBACKS)
    return found


@pytest.fixture(scope="module")
def told(world: Set) -> dict[str, list[dict[str, Any]]]:
    """What every callback told of six calls: two answers, an error of the upstream, two that the
    proxy itself refuses, and another answer, after which nothing is to come of those before."""
    assert world.ask("gpt-4o-mini").json()["choices"][0]["message"]["content"] == TEXT
    streamed = world.ask("gpt-4o-mini", stream=True)
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert world.ask("gpt-4o").status_code == 500
    assert world.ask("unknown").status_code == 400
    assert world.ask("gpt-4o-mini", key="sk-wrong").status_code in (400, 401)
    world.ask("gpt-4o-mini")
    return {callback: world.calls(callback) for callback in CALLBACKS}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("callback", CALLBACKS)
def test_every_call_is_told_once(told: dict[str, list[dict[str, Any]]], callback: str):
    calls = told[callback]
    assert [call["is_error"] for call in calls] == [False, False, True, True, True, False]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("callback", CALLBACKS)
def test_all_callbacks_mean_the_same_call(told: dict[str, list[dict[str, Any]]], callback: str):
    ids = [(call["identity"], call["call_id"]) for call in told[callback]]
    expected = [(call["identity"], call["call_id"]) for call in told["generic_api"]]
    if callback == "arize_phoenix":  # it tells no id of a call that has no response
        ids, expected = [[*each[:2], each[5]] for each in (ids, expected)]
    assert ids == expected


@pytest.mark.timeout(400)
@pytest.mark.parametrize("callback", CALLBACKS)
def test_an_answer_has_its_tokens_streamed_or_not(
    world: Set, told: dict[str, list[dict[str, Any]]], callback: str
):
    answered = [call for call in told[callback] if not call["is_error"]]
    assert len(answered) == 3
    for call in answered:
        sql = f"SELECT properties FROM events WHERE uuid = '{call['event_uuid']}'"
        [event] = world.query(callback, sql)
        properties = json.loads(event["properties"])
        told_apart = properties.get("$ai_cache_reporting_exclusive") is True
        cached = properties["$ai_cache_read_input_tokens"] if told_apart else 0
        assert properties["$ai_input_tokens"] + cached == 120
        assert properties["$ai_output_tokens"] == 30
        assert call["model"].removeprefix("openai/") == "gpt-4o-mini"


@pytest.mark.timeout(400)
def test_generic_api_tells_all(world: Set, told: dict[str, list[dict[str, Any]]]):
    answered, streamed, broken, unknown, wrong_key, _ = told["generic_api"]
    for call in (answered, streamed):
        assert (call["cache_read_input_tokens"], call["reasoning_tokens"]) == (100, 10)
        # $0.15 a million input tokens, half of it cached; $0.60 of output.
        assert call["reported_total_cost_usd"] == "0.0000285"
        assert call["identity"] == "response"
        assert call["distinct_id"] == "ada"
        assert call["provider"] == "openai"
    assert answered["time_to_first_token"] is None
    assert streamed["time_to_first_token"] < streamed["latency"]
    assert [call["http_status"] for call in (broken, unknown, wrong_key)] == [500, 400, 400]
    assert {call["identity"] for call in (broken, unknown, wrong_key)} == {"litellm"}
    assert world.query("generic_api", "SELECT count() AS n FROM events") == [{"n": 6}]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("callback", CALLBACKS)
def test_no_key_and_no_record_of_one_is_kept(
    world: Set, told: dict[str, list[dict[str, Any]]], callback: str
):
    assert told
    text = str(world.query(callback, "SELECT properties FROM events"))
    for secret in (KEY, MASTER_KEY, "sk-upstream", "sk-wrong", world.projects[callback].key):
        assert secret not in text
    # LiteLLM's name of the master key in a key's record, and a header of each request.
    assert "litellm_proxy_master_key" not in text
    assert "accept-encoding" not in text
