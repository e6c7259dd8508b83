"""Every real part that the API stands on, in this process, and the API served over HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import uvicorn
from fastapi import FastAPI
from sqlalchemy import select, text

from nilometer.access.accounts import Accounts
from nilometer.access.deletion import Tombstones
from nilometer.access.keyring import Keyring
from nilometer.access.tables import Organization
from nilometer.access.types import KeyKind, Scope
from nilometer.alerts.rule import AlertRule
from nilometer.alerts.rules import AlertRules
from nilometer.api.app import Services, create_app
from nilometer.blobs.store import BlobStore, open_store
from nilometer.blobs.types import BlobPart
from nilometer.budgets.arrivals import Arrivals
from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.periods import Period
from nilometer.budgets.store import Budgets
from nilometer.clickhouse.store import Store
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.database.migrate import migrate
from nilometer.domain import clock
from nilometer.domain.ai_record import AiRecord
from nilometer.domain.identity import uuid7
from nilometer.incidents import approvals
from nilometer.incidents.accept import raise_exceptions
from nilometer.incidents.approvals import Question
from nilometer.incidents.events import DeadLettered, Payload
from nilometer.incidents.history import History, change
from nilometer.incidents.incident import Actor, ActorKind, NewException, Status, system
from nilometer.incidents.packs.store import Packs
from nilometer.incidents.tools.call import ToolCall
from nilometer.incidents.tools.definitions import Changes, Tools
from nilometer.incidents.tools.executions import Executions
from nilometer.log.envelope import Envelope
from nilometer.log.sqlite import SqliteLog
from nilometer.notifications.channel_store import Channels
from nilometer.notifications.channels import ChannelKind
from nilometer.notifications.configuration import Egress
from nilometer.notifications.deliveries import Deliveries
from nilometer.notifications.reach import Reach
from nilometer.pipeline.dead_letters import UNOWNED, DeadLetters, NewDeadLetter
from nilometer.pipeline.packing import Packer
from nilometer.pipeline.pipeline import Pipeline
from nilometer.pipeline.rewriting.jobs import Kind, Rewrites
from nilometer.query.spend import CallSpend
from nilometer.settings import Settings
from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import ErrorClass, TaskState, task_id
from tests.running import wait_until

DAY = 86_400_000_000
EGRESS = Egress(Reach.parse("127.0.0.0/8"))
Blobs = dict[str, tuple[str, bytes]]


@dataclass
class World:
    """The parts, and the address of the API."""

    services: Services
    app: FastAPI
    accounts: Accounts
    database: Database
    url: str
    http: httpx.Client

    def project(self) -> Project:
        """A new project of the default organization."""
        return Project(self, self.accounts.create_project("tested").project_id)

    def foreign_project(self) -> Project:
        """A new project of an organization of its own."""
        identity = str(uuid4())
        with self.database.session(EVERY_ROW) as session:
            session.add(Organization(id=identity, name="o", slug=identity, created_at=clock.now()))
        created = self.accounts.create_project("foreign", organization_id=identity)
        return Project(self, created.project_id)

    def get(self, path: str, token: str | None, **parameters: Any) -> httpx.Response:
        return self.ask("GET", path, token, params=parameters or None)

    def ask(self, method: str, path: str, token: str | None, **more: Any) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.http.request(method, path, headers=headers, **more)

    def settle(self) -> None:
        """Let the pipeline take in everything that was sent."""
        pipeline = self.services.pipeline
        assert pipeline is not None
        log = self.services.log

        def idle() -> bool:
            pipeline.run_once(0)
            return log.state().groups["store"].records == 0

        wait_until(idle)


@dataclass
class Project:
    """One project of a world, and what a test does in it."""

    world: World
    id: int

    def path(self, rest: str = "") -> str:
        return f"/api/projects/{self.id}/{rest}"

    def key(self, *scopes: Scope) -> str:
        """A new personal key with these scopes, or a project key without any."""
        kind = KeyKind.PERSONAL if scopes else KeyKind.PROJECT
        return self.world.accounts.keys.create(
            kind=kind, project_id=self.id, name="test", scopes=scopes
        ).token

    def price_override(self) -> str:
        """The id of a price of the project's own."""
        return self.world.accounts.price_overrides.add(
            self.id,
            provider="openai",
            model="gpt-4o",
            effective_from=clock.now(),
            per_unit={"calls": "1"},
        ).id

    def rewrite(self) -> str:
        """The id of a pass that was asked for, and cancelled."""
        rewrites = self.world.services.rewrites
        now = clock.now()
        asked = rewrites.add(
            self.id, Kind.REPRICE, since=now - timedelta(days=1), until=now, dry_run=True
        )
        return rewrites.cancel(self.id, asked.id).id

    def budget(self, **given: Any) -> str:
        """The id of a budget of the project: 100 dollars a month, with a hard stop."""
        values: dict[str, Any] = {
            "name": f"budget {uuid4()}",
            "scope": BudgetScope(ScopeKind.PROJECT),
            "amount": Decimal(100),
            "period": Period.MONTH,
            "hard_stop": True,
        }
        return self.world.services.budgets.add(self.id, **{**values, **given}).budget.id

    def alert_rule(self) -> str:
        """The id of an alert rule of the project."""
        rule = AlertRule("", f"rule {uuid4()}")
        return self.world.services.alert_rules.add(self.id, rule).rule.id

    def pack(self) -> str:
        """The name of a pack of the project, whose version 1 is a draft."""
        return Packs(self.world.services.database).add(self.id, {"format": 1, "name": "own"}).name

    def notification(self) -> tuple[str, str]:
        """The ids of a notification channel and of a delivery to it."""
        channels = self.world.services.notification_channels
        config = {"url": "http://127.0.0.1:1/"}
        channel = channels.add(self.id, "ops", ChannelKind.WEBHOOK, config).id
        return channel, channels.test(self.id, channel)

    def tool(self, name: str = "call") -> str:
        """The name of a tool of the project, which leads nowhere."""
        given: Changes = {"config": {"url": "http://127.0.0.1:1/"}}
        Tools(self.world.database, EGRESS.reach).add(self.id, name, "http", given)
        return name

    def tool_execution(self, tool: str = "call", **given: Any) -> str:
        """The id of an execution that was begun, and of which nobody knows more."""
        call = ToolCall(
            project_id=self.id,
            incident_id="incident",
            execution_id=str(uuid4()),
            tool=tool,
            input=given,
        )
        with self.world.database.concurrent(EVERY_ROW) as session:
            Executions().begin(session, [call], clock.now())
        return call.execution_id

    def exception(self, *, actor: str = "test", **given: Any) -> str:
        """The id of an exception of the project that was accepted, and that nothing works on."""
        raised = NewException(**{"exception_type": "Failed", "source_system": "billing"} | given)
        with self.world.database.concurrent(EVERY_ROW) as session:
            who = Actor(ActorKind.KEY, actor)
            [accepted] = raise_exceptions(session, self.id, [raised], actor=who, now=clock.now())
        return accepted.exception_id

    def change_exception(self, exception_id: str, *payloads: Payload, **values: Any) -> None:
        """Change an exception as a stage of the chain would."""
        with self.world.database.concurrent(EVERY_ROW) as session:
            found = History(session, clock.now()).one(self.id, exception_id)
            change(session, found, *payloads, now=clock.now(), actor=system("test"), **values)

    def approval(self, exception_id: str | None = None, **question: Any) -> str:
        """The id of an approval that the project is asked for."""
        asked = Question(**{"rule": "large-amounts", "reason": "It is much."} | question)
        exception_id = exception_id or self.exception()
        for status in (Status.OPEN, Status.TRIAGED):
            self.change_exception(exception_id, to=status)
        approval_id = uuid7(clock.to_micros(clock.now()))
        with self.world.database.concurrent(EVERY_ROW) as session:
            now = clock.now()
            found = History(session, now).one(self.id, exception_id)
            told = approvals.ask(session, found, asked, approval_id, now)
            waits = Status.AWAITING_APPROVAL
            change(session, found, told, now=now, actor=system("policy"), to=waits)
        return approval_id

    def exception_dead_letter(self, exception_id: str | None = None) -> str:
        """The id of a task of an exception that was given up."""
        exception_id = exception_id or self.exception()
        with self.world.database.concurrent(EVERY_ROW) as session:
            found = History(session, clock.now()).one(self.id, exception_id)
            query = select(TaskRow).where(
                TaskRow.project_id == self.id, TaskRow.lane == exception_id
            )
            task = session.scalars(query).one()
            task.state, task.due_at, task.dead_at = TaskState.DEAD, None, clock.now()
            task.attempts, task.error_code, task.error = 3, "refused", "The other side said no."
            task.error_class = ErrorClass.PERMANENT
            letter = task_id(task.lane, task.sequence)
            told = DeadLettered("intake", letter, 3, "refused", "It said no.", "permanent")
            change(session, found, told, now=clock.now(), actor=system("test"), to=Status.FAILED)
        return letter

    @cached_property
    def reader(self) -> str:
        return self.key(Scope.READ)

    @cached_property
    def operator(self) -> str:
        return self.key(Scope.OPERATE)

    def get(self, rest: str = "", **parameters: Any) -> httpx.Response:
        return self.world.get(self.path(rest), self.reader, **parameters)

    def send(
        self,
        properties: dict[str, Any] | str | None = None,
        *,
        event: str = "$ai_generation",
        uuid: str | None = None,
        timestamp: str | None = None,
        blobs: Blobs | None = None,
        days_ago: int = 0,
    ) -> str:
        """Put an accepted event into the log, as the door does. Returns its uuid."""
        identity = uuid or str(uuid4())
        accepted_at = clock.to_micros(clock.now()) - days_ago * DAY
        parts = [BlobPart(name, kind, None, [body]) for name, (kind, body) in (blobs or {}).items()]
        stored = self.world.services.blobs.put(self.id, identity, accepted_at, 30, parts)
        fields = {"event": event, "uuid": identity, "distinct_id": "ada", "timestamp": timestamp}
        if not isinstance(properties, str):
            properties = json.dumps({"$ai_model": "m"} | (properties or {}))
        record = AiRecord(
            event=json.dumps({k: v for k, v in fields.items() if v is not None}).encode(),
            properties=properties.encode(),
            blobs=asyncio.run(_await(stored)),
            ip="127.0.0.1",
            retention_days=30,
        )
        self.world.services.log.append_blocking(
            Envelope(self.id, identity, "ai", 1, accepted_at, 1, record.encode())
        )
        return identity

    def store(self, *arguments: Any, **named: Any) -> str:
        """As `send`, and wait until it can be read."""
        identity = self.send(*arguments, **named)
        self.world.settle()
        return identity

    def dead_letter(self, **fields: Any) -> str:
        """Add a dead letter whose record is in order, and return its id."""
        identity = str(uuid4())
        event = {"event": "$ai_span", "uuid": identity, "distinct_id": "ada"}
        properties = b'{"$ai_model":"m"}'
        record = AiRecord(json.dumps(event).encode(), properties, (), "127.0.0.1", 30)
        now = clock.to_micros(clock.now())
        envelope = Envelope(self.id, identity, "ai", 1, now, 1, record.encode())
        letter = {
            "project_id": self.id,
            "uuid": identity,
            "consumer": "store",
            "reason": "map_failed",
            "detail": "it cannot be mapped",
            "headers": envelope.headers(),
            "payload": envelope.payload,
            "attempts": 1,
            "partition": 0,
            "offset": 0,
        }
        letters = self.world.services.dead_letters
        letters.add([NewDeadLetter(**{**letter, **fields})])
        owner = UNOWNED if "project_id" in fields else self.id
        found = letters.list(owner, limit=500).items
        return next(each.id for each in found if each.uuid == identity)

    def unowned_dead_letter(self, project_id: int = 0, **fields: Any) -> str:
        """As `dead_letter`, of a project that does not exist."""
        return self.dead_letter(project_id=project_id, **fields)


