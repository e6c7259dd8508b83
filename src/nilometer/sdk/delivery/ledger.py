"""Where every metric is, counted in one place under one lock."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


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
        self.submitted = 0
        self.queued = 0  # of those, not yet in any account
        self.accounts = {name: Account() for name in names}

    def hand_over(self, count: int) -> None:
        """So many calls leave the queue, and wait for every store."""
        with self.lock:
            self.queued -= count
            for account in self.accounts.values():
                account.waiting += count

    def refuse(self, reason: str) -> None:
        """A call more, dropped at the door."""
        with self.lock:
            self.submitted += 1
            for account in self.accounts.values():
                account.dropped[reason] += 1

    def drop_queued(self, reason: str) -> None:
        """A call of the queue is dropped for every store."""
        with self.changed:
            self.queued -= 1
            for account in self.accounts.values():
                account.dropped[reason] += 1
            self.changed.notify_all()

    def at_rest(self) -> bool:
        """Whether nothing waits, in memory or on disk. With the lock held."""
        return not self.queued and not any(
            each.waiting or each.spooled for each in self.accounts.values()
        )

    def stats(self, breakers: Mapping[str, str]) -> Stats:
        """All counts of one moment."""
        with self.lock:
            sinks = {
                name: SinkStats(
                    submitted=self.submitted,
                    adopted=each.adopted,
                    waiting=each.waiting + self.queued,
                    spooled=each.spooled,
                    stored=each.stored,
                    dropped=dict(each.dropped),
                )
                for name, each in self.accounts.items()
            }
            return Stats(self.submitted, sinks, breakers)
