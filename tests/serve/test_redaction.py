"""Through a whole server: what a rule names is in no file that it writes, and readers see marks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.capture.redaction.senders import (
    MAIL,
    PASSWORD,
    PROMPT,
    RULES,
    SENDERS,
    STAFF,
    TEXT,
    UUID,
    otlp_request,
)
from tests.capture.test_otlp_grpc import Port
from tests.running import KEY, Server, wait_until
from tests.serve.test_otlp_port import free_port

EVERY = {"patterns": ["email", *RULES["staff"]["patterns"]], "keys": ["password"]}


class Sending:
    """What the senders ask of a door, of a server in a process of its own."""

    def __init__(self, server: Server) -> None:
        self.port, self._url = server.port, server.url

    def post(self, parts: Any, *, key: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {key}"}
        return requests.post(f"{self._url}/i/v0/ai", files=parts, headers=headers, timeout=30)


def files(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def stored(server: Server, project: int) -> list[dict[str, Any]]:
    with server.client() as client:
        return client.get(f"/api/projects/{project}/events/", params={"limit": 100}).json()[
            "results"
        ]


def dead(server: Server, project: int) -> int:
    with server.client() as client:
        return len(client.get(f"/api/projects/{project}/dead_letters/").json()["results"])


@pytest.mark.timeout(240)
def test_a_secret_is_in_no_file_whatever_door_it_came_by(tmp_path: Path):
    grpc_port = free_port()
    server = Server(tmp_path / "data", OTLP_GRPC_PORT=grpc_port, LOG_LEVEL="debug").start()
    server.wait_ready()
    try:
        with server.client() as client:
            made = client.post("/api/projects/", json={"name": "redacted"}).json()
            project, key = made["id"], made["api_token"]
            path = f"/api/projects/{project}/"
            changed = client.patch(path, json={"redaction": EVERY}).json()
            assert changed["redaction"] == EVERY | {"content": "keep"}
        sending: Any = Sending(server)
        for name, send in SENDERS.items():
            assert send(sending, key).status_code == 200, name
        Port(grpc_port, None, key).export(otlp_request())  # type: ignore[arg-type]
        # One call by ten doors: PostHog's uuid twice over, LiteLLM's, and the two spans.
        wait_until(lambda: len(stored(server, project)) >= 4, what="the events can be read")
        wait_until(lambda: dead(server, project) >= 2, what="what is no payload is set aside")
        events = stored(server, project)
        shown = json.dumps(events, ensure_ascii=False)
        marked = {rule for event in events for rule in event["redacted"]}
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill()
    kept = files(tmp_path)
    for secret in (MAIL, PASSWORD, STAFF):
        assert [path for path, data in kept.items() if secret.encode() in data] == []
        assert secret not in shown + "".join(server.output)
    assert marked == {"email", "key:password", "staff"}
    assert "[redacted:email]" in shown
    segments = [data for path, data in kept.items() if re.search(r"log/.*\.(db|sqlite)", str(path))]
    assert any(b"[redacted:email]" in data for data in segments), sorted(map(str, kept))


@pytest.mark.timeout(240)
def test_a_change_of_the_rules_takes_effect_within_seconds_and_the_first_of_a_uuid_stays(
    tmp_path: Path,
):
    server = Server(tmp_path / "data").start().wait_ready()
    try:
        sending: Any = Sending(server)
        assert SENDERS["ai_apart"](sending, KEY).status_code == 200
        with server.client() as client:
            client.patch("/api/projects/1/", json={"redaction": {"content": "none"}})

        def redacted() -> bool:
            assert SENDERS["posthog_engage"](sending, KEY).status_code == 200
            last = requests.post(
                f"{server.url}/i/v0/e",
                json={
                    "api_key": KEY,
                    "event": "e",
                    "distinct_id": "d",
                    "properties": {"note": TEXT},
                },
                timeout=30,
            )
            assert last.status_code == 200
            return any(event["redacted"].get("content") for event in stored(server, 1))

        wait_until(redacted, seconds=20, what="the rules are followed")
        assert SENDERS["ai_apart"](sending, KEY).status_code == 200  # the same uuid again
        with server.client() as client:
            first = client.get(f"/api/projects/1/events/{UUID}/").json()
            assert first["redacted"] == {}
            assert PROMPT in json.dumps(first["properties"])
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill()
