"""What must hold for a role of this process to be ready: each raises a NilometerError otherwise."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool

from nilometer.clickhouse.store import Store
from nilometer.errors import Unavailable
from nilometer.log.port import Log
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.pipeline.pipeline import Pipeline


async def log_accepts(log: Log) -> None:
    """The log takes records."""
    state = log.state()
    if not state.ready:
        raise Unavailable(state.reason)


async def database_answers(dead_letters: DeadLetters) -> None:
    """The database can be read."""
    await run_in_threadpool(dead_letters.open_counts)


async def store_answers(store: Store | None) -> None:
    """The store can be read."""
    if store is None:
        raise Unavailable("this process has no store")
    await run_in_threadpool(store.query, "SELECT 1")


async def pipeline_runs(pipeline: Pipeline) -> None:
    """The pipeline works, or waits for records."""
    state = pipeline.state()
    if not state.running:
        raise Unavailable(state.detail)
