"""What the API stands on, handed over by whoever starts the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from nilometer.access.accounts import Accounts
from nilometer.access.keyring import Keyring
from nilometer.api.fairness import FairGate, FairWorkers, Shares
from nilometer.api.workers import Gate, Workers
from nilometer.blobs.store import BlobStore
from nilometer.clickhouse.store import Store
from nilometer.log.port import Log
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.pipeline.pipeline import Pipeline
from nilometer.pipeline.rewriting.jobs import Rewrites
from nilometer.query.events import Events
from nilometer.query.models import Models
from nilometer.query.sql.queries import SqlQueries
from nilometer.query.traces import Traces
from nilometer.query.usage import Usage
from nilometer.settings import Settings

# A query takes 10 s at most and an export 60, so whoever waits longer is better told.
_QUERIES = Shares(places=2, places_each=1, waiting=64, waiting_each=16, seconds=20)
_EXPORTS = Shares(places=2, places_each=1, waiting=16, waiting_each=4, seconds=20)


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a process, each already built. `pipeline` is None where none runs.

    `wake_deletions` is called after a project was tombstoned, and `wake_rewrites` after a pass over
    stored rows was asked for; both return at once.
    """

    accounts: Accounts
    wake_deletions: Callable[[], None]
    keyring: Keyring
    store: Store
    blobs: BlobStore
    dead_letters: DeadLetters
    rewrites: Rewrites
    wake_rewrites: Callable[[], None]
    log: Log
    pipeline: Pipeline | None
    settings: Settings


@dataclass(frozen=True, slots=True)
class Context:
    """What every route is given: the services, the named reads, and threads to block in.

    Reads of the store have threads of their own, so that a slow store never keeps an operator
    from the dead letters. `hydrations` bounds the answers of 64 MiB that are in memory at once.
    Untrusted SQL has two threads, so that it never keeps those reads waiting, and its exports two
    places with a thread each; of either a project has at most half. `unknown_bodies` bounds the
    bodies that are read for the key in them.
    """

    services: Services
    events: Events
    models: Models
    traces: Traces
    usage: Usage
    sql: SqlQueries
    store_workers: Workers
    sql_workers: FairWorkers
    export_workers: Workers
    database_workers: Workers
    hydrations: Gate
    exports: FairGate
    unknown_bodies: Gate

    def close(self) -> None:
        """Wait for the blocking calls under way, so that the parts below may be closed."""
        self.store_workers.close()
        self.sql_workers.close()
        self.export_workers.close()
        self.database_workers.close()


def make_context(services: Services) -> Context:
    """The context of one application."""
    return Context(
        services=services,
        events=Events(services.store),
        models=Models(services.store),
        traces=Traces(services.store),
        usage=Usage(services.store),
        sql=SqlQueries(services.store),
        store_workers=Workers("api-store", threads=4, waiting=64),
        sql_workers=FairWorkers("api-sql", _QUERIES),
        export_workers=Workers("api-export", threads=_EXPORTS.places, waiting=_EXPORTS.places),
        database_workers=Workers("api-database", threads=4, waiting=64),
        hydrations=Gate(slots=2, waiting=32),
        exports=FairGate(_EXPORTS),
        unknown_bodies=Gate(slots=32, waiting=0),
    )


def context(request: Request) -> Context:
    """The context of the application that serves this request."""
    return cast("Context", request.app.state.context)


Ctx = Annotated[Context, Depends(context)]
