"""The port of every store of metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nilometer.domain.usage_metric import AIUsageMetric


class Record(Protocol):
    """What is delivered: a metric, or a gateway's payload of a call. It does not change."""

    def to_json(self) -> str:
        """One line of JSON, without the newline; no half of a surrogate pair is in it."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The same as an object."""
        ...


@dataclass(frozen=True, slots=True)
class Failed:
    """A metric that was not stored. `reason` is a code, safe to log.

    `permanent` says that the same metric fails again however often it is sent: it becomes a dead
    letter. Otherwise it is sent again, not before `retry_after` seconds.
    """

    metric: Record
    reason: str
    permanent: bool = False
    retry_after: float = 0.0


class Sink(Protocol):
    """A store of metrics. Used by one thread at a time.

    `name` says which store it is and is safe to log: it holds no key. `batch_size` is how many
    metrics it likes to get at once, at most. `wants_prices` is False for a store that prices
    metrics itself. `local` says that a store cannot be far: what it was given is as safe as in a
    spool, which it is then not written to first.
    """

    name: str
    batch_size: int
    wants_prices: bool
    local: bool

    def store(self, metrics: Sequence[AIUsageMetric]) -> Sequence[Failed]:
        """Store the metrics, each once however often it is given (`request_id`): those that were
        not, and why. What is not among them is durable when this returns.

        May block, for a bounded time. Raises any Exception when none could be stored, an outage:
        all are sent again, after `retry_after` seconds where it is an `errors.Unavailable`.
        """
        ...

    def close(self) -> None:
        """Let go of connections and files. Never raises."""
        ...