async def _await(stored: Any) -> Any:
    return await stored


@contextmanager
def opened(store: Store, directory: Path) -> Iterator[World]:
    """A world over the store, with everything else of its own in the directory."""
    with ExitStack() as stack:
        database = stack.enter_context(closing(Database(f"sqlite:///{directory}/nilometer.db")))
        migrate(database)
        accounts = Accounts(database)
        accounts.bootstrap(None)
        _leave_ids_to_others(database)
        blobs = stack.enter_context(
            closing(open_store((directory / "blobs").as_uri(), bucket="nilometer"))
        )
        log = stack.enter_context(closing(_log(directory)))
        keyring = stack.enter_context(closing(Keyring(database, default_retention_days=30)))
        services = _services(database, keyring, store, blobs, log, directory)
        app = create_app(services)
        stack.callback(app.state.context.close)
        url = stack.enter_context(served(app))
        http = stack.enter_context(httpx.Client(base_url=url, timeout=30))
        yield World(services, app, accounts, database, url, http)


def _services(
    database: Database,
    keyring: Keyring,
    store: Store,
    blobs: BlobStore,
    log: SqliteLog,
    directory: Path,
) -> Services:
    letters, arrivals = DeadLetters(database), Arrivals()
    return Services(
        database=database,
        accounts=Accounts(database),
        wake_deletions=lambda: None,
        keyring=keyring,
        store=store,
        blobs=blobs,
        dead_letters=letters,
        rewrites=Rewrites(database),
        wake_rewrites=lambda: None,
        notification_channels=Channels(database, EGRESS),
        deliveries=Deliveries(database),
        wake_notifications=lambda: None,
        budgets=Budgets(database),
        wake_budgets=lambda _: None,
        alert_rules=AlertRules(database),
        wake_incidents=lambda _: None,
        arrivals=arrivals,
        spend=CallSpend(store),
        log=log,
        exceptions_log=None,
        pipeline=Pipeline(
            log=log,
            store=store,
            dead_letters=letters,
            linger=0,
            tombstoned=Tombstones(database).among,
            pack=Packer(blobs, above=16 * 1024).lines,
            arriving=arrivals.arriving,
        ),
        settings=Settings(data_dir=directory, notification_networks="127.0.0.0/8"),
    )


def _log(directory: Path) -> SqliteLog:
    return SqliteLog(
        directory / "log",
        segment_bytes=1 << 20,
        max_bytes=1 << 30,
        keep_seconds=0,
        disk_reserve=0,
        rewind_seconds=0,
    )


def _leave_ids_to_others(database: Database) -> None:
    """Projects here begin far above those of other tests over the same store."""
    with database.session(EVERY_ROW) as session:
        start = 1_000_000 + uuid4().int % 1_000_000_000
        session.execute(
            text("UPDATE sqlite_sequence SET seq = :seq WHERE name = 'projects'"), {"seq": start}
        )


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application on a free port of loopback, by the server that production uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        # As long as production keeps connections: a client that sends as one ends sees an error.
        config = uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, timeout_keep_alive=75
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=_run, args=(server, [listener]))
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(90)


def _run(server: uvicorn.Server, listeners: Sequence[socket.socket]) -> None:
    asyncio.run(server.serve(sockets=list(listeners)))
