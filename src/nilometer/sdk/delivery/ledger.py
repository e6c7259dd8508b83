"""Where every metric is, counted in one place under one lock."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class SinkStats:
    """The metrics of one store. `adopted` came from the spool of a process that ended; `waiting`
    are in memory, `spooled` on disk; `dropped` are lost or dead letters, by reason."""

    submitted: int
    adopted: int
    waiting: int
    spooled: int
    stored: int
    dropped: Mapping[str, int]

    @property
    def balanced(self) -> bool:
        """Whether nothing is missing; it never is."""
        held = self.waiting + self.spooled + self.stored + sum(self.dropped.values())
        return self.submitted + self.adopted == held


@dataclass(frozen=True, slots=True)
class Stats:
    """All of it: `submitted` are calls; the other counts add up over the stores."""

    submitted: int
    sinks: Mapping[str, SinkStats]
    breakers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def stored(self) -> int:
        """Metrics that a store has."""
        return sum(each.stored for each in self.sinks.values())

    @property
    def spooled(self) -> int:
        """Metrics that wait on disk."""
        return sum(each.spooled for each in self.sinks.values())

    @property
    def waiting(self) -> int:
        """Metrics that wait in memory."""
        return sum(each.waiting for each in self.sinks.values())

    @property
    def dropped(self) -> Mapping[str, int]:
        """Metrics that no store will get, by reason."""
        total: Counter[str] = Counter()
        for each in self.sinks.values():
            total.update(each.dropped)
        return dict(total)

    @property
    def balanced(self) -> bool:
        """Whether every store's counts add up."""
        return all(each.balanced for each in self.sinks.values())


class Account:
    """The counts of one store. Changed under the ledger's lock only."""

    __slots__ = ("adopted", "dropped", "spooled", "stored", "waiting")

    def __init__(self) -> None:
        self.adopted = self.waiting = self.spooled = self.stored = 0
        self.dropped: Counter[str] = Counter()


class Ledger:
    """The accounts of all stores.

    The lock is re-entrant: a signal's handler or a finalizer may record, or close, on a thread that
    holds it. It is never held over a disk's or a network's answer.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.queue: deque[Any] = deque()
        """The calls that are in no account yet, one each."""
        self.left = 0
        """How many have been in the queue and are no more."""
        self.refused = 0
        self.accounts = {name: Account() for name in names}

    @property
    def submitted(self) -> int:
        """How many calls there were. With the lock held."""
        return self.left + self.refused + len(self.queue)

    def leave(self, count: int, *, dropped: int = 0, reason: str = "") -> None:
        """So many calls leave the queue: some are dropped for every store, and the others wait for
        each."""
        with self.changed:
            for _ in range(count):
                self.queue.popleft()
            self.left += count
            for account in self.accounts.values():
                account.waiting += count - dropped
                if dropped:
                    _count(account, reason, dropped)
            self.changed.notify_all()

    def refuse(self, reason: str) -> None:
        """A call more, dropped at the door."""
        with self.lock:
            self.refused += 1
            for account in self.accounts.values():
                _count(account, reason, 1)

    def at_rest(self) -> bool:
        """Whether nothing waits, in memory or on disk. With the lock held."""
        return not self.queue and not any(
            each.waiting or each.spooled for each in self.accounts.values()
        )

    def held_here(self) -> bool:
        """Whether this thread is in the middle of a change."""
        return owned_here(self.lock)

    def stats(self, breakers: Mapping[str, str]) -> Stats:
        """All counts of one moment."""
        with self.lock:
            sinks = {
                name: SinkStats(
                    submitted=self.submitted,
                    adopted=each.adopted,
                    waiting=each.waiting + len(self.queue),
                    spooled=each.spooled,
                    stored=each.stored,
                    dropped=dict(each.dropped),
                )
                for name, each in self.accounts.items()
            }
            return Stats(self.submitted, sinks, breakers)


def owned_here(lock: threading.RLock) -> bool:
    """Whether this thread has the lock; the standard library's own conditions ask like this."""
    return cast("Any", lock)._is_owned()  # noqa: SLF001


def _count(account: Account, reason: str, count: int) -> None:
    # Not `+=` on a Counter, whose first look at a reason is Python: what interrupts it there (a
    # finalizer that records) would be overwritten.
    account.dropped[reason] = account.dropped.get(reason, 0) + count
