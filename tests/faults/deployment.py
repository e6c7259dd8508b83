"""One deployment of the distributed profile to hurt, clients that load it, and the count.

What is counted after every fault is promise 2: each event that was acknowledged is queryable once,
its call and its cost once, its blob readable, and nothing else is there.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clickhouse_server.running import ClickHouseServer
from tests.database import servers as databases
from tests.database.reaching import url_of
from tests.faults.readers import Readers
from tests.running import Server, wait_until
from tests.sending import generation
from tests.services import KafkaService, PostgresService, S3Service

COST = Decimal("0.00021")
"""Of one event of `Load`: 1,000 tokens in and 100 out of gpt-4o-mini."""

_RETRY_SECONDS = 0.1
"""Sooner than the server asks for: a test has no time."""


@dataclass(frozen=True)
class Project:
    """A tenant that one test has for itself."""

    id: int
    key: str


@dataclass(frozen=True)
class Servers:
    """What a deployment stands on; `settings` name it to a process."""

    settings: dict[str, Any]
    clickhouse: ClickHouseServer
    s3: S3Service
    bucket: str


class Deployment:
    """Processes over servers: one for capture and one for the API, which run all the time, and
    workers as a test wants them. `more` are settings of them all."""

    def __init__(self, servers: Servers, nowhere: Path, more: Mapping[str, Any]) -> None:
        self.servers = servers
        self.settings = servers.settings | dict(more)
        self.nowhere = nowhere
        self.readers = Readers(self.settings)
        self.capture = self.server("capture")
        self.api = self.server("api")

    def server(self, role: str, **more: Any) -> Server:
        """A process that is not started yet."""
        prefix = more.pop("prefix", None)
        return Server(self.nowhere, prefix, **{"ROLE": role, **self.settings, **more})

    @contextmanager
    def process(self, role: str = "worker", **more: Any) -> Iterator[Server]:
        """One more process for the length of the block; in order it ends with 0."""
        server = self.server(role, **more).start()
        try:
            yield server
            assert server.process.poll() is not None or server.stop() == 0
        finally:
            if server.process.poll() is None:
                server.kill()

    def project(self) -> Project:
        """A new one."""
        with self.api.client() as client:
            made = client.post("/api/organizations/@current/projects/", json={"name": "faults"})
        assert made.status_code == 201, made.text
        return Project(made.json()["id"], made.json()["api_token"])

    def sql(self, project: Project, query: str) -> list[list[Any]]:
        """Rows of a query as the project's reader."""
        with self.api.client() as client:
            answer = client.post(
                f"/api/projects/{project.id}/query/",
                json={"query": {"kind": "HogQLQuery", "query": query}},
            )
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    def stored(self, project: Project) -> int:
        """Events that a reader sees; -1 while the store cannot be read."""
        with suppress(AssertionError):
            return self.sql(project, "SELECT count() FROM events")[0][0]
        return -1

    def wait_stored(self, project: Project, number: int, worker: Server) -> None:
        """Wait until a reader sees so many events, which a worker that is ready has just begun to
        store. On a slow machine the group shares its partitions out first, several times."""
        try:
            wait_until(lambda: self.stored(project) >= number, seconds=90)
        except AssertionError:
            raise AssertionError(
                f"{self.stored(project)} of {number} events are stored; the worker is "
                f"{'ready' if worker.ready('worker') else 'not ready'}, {self.readers.lag()} "
                f"records wait for it; it says {_waiting(worker)} {''.join(worker.output[-20:])}"
            ) from None

    def objects(self, project: Project) -> set[str]:
        """The names of the project's objects in the bucket."""
        pages = self.servers.s3.client().get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self.servers.bucket)
        names = (item["Key"] for page in found for item in page.get("Contents", ()))
        return {name for name in names if f"/{project.id}/" in name}

    def dead_letters(self, project: Project) -> list[dict[str, Any]]:
        """Those of the project that nobody has decided, at most 500."""
        path = f"/api/projects/{project.id}/dead_letters/?state=open&limit=500"
        with self.api.client() as client:
            answer = client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    def count(
        self, project: Project, acknowledged: Mapping[str, bytes | None], letters: int = 0
    ) -> None:
        """Wait until every acknowledged event is queryable, then count: each once and nothing else,
        its call and its cost once, so many dead letters, nothing left in the log, every blob as it
        was sent."""
        number = len(acknowledged)
        wait_until(
            lambda: self.stored(project) >= number,
            seconds=90,
            what=f"{number} events are queryable",
        )
        wait_until(lambda: self.readers.lag() == 0, what="everything is committed")
        assert self.uuids(project) == sorted(acknowledged)
        calls = "SELECT count(), uniqExact(event_uuid), sum(cost_total) FROM calls"
        ((count, distinct, cost),) = self.sql(project, calls)
        assert (count, distinct, Decimal(cost)) == (number, number, number * COST)
        assert len(self.dead_letters(project)) == letters
        self._check_blobs(project, acknowledged)

    def uuids(self, project: Project) -> list[str]:
        """Of every event that a reader finds page by page, as often as it is there; sorted."""
        found: list[str] = []
        path = f"/api/projects/{project.id}/events/?limit=500"
        with self.api.client() as client:
            while path:
                page = client.get(path)
                assert page.status_code == 200, page.text
                found += [event["uuid"] for event in page.json()["results"]]
                path = page.json()["next"]
        return sorted(found)

    def _check_blobs(self, project: Project, sent: Mapping[str, bytes | None]) -> None:
        having = [identifier for identifier, body in sent.items() if body is not None]
        with self.api.client() as client:
            for identifier in having[-10:]:
                event = client.get(f"/api/projects/{project.id}/events/{identifier}/").json()
                url = event["properties"]["$blob"]
                blob = client.get(f"/api/projects/{project.id}/blobs/", params={"url": url})
                assert blob.content == sent[identifier]


