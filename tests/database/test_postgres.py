"""PostgreSQL as the database of record: fenced, locked, and honest about being away."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text

import nilometer
from nilometer.access.accounts import Accounts
from nilometer.access.types import Authority
from nilometer.alerts import kinds
from nilometer.alerts.anomalies import Anomaly
from nilometer.alerts.condition import Reading
from nilometer.alerts.days import tell
from nilometer.alerts.failures import Failures
from nilometer.alerts.firing import settle
from nilometer.alerts.rule import AlertRule, Condition
from nilometer.alerts.rules import AlertRules
from nilometer.alerts.unusual import Finding
from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.evaluation import evaluate
from nilometer.budgets.firing import fire
from nilometer.budgets.periods import Period, bounds, zone
from nilometer.budgets.spend import Spent
from nilometer.budgets.store import Budgets
from nilometer.database import transactions
from nilometer.database.engine import Base, Database, DatabaseUnavailable
from nilometer.database.fence import (
    EVERY_ROW,
    RowScope,
    rows_of_organization,
    rows_of_project,
)
from nilometer.database.migrate import MIGRATIONS, current, migrate
from nilometer.domain import clock
from nilometer.errors import ConfigurationError
from nilometer.incidents.accept import raise_exceptions
from nilometer.incidents.incident import Actor, ActorKind, ApprovalState, NewException
from nilometer.incidents.packs.store import Packs
from nilometer.incidents.tables import ApprovalRow
from nilometer.incidents.tools.call import Begun, ErrorClass, Failed, ToolCall
from nilometer.incidents.tools.definitions import Changes, Tools
from nilometer.incidents.tools.executions import Executions
from nilometer.migrate_data.claim import OWN_TABLES
from nilometer.notifications.channel_store import Channels
from nilometer.notifications.channels import ChannelKind
from nilometer.notifications.configuration import Egress
from nilometer.notifications.reach import PUBLIC
from nilometer.pipeline.dead_letters import DeadLetters, NewDeadLetter
from nilometer.pipeline.rewriting.jobs import Kind, Rewrites
from nilometer.workflows.enqueueing import enqueue
from nilometer.workflows.outbox import Notice, publish
from nilometer.workflows.task import NewTask
from tests.database import servers
from tests.database.reaching import away, url_of
from tests.private_servers import PostgresServer, private
from tests.running import wait_until
from tests.services import PostgresService

UNFENCED = {"alembic_version"} | OWN_TABLES


@pytest.fixture
def database(postgres: PostgresService):
    with servers.migrated(postgres) as database:
        yield database


@pytest.fixture
def two_tenants(database):
    """Two organizations, and of each everything that a tenant can have a row of."""
    accounts = Accounts(database)
    first = accounts.bootstrap(None)
    _, second = accounts.organizations.create("second")
    for issued in (first, second):
        acting = accounts.acting_as(Authority("x", None, issued.organization_id))
        acting.price_overrides.add(
            issued.project_id,
            provider="p",
            model="m",
            effective_from=clock.now(),
            per_million_tokens={"uncached_input": "1"},
        )
        rewrites = Rewrites(database, Authority("x", None, issued.organization_id))
        moment = clock.now()
        rewrites.add(
            issued.project_id,
            Kind.REPRICE,
            since=moment.replace(year=2020),
            until=moment,
            dry_run=True,
        )
        add_fired_budget(database, issued.project_id)
        add_unusual_day(database, issued.project_id)
        add_alert(database, issued.project_id)
        add_task_and_notice(database, issued.project_id)
        add_incident(database, issued.project_id)
        add_tool_that_failed(database, issued.project_id)
        Packs(database).add(issued.project_id, {"format": 1, "name": "own"})
        DeadLetters(database).add([letter(issued.project_id)])
        channels = Channels(database, Egress())
        webhook = {"url": "https://receiver.example/"}
        channel = channels.add(issued.project_id, "ops", ChannelKind.WEBHOOK, webhook)
        channels.test(issued.project_id, channel.id)
        doomed = acting.projects.create("doomed")
        acting.projects.delete(doomed.project_id)
    return first, second


def add_fired_budget(database: Database, project_id: int) -> None:
    now = clock.now()
    stored = Budgets(database).add(
        project_id,
        name="b",
        scope=BudgetScope(ScopeKind.PROJECT),
        amount=Decimal(1),
        period=Period.MONTH,
    )
    place = zone("UTC")
    spent = evaluate(stored.budget, bounds(Period.MONTH, place, now), Spent(cost=Decimal(1)))
    assert fire(database, stored, spent, now) == (50, 80, 100)


def add_unusual_day(database: Database, project_id: int) -> None:
    rules, now = AlertRules(database), clock.now()
    stored = rules.add(project_id, AlertRule("", "r"))
    anomaly = Anomaly("m", Decimal(9), Decimal(1), Decimal(8), 20)
    assert tell(database, stored, [Finding(now.date(), "", anomaly)], now) == 1


def add_alert(database: Database, project_id: int) -> None:
    condition = Condition(Decimal(1), timedelta(minutes=5))
    rule = AlertRule("", "dead", kind=kinds.Kind.DEAD_LETTERS, condition=condition)
    stored = AlertRules(database).add(project_id, rule)
    assert settle(database, stored, [Reading("", Decimal(9), 9)], clock.now()) == 1
    failures = Failures(database)
    failures.note(project_id)
    assert failures.write() == 1


def add_task_and_notice(database: Database, project_id: int) -> None:
    now = clock.now()
    with database.session(rows_of_project(project_id)) as session:
        enqueue(session, [NewTask(project_id, "queue", "lane", 1, "kind")], now)
        publish(session, [Notice(project_id, "lane", 1, "event", now, b"{}")])


def add_incident(database: Database, project_id: int) -> None:
    """With its history, the key that it was raised with, and an approval that is asked for."""
    now = clock.now()
    with database.concurrent(rows_of_project(project_id)) as session:
        [accepted] = raise_exceptions(
            session,
            project_id,
            [NewException("type", "system")],
            actor=Actor(ActorKind.KEY, "key"),
            idempotency_key="once",
            now=now,
        )
        approval = ApprovalRow(
            project_id=project_id,
            id="approval",
            incident_id=accepted.exception_id,
            run=1,
            state=ApprovalState.PENDING,
            rule="rule",
            reason="reason",
            separate=False,
            requested_at=now,
            expires_at=now,
        )
        session.add(approval)


def add_tool_that_failed(database: Database, project_id: int) -> None:
    given: Changes = {"config": {"url": "https://tool.example/", "signed": True}}
    Tools(database, PUBLIC).add(project_id, "call", "http", given)
    call = ToolCall(project_id=project_id, incident_id="i", execution_id="e", tool="call", input={})
    failed = Failed("http_500", "The receiver answered 500.", ErrorClass.TRANSIENT, asked=True)
    with database.session(rows_of_project(project_id)) as session:
        [begun] = Executions().begin(session, [call], clock.now())
        assert isinstance(begun, Begun)
        Executions().record(session, [(begun.call, failed)], clock.now())


def letter(project_id: int) -> NewDeadLetter:
    return NewDeadLetter(
        project_id=project_id,
        uuid="u",
        consumer="store",
        reason="broken",
        detail="d",
        headers=b"h",
        payload=b"p",
        attempts=1,
        partition=0,
        offset=project_id,
    )


def tenant_tables() -> list[str]:
    return sorted(set(Base.metadata.tables) - UNFENCED)


def seen(database: Database, table: str, rows: RowScope) -> int:
    with database.read(rows) as session:
        return session.scalar(text(f"SELECT count(*) FROM {table}"))


@pytest.mark.parametrize("table", tenant_tables())
def test_a_transaction_sees_only_the_rows_it_named(database, two_tenants, table):
    first, second = two_tenants
    every = seen(database, table, EVERY_ROW)
    mine, theirs = (
        seen(database, table, rows_of_organization(issued.organization_id))
        for issued in (first, second)
    )
    assert mine > 0
    assert theirs > 0
    assert mine + theirs == every
    assert seen(database, table, RowScope("")) == 0
    assert seen(database, table, rows_of_project(first.project_id)) < every


def test_a_row_of_another_project_can_be_neither_written_nor_changed(database, two_tenants):
    first, second = two_tenants
    mine = rows_of_project(first.project_id)
    with database.session(mine) as session:
        changed = session.execute(text("UPDATE dead_letters SET note = 'x'")).rowcount
    assert changed == 1
    with database.session(mine) as session:
        gone = session.execute(
            text("DELETE FROM dead_letters WHERE project_id = :other"),
            {"other": second.project_id},
        ).rowcount
    assert gone == 0
    moved = text("UPDATE dead_letters SET project_id = :other")
    with pytest.raises(DatabaseUnavailable, match="42501"), database.session(mine) as session:
        session.execute(moved, {"other": second.project_id})


def test_the_scope_ends_with_its_transaction(database, two_tenants):
    """Connections are pooled: the next transaction on one must not inherit its rows."""
    assert seen(database, "projects", EVERY_ROW) > 0
    for _ in range(2 * transactions.CONNECTIONS):
        assert seen(database, "projects", RowScope("")) == 0


def test_every_transaction_of_the_product_names_its_rows():
    unnamed = [
        f"{path.name}:{call.lineno}"
        for path in Path(nilometer.__file__).parent.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("session", "concurrent", "read")
        and "database" in ast.unparse(call.func.value)
        and not call.args
    ]
    assert unnamed == []


def test_a_read_is_one_snapshot_and_cannot_write(database):
    with database.read(EVERY_ROW) as session:
        assert session.scalar(text("SELECT count(*) FROM organizations")) == 0
        Accounts(database).bootstrap(None)
        assert session.scalar(text("SELECT count(*) FROM organizations")) == 0
    with (
        pytest.raises(DatabaseUnavailable, match="ReadOnly"),
        database.read(EVERY_ROW) as session,
    ):
        session.execute(text("DELETE FROM organizations"))


def test_writers_wait_for_each_other_and_not_for_ever(database, monkeypatch):
    monkeypatch.setattr("nilometer.database.postgres.BUSY_SECONDS", 1)
    order: list[str] = []
    entered = threading.Event()

    def second() -> None:
        entered.set()
        with database.session(EVERY_ROW):
            order.append("second")

    with database.session(EVERY_ROW):
        with (
            pytest.raises(DatabaseUnavailable, match="LockNotAvailable"),
            database.session(EVERY_ROW),
        ):
            pass
        monkeypatch.setattr("nilometer.database.postgres.BUSY_SECONDS", 30)
        waiting = threading.Thread(target=second)
        waiting.start()
        assert entered.wait(90)
        order.append("first")
    waiting.join(90)
    assert order == ["first", "second"]


def test_a_reader_never_waits_for_a_writer(database):
    with database.session(EVERY_ROW):
        assert seen(database, "projects", EVERY_ROW) == 0


def test_away_is_unavailable_and_back_is_back(database):
    assert seen(database, "projects", EVERY_ROW) == 0
    with away(database), pytest.raises(DatabaseUnavailable) as caught:
        seen(database, "projects", EVERY_ROW)
    assert servers.ROLE not in caught.value.detail
    assert seen(database, "projects", EVERY_ROW) == 0


def test_two_processes_migrate_at_once(postgres):
    code = (
        "import sys; from nilometer.database.engine import Database;"
        "from nilometer.database.migrate import migrate, current;"
        "database = Database(sys.argv[1]); print('ready', flush=True); sys.stdin.read();"
        "migrate(database); print(current(database))"
    )
    with servers.empty(postgres) as database:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, url_of(database)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(3)
        ]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.close()
            process.stdin = None
        said = {process.communicate(timeout=60)[0].strip() for process in processes}
        assert said == {current(database)}
        assert said != {""}


def test_a_migration_that_fails_leaves_nothing(postgres, monkeypatch):
    with servers.empty(postgres) as database:
        monkeypatch.setattr("nilometer.database.postgres.check_migrated", lambda connection: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            migrate(database)
        assert current(database) == ""
        monkeypatch.undo()
        migrate(database)
        assert current(database) != ""


def test_no_client_waits_long_behind_a_migration_of_a_table_in_use(database, tmp_path, monkeypatch):
    later = tmp_path / "later"
    shutil.copytree(MIGRATIONS, later)
    (later / "versions/9000_next.py").write_text(
        "from alembic import op\nimport sqlalchemy as sa\n"
        f"revision, down_revision = '9000', '{current(database)}'\n"
        "def upgrade():\n    op.add_column('projects', sa.Column('next', sa.Text()))\n"
    )
    monkeypatch.setattr("nilometer.database.migrate.MIGRATIONS", later)
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
    migrating = threading.Thread(target=migrate, args=(database,))
    with database.read(EVERY_ROW) as using:
        using.execute(text("SELECT count(*) FROM projects"))
        migrating.start()
        with database.read(EVERY_ROW) as looking:
            wait_until(lambda: looking.scalar(text(waiting)), what="the migration waits")
        assert seen(database, "projects", EVERY_ROW) == 0
    migrating.join(90)
    assert current(database) == "9000"


def test_a_server_that_stops_answering_or_restarts(monkeypatch):
    with private(PostgresServer) as server, closing(Database(server.url())) as database:
        migrate(database)
        Accounts(database).bootstrap(None)
        server.kill()
        with pytest.raises(DatabaseUnavailable):
            seen(database, "projects", EVERY_ROW)
        server.start()
        assert seen(database, "projects", EVERY_ROW) == 1

        monkeypatch.setattr("nilometer.database.postgres.ANSWER_SECONDS", 2)
        server.pause()
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            seen(database, "projects", EVERY_ROW)
        assert time.monotonic() - started < 60
        server.resume()

        def answers() -> bool:
            with suppress(DatabaseUnavailable):
                return seen(database, "projects", EVERY_ROW) == 1
            return False

        wait_until(answers, seconds=30)
        with pytest.raises(DatabaseUnavailable), database.alone("turns"):
            server.pause()
        server.resume()
        wait_until(answers, seconds=30)
        server.pause()
        with pytest.raises(DatabaseUnavailable), database.alone("turns"):
            pass


@pytest.mark.parametrize("url", ["postgresql://h", "postgresql:///", "postgres://h/d"])
def test_a_url_without_a_database_is_refused(url):
    with pytest.raises(ConfigurationError, match="postgresql://user"):
        Database(url)
