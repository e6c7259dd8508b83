"""Calls of trace files to a server, by the client library's own delivery: with its retries, its
spool, and one event a call however often it is sent."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from nilometer.domain import clock
from nilometer.errors import ConfigurationError, Unavailable
from nilometer.importers import growing, keepers
from nilometer.importers.chunk import Position
from nilometer.importers.growing import Growing
from nilometer.importers.ingestion import Done, Rest
from nilometer.importers.priced import CACHED, cost_of, trace_hash, usage_of
from nilometer.importers.reading import Source
from nilometer.importers.store.letters import NewLetter
from nilometer.importers.store.store import Counts, Run
from nilometer.importers.trace_call import TraceCall
from nilometer.importers.trace_server import TraceServer
from nilometer.sdk.calculator import CostCalculator
from nilometer.sdk.config import ClientConfig
from nilometer.sdk.manager import ClientManager
from nilometer.sdk.observation import Seen

_SLICE = 2000
_FLUSH_SECONDS = 120.0
_LOOK_SECONDS = 2.0
_EXIT_SECONDS = 1.0
"""What a run sends is there when `keep` returns; only what failed is left at its end."""
_UNKNOWN = "unknown"
"""For what an event must have and a record may lack."""


class ServerKeeper:
    """To a server, which prices them. How far files were read, and dead letters, are in a store
    beside.

    The server keeps the first that it is told of a call. So an answer that may still grow is held
    back, and the file counts as read up to it: a run that ends before leaves it to the next.
    """

    wants_calls = True

    def __init__(self, server: TraceServer, manager: ClientManager, run: Run) -> None:
        self._server = server
        self._manager = manager
        self._run = run
        self._dropped = 0
        self._calculator = CostCalculator()
        self._source: Source | None = None
        self._growing = Growing()
        self._half_written = keepers.HalfWritten(run)

    def position(self, source: Source) -> Position:
        """Behind what was sent of the same file."""
        return keepers.resumed(self._run, source)

    def keep(self, source: Source, done: Done, letters: Sequence[NewLetter]) -> Counts:
        """Send what is whole; what the server took is durable there, and counts as inserted: only
        it knows which calls are new. Further lines of an answer that is held count as updates.

        Raises Unavailable where the server does not take them in two minutes (they are in the
        spool, and are sent again), and ConfigurationError where it refuses the key.
        """
        held = self._of(source)
        parts = held.parts
        whole = held.settled(done.calls, done.end)
        dropped = self._send(whole)
        answered = self._half_written.answered(source, done, letters)
        counts = self._run.keep((), letters, keepers.mark(source, held.position), answered)
        return Counts(
            inserted=len(whole) - dropped,
            updated=held.parts - parts,
            rejected=counts.rejected + dropped,
        )

    def rest(self, source: Source) -> Rest:
        """Send what is held of a source that is quiet, and say what still is. Raises as `keep`."""
        held = self._of(source)
        if not len(held) or not growing.is_quiet(source):
            return Rest(Counts(), len(held))
        whole = held.all()
        dropped = self._send(whole)
        self._run.keep((), (), keepers.mark(source, held.position))
        return Rest(Counts(inserted=len(whole) - dropped, rejected=dropped))

    def _of(self, source: Source) -> Growing:
        if self._source is not source:
            self._source, self._growing = source, Growing()
        return self._growing

    def _send(self, calls: Sequence[TraceCall]) -> int:
        """How many of them the server refused for good."""
        for start in range(0, len(calls), _SLICE):
            for call in calls[start : start + _SLICE]:
                self._manager.tracker.record(**seen(call, self._calculator))
            self._flush()
        return self._refused()

    def _flush(self) -> None:
        deadline = time.monotonic() + _FLUSH_SECONDS
        while not self._manager.flush(_LOOK_SECONDS):
            if self._server.refuses_key:
                raise ConfigurationError(
                    "the server refuses the key; give one of its project keys", attr="key"
                )
            if time.monotonic() >= deadline:
                raise Unavailable("the server takes no calls; run the same command again later")

    def _refused(self) -> int:
        """How many the server refused since the last time: they are dead letters of the spool."""
        total = sum(sum(sink.dropped.values()) for sink in self._manager.stats().sinks.values())
        new, self._dropped = total - self._dropped, total
        return new


@contextmanager
def sending(url: str, key: str, run: Run) -> Generator[ServerKeeper]:
    """A keeper for the length of the block. Raises ConfigurationError."""
    server = TraceServer(url, key)
    config = ClientConfig(
        sink=server,
        api_key=key,
        auto_tags=False,
        handle_sigterm=False,
        exit_timeout=_EXIT_SECONDS,
    )
    with ClientManager(config) as manager:
        yield ServerKeeper(server, manager, run)


def seen(call: TraceCall, calculator: CostCalculator) -> Seen:
    """A call as the client library takes one. Where a record names no provider it is the one that
    the price book has its model of."""
    provider = call.provider or cost_of(call, calculator).service
    told: dict[str, Any] = {
        "service": provider or _UNKNOWN,
        "model": call.resolved_model or call.model or _UNKNOWN,
        "requested_model": call.model,
        "operation": call.operation,
        "usage": usage_of(call) if call.counts_usage else None,
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
    if call.from_cache:
        told |= {"cost_usd": Decimal(0), "price_source": CACHED}
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
        "litellm_call_id": call.call_id if call.source == "litellm" else None,
        "cache_hit": call.from_cache or None,
        "accepted": call.accepted,
        "tools": list(call.tools),
    }
    return {name: value for name, value in found.items() if value not in (None, [])}
