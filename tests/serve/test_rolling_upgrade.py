"""A rolling upgrade to a release whose schema is newer, and a start of the one before after it:
under load on real servers, no client sees an error and every event is there once."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from nilometer.clickhouse.address import Server as ClickHouse
from nilometer.clickhouse.store import Store
from nilometer.database.engine import Database
from nilometer.database.migrate import current
from tests.migrate_data.deployments import Target, empty
from tests.running import KEY, Server
from tests.sending import generation, send
from tests.serve.releases import NextRelease
from tests.serve.test_faults import wait_for_exactly
from tests.services import KafkaService, PostgresService, S3Service

ROLES = ("worker", "worker", "capture", "capture", "api")


class Balancer:
    """Hands each request to the next process of a role; a process that takes no connection any
    more is left out, as load balancers do."""

    def __init__(self) -> None:
        self._urls: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def add(self, role: str, url: str) -> None:
        with self._lock:
            self._urls.setdefault(role, []).append(url)

    def ask(self, role: str, request: Callable[[str], requests.Response]) -> requests.Response:
        while True:
            with self._lock:
                urls = self._urls[role]
                urls.append(urls.pop(0))
                url = urls[-1]
            try:
                return request(url)
            except requests.ConnectionError as error:
                if "NewConnectionError" not in str(error):
                    raise
                with self._lock:
                    self._urls[role].remove(url)


class Load:
    """Clients that send and read until they are stopped; what they were told."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._stopping = threading.Event()
        self.acknowledged: list[str] = []
        self.reads = 0
        self.errors: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._send), threading.Thread(target=self._read)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join(60)

    def _send(self) -> None:
        while not self._stopping.wait(0.02):
            identifier = str(uuid.uuid4())
            parts = generation(identifier, {"$ai_output": ("text/plain", b"an answer")})
            if self._tried("capture", lambda url, parts=parts: send(url, parts)):
                self.acknowledged.append(identifier)

    def _read(self) -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        query = {"query": {"kind": "HogQLQuery", "query": "SELECT count() FROM events"}}
        while not self._stopping.wait(0.05):
            self.reads += self._tried(
                "api",
                lambda url: requests.post(
                    f"{url}/api/projects/1/query/", json=query, headers=headers, timeout=30
                ),
            )

    def _tried(self, role: str, request: Callable[[str], requests.Response]) -> bool:
        try:
            answer = self._balancer.ask(role, request)
        except Exception as error:
            self.errors.append(f"{role}: {error!r}")
            return False
        if answer.status_code != 200:
            self.errors.append(f"{role}: {answer.status_code} {answer.text}")
        return answer.status_code == 200


class Deployment:
    """The processes of one deployment, one after the other replaced."""

    def __init__(self, target: Target, nowhere: Path, balancer: Balancer) -> None:
        self._settings = target.serving()
        self._nowhere = nowhere
        self._balancer = balancer
        self.processes: list[tuple[str, Server]] = []

    def begin(self, role: str, prefix: list[str] | None = None) -> Server:
        server = Server(self._nowhere, prefix, ROLE=role, **self._settings).start()
        self.processes.append((role, server))
        return server

    def serve(self, role: str, server: Server) -> None:
        server.wait_ready(role, seconds=90)
        self._balancer.add(role, server.url)

    def replace(self, role: str, prefix: list[str] | None) -> None:
        """Start a process of this role and stop the oldest, once the new one is ready."""
        oldest = next(each for each in self.processes if each[0] == role)
        self.serve(role, self.begin(role, prefix))
        assert oldest[1].stop() == 0, oldest[1].output
        self.processes.remove(oldest)

    def stop(self) -> None:
        for _, server in self.processes:
            if server.process.poll() is None:
                server.stop()


@pytest.fixture
def target(
    kafka: KafkaService, postgres: PostgresService, s3: S3Service, tmp_path: Path
) -> Iterator[Target]:
    with empty(kafka, postgres, s3, tmp_path / "clickhouse") as target:
        yield target


@pytest.mark.timeout(600)
def test_no_client_sees_an_upgrade_roll_or_its_old_release_come_back(
    target: Target, tmp_path: Path
):
    following = NextRelease(tmp_path / "next")
    balancer = Balancer()
    load = Load(balancer)
    with ExitStack() as stack:
        deployment = Deployment(target, tmp_path / "unused", balancer)
        stack.callback(deployment.stop)
        started = [(role, deployment.begin(role)) for role in ROLES]
        for role, server in started:
            deployment.serve(role, server)
        before = versions(target)
        with load.running():
            for role in ROLES:
                deployment.replace(role, following.prefix)
                assert versions(target) == (following.revision, following.version)
            sent = len(load.acknowledged)
            # Back to the release before, which starts on the newer schema too: one process of every
            # role beside the others.
            back = deployment.begin("all")
            for role in ("worker", "capture", "api"):
                deployment.serve(role, back)
        assert versions(target) == (following.revision, following.version) != before
        assert load.errors == []
        assert len(load.acknowledged) > sent > 50
        assert load.reads > 20
        assert set(wait_for_exactly(back, load.acknowledged)) == set(load.acknowledged)


def versions(target: Target) -> tuple[str, int]:
    """The newest migration of the database, and of the store."""
    database = Database(target.settings["DATABASE_URL"])
    store = Store(ClickHouse.parse(target.settings["CLICKHOUSE_URL"]))
    try:
        store.open(migrating=False)
        return current(database), store.schema()[0]
    finally:
        store.close()
        database.close()
