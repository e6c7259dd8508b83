"""What a lane carries: metrics, or what another source has of calls. All it needs to know of them
is how they are written to disk and read from it, and how much memory they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.sdk.observation import BASE_BYTES
from nilometer.sdk.scopes import Scopes
from nilometer.sdk.sinks.port import Failed, Record


class Queued(Protocol):
    """What a record is made of, in the queue: in which context, and how many bytes it takes beside
    the metadata of that."""

    @property
    def scopes(self) -> Scopes:
        """The context that it was made in."""
        ...

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        ...


class Assembles(Protocol):
    """Makes records of what was queued, in the background."""

    def metric(self, observed: Any, /) -> Record:
        """The record. May raise anything: what is none is dropped, and counted."""
        ...


class Store(Protocol):
    """A store of records of one kind. `sinks.port.Sink`, which says what is asked of it, is that of
    metrics."""

    name: str
    batch_size: int
    wants_prices: bool
    local: bool

    def store(self, metrics: Sequence[Any]) -> Sequence[Failed]:
        """As `Sink.store`."""
        ...

    def close(self) -> None:
        """As `Sink.close`."""
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """How records of one kind are read back from disk (InvalidInput for a line that is none), and
    about how many bytes of memory each takes."""

    read: Callable[[bytes], Record]
    weigh: Callable[[Record], int]


METRICS = Form(AIUsageMetric.from_json, lambda _: BASE_BYTES)
"""Usage metrics."""
