"""What the API stands on, handed over by whoever starts the process."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from nilometer.access.accounts import Accounts
from nilometer.access.keyring import Keyring
from nilometer.alerts.rules import AlertRules
from nilometer.api.budget_checks import BudgetChecks
from nilometer.api.fairness import FairGate, FairWorkers, Shares
from nilometer.api.incident_desk import IncidentDesk
from nilometer.api.workers import Gate, Workers
from nilometer.blobs.store import BlobStore
from nilometer.budgets import check
from nilometer.budgets.arrivals import Arrivals
from nilometer.budgets.store import Budgets
from nilometer.clickhouse.store import Store
from nilometer.database.engine import Database
from nilometer.incidents.accept import accept
from nilometer.incidents.backlog import Backlog
from nilometer.incidents.packs.store import Packs
from nilometer.incidents.raising import Raising
from nilometer.incidents.tools.definitions import Tools
from nilometer.incidents.tools.executor import Executor
from nilometer.incidents.tools.history import History as ToolHistory
from nilometer.log.port import Log
from nilometer.notifications.channel_store import Channels
from nilometer.notifications.configuration import Egress
from nilometer.notifications.deliveries import Deliveries
from nilometer.own_tools import tool_executor
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.pipeline.pipeline import Pipeline
from nilometer.pipeline.rewriting.jobs import Rewrites
from nilometer.query.events import Events
from nilometer.query.models import Models
from nilometer.query.savings import SavingsReads
from nilometer.query.spend import CallSpend
from nilometer.query.sql.queries import SqlQueries
from nilometer.query.traces import Traces
from nilometer.query.usage import Usage
from nilometer.settings import Settings
from nilometer.workflows.enqueueing import count_waiting

# A query takes 10 s at most and an export 60, so whoever waits longer is better told.
_QUERIES = Shares(places=2, places_each=1, waiting=64, waiting_each=16, seconds=20)
_PACKS = Shares(places=2, places_each=1, waiting=64, waiting_each=16, seconds=20)
_DRY_RUNS = Shares(places=4, places_each=2, waiting=64, waiting_each=16, seconds=20)
_EXPORTS = Shares(places=2, places_each=1, waiting=16, waiting_each=4, seconds=20)


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a process, each already built. `pipeline` is None where none runs.

    `wake_deletions` is called after a project was tombstoned, `wake_rewrites` after a pass over
    stored rows was asked for, and `wake_notifications` after something was enqueued to be sent; all
    return at once. So does `wake_budgets`, called with the projects of budgets that were changed,
    and `wake_incidents`, with the queues that got tasks.
    `exceptions_log` is that of what happens to exceptions, None where it is not read.
    `arrivals` is told by the pipeline of this process, if there is one.
    """

    database: Database
    accounts: Accounts
    wake_deletions: Callable[[], None]
    keyring: Keyring
    store: Store
    blobs: BlobStore
    dead_letters: DeadLetters
    rewrites: Rewrites
    wake_rewrites: Callable[[], None]
    notification_channels: Channels
    deliveries: Deliveries
    wake_notifications: Callable[[], None]
    budgets: Budgets
    wake_budgets: Callable[[Collection[int]], None]
    alert_rules: AlertRules
    wake_incidents: Callable[[Collection[str]], None]
    arrivals: Arrivals
    spend: CallSpend
    log: Log
    exceptions_log: Log | None
    pipeline: Pipeline | None
    settings: Settings


@dataclass(frozen=True, slots=True)
class Context:
    """What every route is given: the services, the named reads, and threads to block in.

    Reads of the store have threads of their own, so that a slow store never keeps an operator
    from the dead letters. `hydrations` bounds the answers of 64 MiB that are in memory at once.
    Untrusted SQL has two threads, so that it never keeps those reads waiting, and its exports two
    places with a thread each; packs are read by two threads, and dry runs of tools, which look
    names up, have four; of each a project has at most half.
    `unknown_bodies` bounds the bodies that are read for the key in them.
    """

    services: Services
    events: Events
    models: Models
    traces: Traces
    usage: Usage
    savings: SavingsReads
    budget_checks: BudgetChecks
    incidents: IncidentDesk
    raising: Raising
    packs: Packs
    tools: Tools
    tool_history: ToolHistory
    executor: Executor
    sql: SqlQueries
    store_workers: Workers
    sql_workers: FairWorkers
    export_workers: Workers
    database_workers: Workers
    pack_workers: FairWorkers
    dry_run_workers: FairWorkers
    hydrations: Gate
    exports: FairGate
    unknown_bodies: Gate

    def close(self) -> None:
        """Wait for the blocking calls under way, so that the parts below may be closed."""
        self.raising.close()
        self.store_workers.close()
        self.sql_workers.close()
        self.export_workers.close()
        self.database_workers.close()
        self.pack_workers.close()
        self.dry_run_workers.close()


def make_context(services: Services) -> Context:
    """The context of one application."""
    store_workers = Workers("api-store", threads=4, waiting=64)
    database_workers = Workers("api-database", threads=4, waiting=64)
    reach = Egress.of(services.settings).reach
    backlog = Backlog(count_waiting, most=services.settings.exception_backlog)
    return Context(
        services=services,
        events=Events(services.store),
        models=Models(services.store),
        traces=Traces(services.store),
        usage=Usage(services.store),
        savings=SavingsReads(services.store),
        budget_checks=_budget_checks(services, store_workers),
        incidents=IncidentDesk(services.database, database_workers, services.wake_incidents),
        raising=Raising(services.database, accept, backlog, wake=services.wake_incidents),
        packs=Packs(services.database),
        tools=Tools(services.database, reach),
        tool_history=ToolHistory(services.database),
        executor=tool_executor(services.database, services.log, services.store, reach),
        sql=SqlQueries(services.store),
        store_workers=store_workers,
        sql_workers=FairWorkers("api-sql", _QUERIES),
        export_workers=Workers("api-export", threads=_EXPORTS.places, waiting=_EXPORTS.places),
        database_workers=database_workers,
        pack_workers=FairWorkers("api-packs", _PACKS),
        dry_run_workers=FairWorkers("api-dry-runs", _DRY_RUNS),
        hydrations=Gate(slots=2, waiting=32),
        exports=FairGate(_EXPORTS),
        unknown_bodies=Gate(slots=32, waiting=0),
    )


def _budget_checks(services: Services, workers: Workers) -> BudgetChecks:
    def ask(project_id: int) -> check.Standing:
        return check.standing(services.budgets, services.spend.of_project, project_id)

    fresh = services.settings.budget_check_seconds
    return BudgetChecks(ask, services.arrivals, workers, fresh=fresh)


def context(request: Request) -> Context:
    """The context of the application that serves this request."""
    return cast("Context", request.app.state.context)


async def _context(request: Request) -> Context:
    """As `context`; a dependency that is no coroutine is given a thread, for every request."""
    return context(request)


Ctx = Annotated[Context, Depends(_context)]
