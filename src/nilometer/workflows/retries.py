"""When a task that failed is tried again, and when it is given up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from nilometer.workflows.task import ErrorClass, Failure

JITTER = 0.2
"""The most that is added to a delay, as a share of it: what failed together does not come back
together."""

_MOST_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a task is attempted in all, and how long is waited in between: `initial` seconds
    after the first failure, then twice as long each time, at most `cap`."""

    max_attempts: int = 3
    initial: float = 1
    cap: float = 300

    def next_attempt(
        self, attempts: int, failure: Failure, now: datetime, chance: float
    ) -> datetime | None:
        """When to try again after so many attempts; None to give up. `chance` is from 0 to 1."""
        if failure.error_class is ErrorClass.PERMANENT or attempts >= self.max_attempts:
            return None
        delay = min(self.cap, self.initial * 2 ** min(attempts - 1, _MOST_DOUBLINGS))
        delay *= 1 + JITTER * chance
        return now + timedelta(seconds=max(delay, failure.retry_after or 0))


DEFAULT = RetryPolicy()


@dataclass(frozen=True, slots=True)
class RetryPolicies:
    """The policy of each kind of task, and that of all others."""

    of_kind: Mapping[str, RetryPolicy] = field(default_factory=dict[str, RetryPolicy])
    default: RetryPolicy = DEFAULT

    def of(self, kind: str) -> RetryPolicy:
        """That of a kind."""
        return self.of_kind.get(kind, self.default)
