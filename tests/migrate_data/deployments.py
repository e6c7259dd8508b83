"""An embedded deployment with everything that can be moved, and empty servers to move it to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import forking
from tests.clickhouse_server.running import ClickHouseServer
from tests.database import servers
from tests.database.reaching import url_of
from tests.running import Server, wait_until
from tests.sending import generation, send
from tests.services import KafkaService, PostgresService, S3Service

LARGE = "x" * 20_000
COSTS = "SELECT event_uuid, model, cost_total, price_source FROM calls ORDER BY event_uuid"


@dataclass
class Embedded:
    """A stopped embedded deployment. `answers` are the API's from before it stopped, by what was
    asked; `unread` are the events that only its log has."""

    directory: Path
    project: int = 0
    key: str = ""
    deleted: int = 0
    stored: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    lettered: list[str] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)


def made(folder: Path) -> Embedded:
    """Events with blobs and packs in two projects, a deleted project, an override, dead letters of
    records that were passed and of records that were not, and unread records; stopped cleanly."""
    faults = folder / "faults"
    faults.write_text("")
    source = Embedded(folder / "data")
    server = Server(source.directory, FAILPOINTS=f"@{faults}").start().wait_ready()
    _manage(server, source)
    _send_all(server, source)
    faults.write_text("map=error")
    assert send(server.url, generation(whose="lost")).status_code == 200
    with server.client() as client:
        letters = "/api/projects/1/dead_letters/"
        wait_until(lambda: client.get(letters).json()["results"], what="a dead letter")
    faults.write_text("")
    source.answers = answers(server, source)
    # Dead-lettered, and killed before the log knows that it was passed.
    faults.write_text("map=error,before_commit=kill")
    source.lettered = [_sent(server)]
    assert server.wait_dead() != 0
    faults.write_text("store=error")
    server = Server(source.directory, FAILPOINTS=f"@{faults}").start()
    source.unread = source.lettered + [_sent(server) for _ in range(20)]
    assert server.stop() == 0
    return source


def answers(server: Server, source: Embedded) -> dict[str, Any]:
    """What the API says of what is stored."""
    asked = {}
    with server.client() as client:
        for project in (1, source.project):
            path = f"/api/projects/{project}"
            found = client.get(f"{path}/events/?limit=500&hydrate=1").json()["results"]
            asked[f"events of {project}"] = found
            query = {"query": {"kind": "HogQLQuery", "query": COSTS}}
            asked[f"costs of {project}"] = client.post(f"{path}/query/", json=query).json()[
                "results"
            ]
            for event in found:
                for blob in event["blobs"]:
                    answer = client.get(f"{path}/blobs/", params={"url": blob["url"]})
                    asked[blob["url"]] = answer.status_code, answer.content
        for path in ("projects/", f"projects/{source.deleted}/deletion/"):
            asked[path] = client.get(
                f"/api/{'organizations/@current/' if path == 'projects/' else ''}{path}"
            ).json()
    return asked


def _manage(server: Server, source: Embedded) -> None:
    with server.client() as client:
        projects = "/api/organizations/@current/projects/"
        made = client.post(projects, json={"name": "second"}).json()
        source.project, source.key = made["id"], made["api_token"]
        doomed = client.post(projects, json={"name": "doomed"}).json()
        source.deleted = doomed["id"]
        assert send(server.url, generation(), key=doomed["api_token"]).status_code == 200
        stored = f"/api/projects/{source.deleted}/events/"
        wait_until(lambda: client.get(stored).json()["results"], what="stored")
        assert client.delete(f"/api/projects/{source.deleted}/").status_code in (202, 204)
        override = {
            "provider": "acme",
            "model": "own-1",
            "effective_from": "2020-01-01T00:00:00Z",
            "per_million_tokens": {"uncached_input": "1.5", "text_output": "3"},
        }
        answer = client.post("/api/projects/1/price_overrides/", json=override)
        assert answer.status_code == 201, answer.text
        state = f"/api/projects/{source.deleted}/deletion/"
        wait_until(lambda: client.get(state).json()["state"] == "deleted", what="deleted")


def _send_all(server: Server, source: Embedded) -> None:
    tokens = {"$ai_input_tokens": 1000, "$ai_output_tokens": 100}
    kinds: list[dict[str, Any]] = [
        {"$ai_input": LARGE, "$ai_provider": "acme", "$ai_model": "own-1", **tokens},
        {"$ai_latency": 1.25, "text": "Öl\u0000 ' \\ \n€", "nothing": None, **tokens},
        {"$ai_model": "unknown-model", "deep": {"a": [1, 2.5, "x" * 500]}},
    ]
    for number in range(12):
        identifier = str(uuid.uuid4())
        blobs = {"$ai_output": ("text/plain", os.urandom(300) + b"answer" * 300)}
        parts = generation(
            identifier,
            blobs if number % 2 else None,
            **kinds[number % 3],
            **{"$ai_span_id": identifier, "$ai_trace_id": f"trace-{number % 4}"},
        )
        key = {"key": source.key} if number % 3 == 0 else {}
        assert send(server.url, parts, **key).status_code == 200
        source.stored.append(identifier)
    counted = "SELECT count() FROM events"
    query = {"query": {"kind": "HogQLQuery", "query": counted}}
    with server.client() as client:

        def stored() -> bool:
            counts = [
                client.post(f"/api/projects/{each}/query/", json=query).json()["results"][0][0]
                for each in (1, source.project)
            ]
            return sum(map(int, counts)) == len(source.stored)

        wait_until(stored, seconds=60, what="all stored")


def _sent(server: Server) -> str:
    identifier = str(uuid.uuid4())
    parts = generation(identifier, {"$ai_output": ("text/plain", b"a blob of an unread record")})
    assert send(server.url, parts).status_code == 200
    return identifier


@dataclass
class Target:
    """Empty servers, as the settings of a deployment name them."""

    settings: dict[str, str]
    bucket: str
    s3: S3Service
    clickhouse: ClickHouseServer

    def command(
        self, source: Path, *arguments: str, cold: bool = False, **settings: str
    ) -> subprocess.CompletedProcess:
        """Run the command against it, its output kept; forked unless `cold`: see
        `tests.forking`."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NILOMETER_")}
        given = self.settings | settings
        environment |= {f"NILOMETER_{name}": value for name, value in given.items()}
        command = ["migrate-data", "--from", str(source), "--format", "json", *arguments]
        if forking.wanted and not cold:
            return forking.run(command, environment, timeout=120)
        return subprocess.run(
            [sys.executable, "-m", "nilometer", *command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def serving(self) -> dict[str, Any]:
        """The settings of a process that serves it."""
        return {"PROFILE": "distributed", **self.settings}

    def move(self, source: Path, *arguments: str, cold: bool = False) -> dict[str, Any]:
        """Run it to its end."""
        done = self.command(source, *arguments, cold=cold)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


@contextmanager
def empty(
    kafka: KafkaService, postgres: PostgresService, s3: S3Service, folder: Path
) -> Iterator[Target]:
    """Servers that nothing has used yet."""
    bucket = f"test-{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=bucket)
    clickhouse = ClickHouseServer(folder).start()
    try:
        with servers.empty(postgres) as database, pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
            patch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
            patch.setenv("AWS_REGION", s3.region)
            settings = {
                "DATABASE_URL": url_of(database),
                "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
                "KAFKA_TOPIC": kafka.new_topic(),
                "KAFKA_PARTITIONS": "4",
                "KAFKA_ALLOW_SINGLE_REPLICA": "true",
                "CLICKHOUSE_URL": clickhouse.url(),
                "BLOBS_URL": f"s3://{bucket}",
                "S3_ENDPOINT": s3.endpoint,
            }
            yield Target(settings, bucket, s3, clickhouse)
    finally:
        clickhouse.stop()