@dataclass
class Load:
    """Clients that send events as the contract says: what is refused or not answered is sent again,
    the same uuid, until it is acknowledged. `refused` has every answer that was no 2xx."""

    url: str
    project: Project
    clients: int = 4
    blobs: bool = False
    pause: float = 0.002
    acknowledged: dict[str, bytes | None] = field(default_factory=dict, repr=False)
    refused: list[requests.Response] = field(default_factory=list, repr=False)
    broken: int = 0
    slowest: float = 0
    _stopping: threading.Event = field(default_factory=threading.Event)
    _abandoned: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Load:
        """Begin."""
        self._threads = [threading.Thread(target=self._client) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def abandon(self) -> None:
        """End every client, whatever it waits for."""
        self._abandoned.set()
        self._stopping.set()
        for thread in self._threads:
            thread.join(90)

    def stop(self) -> dict[str, bytes | None]:
        """Let each client have its last event acknowledged; all that were."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(90)
            assert not thread.is_alive(), "an event is refused for good"
        return self.acknowledged

    def more(self, count: int, seconds: float = 60) -> None:
        """Wait until so many more are acknowledged."""
        enough = len(self.acknowledged) + count
        wait_until(
            lambda: len(self.acknowledged) >= enough,
            seconds=seconds,
            what=f"{count} more acknowledgements",
        )

    def wait_refused(self, count: int = 1) -> None:
        """Wait until so many answers were none of success."""
        wait_until(lambda: len(self.refused) >= count, what=f"{count} refusals")

    def check_refusals(self) -> None:
        """What was refused was refused as the contract says: 503, and when to come again."""
        assert {answer.status_code for answer in self.refused} <= {503}
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in self.refused)
        assert self.broken == 0, "a connection ended without an answer"

    def _client(self) -> None:
        with requests.Session() as session:
            while not self._stopping.is_set():
                identifier = str(uuid.uuid4())
                body = uuid.uuid4().bytes * 500 if self.blobs else None
                while not self._sent(session, identifier, body):
                    if self._abandoned.wait(_RETRY_SECONDS):
                        return
                self.acknowledged[identifier] = body
                self._stopping.wait(self.pause)

    def _sent(self, session: requests.Session, identifier: str, body: bytes | None) -> bool:
        started = time.monotonic()
        try:
            answer = post(session, self.url, self.project, identifier, body)
        except requests.RequestException:
            self.broken += 1
            return False
        self.slowest = max(self.slowest, time.monotonic() - started)
        if answer.status_code != 200:
            self.refused.append(answer)
        return answer.status_code == 200


Loading = Callable[..., Load]
"""The fixture `loading`."""


def post(
    session: requests.Session, url: str, project: Project, identifier: str, body: bytes | None
) -> requests.Response:
    """One generation that costs `COST`, each a call of its own."""
    parts = generation(
        identifier,
        None if body is None else {"$blob": ("application/octet-stream", body)},
        **{"$ai_input_tokens": 1000, "$ai_output_tokens": 100, "$ai_span_id": identifier},
    )
    headers = {"Authorization": f"Bearer {project.key}"}
    return session.post(f"{url}/i/v0/ai", files=parts, headers=headers, timeout=60)


def one(url: str, project: Project, identifier: str = "", body: bytes | None = None) -> Any:
    """The answer to one event."""
    with requests.Session() as session:
        return post(session, url, project, identifier or str(uuid.uuid4()), body)


def waits(worker: Server, reason: str) -> bool:
    """Whether the worker's pipeline waits for this reason."""
    return f'nilometer_pipeline_waiting{{reason="{reason}"}} 1.0' in _waiting(worker)


def _waiting(worker: Server) -> list[str]:
    told = requests.get(f"{worker.url}/metrics", timeout=30).text
    return [line for line in told.splitlines() if line.startswith("nilometer_pipeline_waiting")]


@contextmanager
def servers(
    kafka: KafkaService, postgres: PostgresService, s3: S3Service, directory: Path
) -> Iterator[Servers]:
    """The shared servers, or others in their place: a topic, a database and a bucket for this
    deployment alone, and a ClickHouse of its own, as every test has. Limits are short, so that
    faults are soon found."""
    bucket = f"test-{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=bucket)
    with ExitStack() as stack:
        clickhouse = ClickHouseServer(directory / "clickhouse-server").start()
        stack.callback(clickhouse.stop)
        database = stack.enter_context(databases.empty(postgres))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
        patch.setenv("AWS_REGION", s3.region)
        settings = {
            "PROFILE": "distributed",
            "DATABASE_URL": url_of(database),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "KAFKA_TOPIC": kafka.new_topic(),
            "KAFKA_PARTITIONS": 4,
            "KAFKA_ALLOW_SINGLE_REPLICA": "true",
            "KAFKA_DELIVERY_TIMEOUT": 10,  # longer than a broker that is well may be kept waiting
            "KAFKA_SESSION_TIMEOUT": 6,
            "CLICKHOUSE_URL": clickhouse.url(),
            "CLICKHOUSE_TIMEOUT": 5,
            "BLOBS_URL": f"s3://{bucket}",
            "S3_ENDPOINT": s3.endpoint,
            "PIPELINE_LINGER": 0.05,
            "LOG_LEVEL": "error",
        }
        yield Servers(settings, clickhouse, s3, bucket)


@contextmanager
def deployed(servers: Servers, directory: Path, **more: Any) -> Iterator[Deployment]:
    """Its capture and API, ready. No process of it ever makes a data directory."""
    deployment = Deployment(servers, directory / "unused", more)
    with ExitStack() as stack:
        stack.callback(deployment.readers.close)
        for server in (deployment.api, deployment.capture):
            server.start()
            stack.callback(_end, server)
        deployment.api.wait_ready("api", seconds=90)
        deployment.capture.wait_ready("capture", seconds=90)
        yield deployment
    assert not deployment.nowhere.exists()


def _end(server: Server) -> None:
    if server.process.poll() is None:
        server.kill()
