"""What the tests of tools share: two projects, a receiver, and the three steps of a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pytest

from nilometer.access.accounts import Accounts
from nilometer.budgets.store import Budgets
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.incidents.tools.call import (
    Beginning,
    Begun,
    Interrupted,
    Outcome,
    Over,
    Performed,
    ToolCall,
)
from nilometer.incidents.tools.definitions import ToolInfo, Tools
from nilometer.incidents.tools.execution import Execution
from nilometer.incidents.tools.executions import Executions
from nilometer.incidents.tools.executor import Executor
from nilometer.incidents.tools.history import History
from nilometer.incidents.tools.own.elsewhere import Elsewhere
from nilometer.incidents.tools.remote import Remote
from nilometer.notifications.channel_store import Channels
from nilometer.notifications.configuration import Egress
from nilometer.notifications.reach import Reach
from tests.database.both import KINDS, opened
from tests.database.migrated import migrated
from tests.tools.receiver import Receiver, receiving

LOOPBACK = Reach.parse("127.0.0.0/8")
INCIDENT = "0191b0c0-0000-7000-8000-000000000001"


MEMBERS = {
    *("description", "secrets", "input_schema", "output_schema", "enabled"),
    *("max_concurrency", "breaker_failures", "breaker_seconds"),
}


class Nothing:
    """Neither letters nor reports are asked for."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


@dataclass
class Bench:
    """A project's tools over a database, at a time that a test moves."""

    database: Database
    project: int
    other: int
    url: str
    elsewhere: Elsewhere = field(default_factory=lambda: Elsewhere(Nothing(), Nothing()))
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.tools = Tools(self.database, LOOPBACK)
        self.executions = Executions()
        self.history = History(self.database)
        self.executor = Executor(self.database, Remote(LOOPBACK), self.elsewhere)
        self.accounts = Accounts(self.database)
        self.budgets = Budgets(self.database)
        self.channels = Channels(self.database, Egress(LOOPBACK))

    def http(self, name: str = "call", path: str = "/do", **given: Any) -> ToolInfo:
        """Define an HTTP tool; what is no member of a tool is one of its configuration."""
        return self.define("http", name, url=f"{self.url}{path}", **given)

    def define(self, kind: str, name: str, **given: Any) -> ToolInfo:
        members = MEMBERS & given.keys()
        plain = {each: given.pop(each) for each in members}
        return self.tools.add(self.project, name, kind, {"config": given, **plain})

    def call(self, tool: str = "call", execution_id: str | None = None, **given: Any) -> ToolCall:
        """A call with this input."""
        project = given.pop("project", self.project)
        return ToolCall(
            project_id=project,
            incident_id=INCIDENT,
            execution_id=execution_id or str(uuid4()),
            tool=tool,
            input=given,
        )

    def begin(self, *calls: ToolCall) -> list[Beginning]:
        with self.database.concurrent(EVERY_ROW) as session:
            return self.executions.begin(session, calls, self.now)

    def record(self, call: ToolCall, performed: Performed) -> Outcome:
        with self.database.concurrent(EVERY_ROW) as session:
            [outcome] = self.executions.record(session, [(call, performed)], self.now)
            return outcome

    def run(self, call: ToolCall) -> Outcome:
        """One attempt, whole."""
        [beginning] = self.begin(call)
        if isinstance(beginning, Over):
            return beginning.outcome
        if isinstance(beginning, Interrupted):
            return self.record(beginning.call, self.executor.reconcile(beginning.call))
        assert isinstance(beginning, Begun), beginning
        return self.record(beginning.call, self.executor.execute(beginning.call))

    def kept(self, call: ToolCall) -> Execution:
        return self.history.get(call.project_id, call.execution_id)

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def receiver(server: Receiver) -> Iterator[Receiver]:
    """A receiver that nobody has called yet."""
    server.gate.set()  # let go of what an earlier test left
    server.__init__(url=server.url)  # type: ignore[misc]
    yield server
    server.gate.set()


@cache
def _founded() -> tuple[bytes, int, int]:
    """A database file with two organizations, made once a process, and their projects."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "nilometer.db"
        with closing(migrated(path)) as database:
            projects = _found(database)
        return path.read_bytes(), *projects


def _found(database: Database) -> tuple[int, int]:
    accounts = Accounts(database)
    first = accounts.bootstrap(None)
    assert first is not None
    _, second = accounts.organizations.create("second")
    return first.project_id, second.project_id


@pytest.fixture
def bench(tmp_path: Path, receiver: Receiver) -> Iterator[Bench]:
    """Tools on SQLite."""
    content, project, other = _founded()
    path = tmp_path / "nilometer.db"
    path.write_bytes(content)
    with closing(Database(f"sqlite:///{path}")) as database:
        yield Bench(database, project, other, receiver.url)


@pytest.fixture(params=KINDS)
def each_bench(
    request: pytest.FixtureRequest, tmp_path: Path, receiver: Receiver
) -> Iterator[Bench]:
    """Tools on each kind of database."""
    with opened(request, tmp_path) as database:
        yield Bench(database, *_found(database), receiver.url)
