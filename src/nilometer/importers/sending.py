"""Calls of trace files to a server, by the client library's own delivery: with its retries, its
spool, and one event a call however often it is sent."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from nilometer.domain import clock
from nilometer.errors import Unavailable
from nilometer.importers import keepers
from nilometer.importers.chunk import Position
from nilometer.importers.ingestion import Done
from nilometer.importers.priced import cost_of, trace_hash, usage_of
from nilometer.importers.reading import Source
from nilometer.importers.store.letters import NewLetter
from nilometer.importers.store.store import Counts, Run
from nilometer.importers.trace_call import TraceCall
from nilometer.sdk.calculator import CostCalculator
from nilometer.sdk.config import ClientConfig
from nilometer.sdk.manager import ClientManager
from nilometer.sdk.observation import Seen

_SLICE = 2000
_FLUSH_SECONDS = 120.0
_UNKNOWN = "unknown"
"""For what an event must have and a record may lack."""


class ServerKeeper:
    """To a server, which prices them. How far files were read, and dead letters, are in a store
    beside."""

    wants_calls = True

    def __init__(self, manager: ClientManager, run: Run) -> None:
        self._manager = manager
        self._run = run
        self._dropped = 0
        self._calculator = CostCalculator()

    def position(self, source: Source) -> Position:
        """Behind what was sent of the same file."""
        return keepers.resumed(self._run, source)

    def keep(self, source: Source, done: Done, letters: Sequence[NewLetter]) -> Counts:
        """Send them; those that the server took are durable there, and count as inserted: only it
        knows which are new.

        Raises Unavailable where the server does not take them in two minutes: they are in the
        spool, and are sent again.
        """
        for start in range(0, len(done.calls), _SLICE):
            for call in done.calls[start : start + _SLICE]:
                self._manager.tracker.record(**seen(call, self._calculator))
            if not self._manager.flush(_FLUSH_SECONDS):
                raise Unavailable("the server takes no calls; run the same command again later")
        dropped = self._refused()
        counts = self._run.keep((), letters, keepers.mark(source, done.end))
        return Counts(inserted=len(done.calls) - dropped, rejected=counts.rejected + dropped)

    def _refused(self) -> int:
        """How many the server refused since the last time: they are dead letters of the spool."""
        total = sum(sum(sink.dropped.values()) for sink in self._manager.stats().sinks.values())
        new, self._dropped = total - self._dropped, total
        return new


@contextmanager
def sending(url: str, key: str, run: Run) -> Generator[ServerKeeper]:
    """A keeper for the length of the block. Raises ConfigurationError."""
    config = ClientConfig(sink=url, api_key=key, auto_tags=False, handle_sigterm=False)
    manager = ClientManager(config)
    try:
        yield ServerKeeper(manager, run)
    finally:
        manager.close()


def seen(call: TraceCall, calculator: CostCalculator) -> Seen:
    """A call as the client library takes one. Where a record names no provider it is the one that
    the price book has its model of."""
    provider = call.provider or cost_of(call, calculator).service
    told: dict[str, Any] = {
        "service": provider or _UNKNOWN,
        "model": call.resolved_model or call.model or _UNKNOWN,
        "requested_model": call.model,
        "operation": call.operation,
        "usage": usage_of(call),
        "started_at": clock.from_micros(call.started_at),
        "request_id": trace_hash(call),
        "response_id": call.response_id,
        "service_tier": call.tier or None,
        "region": call.region or None,
        "developer": call.developer,
        "repository": call.repository,
        "tags": call.tags,
        "http_status": call.status_code,
        "latency": _seconds(call.latency_ms),
        "time_to_first_token": _seconds(call.time_to_first_token_ms),
        "metadata": _notes(call),
    }
    if call.reported_cost is not None:
        told["reported_cost_usd"] = Decimal(call.reported_cost)
    if call.failed:
        told["error"] = call.error_type or "error"
        told["error_type"] = call.error_type
    return {name: value for name, value in told.items() if value is not None}  # pyright: ignore[reportReturnType]


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _notes(call: TraceCall) -> dict[str, Any]:
    found = {
        "source": call.source,
        "session_id": call.session,
        "branch": call.branch,
        "trace_id": call.trace_id,
        "accepted": call.accepted,
        "tools": list(call.tools),
    }
    return {name: value for name, value in found.items() if value not in (None, [])}
