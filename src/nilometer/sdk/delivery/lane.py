"""The way to one store: batches in order, on disk or in memory, and what became of them."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from nilometer.sdk.delivery.ledger import Account, Ledger, owned_here
from nilometer.sdk.delivery.records import METRICS, Form
from nilometer.sdk.delivery.spool import Segment, Spool, SpoolFull
from nilometer.sdk.seldom import Seldom
from nilometer.sdk.sinks.port import Failed, Record

_LOG = logging.getLogger(__name__)

MAX_AT_HAND = 500
"""Metrics of the spool that are also kept in memory, so that they need not be read again."""
MAX_BYTES_AT_HAND = 16 * 1024 * 1024

NO_ROOM, UNREADABLE, AT_EXIT = "no_room", "spool_unreadable", "lost_at_exit"


@dataclass(slots=True, eq=False)
class Batch:
    """Metrics that go together: on disk, at hand, or both."""

    count: int
    metrics: Sequence[Record] | None
    size: int = 0
    segment: Segment | None = None
    attempts: int = 0


@dataclass(slots=True)
class _Held:
    """How many metrics are in memory, and how many bytes they take."""

    count: int = 0
    size: int = 0

    def take(self, batch: Batch, most: int, most_bytes: int) -> bool:
        """Count a batch that there is room for; False where there is none."""
        if self.count + batch.count > most or self.size + batch.size > most_bytes:
            return False
        self.count += batch.count
        self.size += batch.size
        return True

    def let_go(self, batch: Batch) -> None:
        """A batch of them is no longer."""
        self.count -= batch.count
        self.size -= batch.size


@dataclass(frozen=True, slots=True)
class Claim:
    """What is being sent. Of its batches nothing else is done until it is settled."""

    batches: tuple[Batch, ...]
    metrics: tuple[Record, ...]


class Lane:
    """Batches for one store. Without a spool all are in memory, `most_in_memory` of them that take
    `most_bytes`. A store that is `local` gets them from memory, and the disk has what is too much
    for that; for any other they are on disk first, and in memory where the disk refuses.

    Its own lock is held over the disk's answers: only background threads, and the end of the
    process, come here.
    """

    def __init__(
        self,
        ledger: Ledger,
        account: Account,
        spool: Spool | None,
        *,
        local: bool,
        most_in_memory: int = 20_000,
        most_bytes: int = 64 * 1024 * 1024,
        form: Form = METRICS,
        max_attempts: int = 3,
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._spool = spool
        self._local = local
        self._most_in_memory = most_in_memory
        self._most_bytes = most_bytes
        self._form = form
        self._max_attempts = max_attempts
        self._lock = threading.RLock()
        self._batches: deque[Batch] = deque()
        self._claimed: tuple[Batch, ...] = ()
        self._unread: deque[Batch] = deque()
        self._at_hand = _Held()
        self._unspooled = _Held()
        self._gone, self._unreadable = Seldom(_LOG), Seldom(_LOG)

    def put(self, metrics: Sequence[Record]) -> None:
        """Take metrics that were waiting."""
        with self._lock:
            spooled = self._place(metrics)
            with self._counting() as account:
                if spooled is not False:
                    account.waiting -= len(metrics)
                self._count_placed(account, spooled, len(metrics))

    def adopt(self) -> None:
        """Add what dead processes have left on disk."""
        if self._spool is None:
            return
        with self._lock:
            try:
                found = self._spool.adopt()
            except OSError as error:
                _LOG.warning("the spool cannot be searched: %s", error.strerror)
                return
            with self._counting() as account:
                for segment in found:
                    account.adopted += segment.count
                    account.spooled += segment.count
                    self._batches.append(Batch(segment.count, None, segment=segment))

    def count(self) -> int:
        """How many metrics could be claimed; not those that could not be read."""
        with self._lock:
            return sum(batch.count for batch in self._batches)

    def claim(self, most: int) -> Claim | None:
        """The oldest batches: one, and more up to so many metrics; None when there is nothing. One
        that cannot be read is set aside until `look_again`, and ends the claim: the disk may take
        its time to say so."""
        with self._lock:
            taken: list[Batch] = []
            metrics: list[Record] = []
            held = 0
            while self._batches and (not taken or held + self._batches[0].count <= most):
                batch = self._batches.popleft()
                found = self._metrics(batch)
                if found is None:
                    self._unread.append(batch)
                    break
                taken.append(batch)
                metrics += found
                held += batch.count
            self._claimed = tuple(taken)
            return Claim(self._claimed, tuple(metrics)) if taken else None

    @property
    def unread(self) -> int:
        """How many batches could not be read, and are set aside."""
        return len(self._unread)

    def look_again(self) -> None:
        """Let what was set aside be claimed, before all others."""
        with self._lock:
            self._batches.extendleft(reversed(self._unread))
            self._unread.clear()

    def settle(self, claim: Claim, failed: Sequence[Failed]) -> None:
        """What of a claim was not stored comes again, or is a dead letter; the rest is done."""
        again = [each.metric for each in failed if not each.permanent]
        dead = [(each.metric, each.reason) for each in failed if each.permanent]
        with self._lock:
            self._claimed = ()
            if again and len(again) == len(claim.metrics):
                self._put_back(claim)
                return
            if dead:
                self._bury(dead)
            spooled = self._place(again) if again else None
            for batch in claim.batches:  # before it counts as done: the process may end right then
                self._forget(batch)
            with self._counting() as account:
                self._count_settled(account, claim, len(again), dead)
                if again:
                    if spooled is False:
                        account.waiting += len(again)
                    self._count_placed(account, spooled, len(again))

    def persist(self) -> None:
        """Write to disk what is only in memory; what the disk refuses is lost with the process."""
        with self._lock:
            unspooled = [b for b in (*self._claimed, *self._batches) if b.segment is None]
            for batch in unspooled:
                batch.segment = self._written(batch.metrics or ())
                lost = batch.segment is None and batch not in self._claimed
                with self._counting() as account:
                    if batch.segment is not None:
                        self._unspooled.let_go(batch)
                        account.waiting -= batch.count
                        account.spooled += batch.count
                        self._keep_at_hand(batch)
                    elif lost:
                        self._unspooled.let_go(batch)
                        account.waiting -= batch.count
                        account.dropped[AT_EXIT] += batch.count
                if lost:
                    self._batches.remove(batch)

    def held_here(self) -> bool:
        """Whether this thread is in the middle of a change."""
        return owned_here(self._lock)

    def close(self) -> None:
        """Leave the spool to the next process."""
        if self._spool is not None:
            with self._lock:
                self._spool.close()

    def abandon(self) -> None:
        """Let go of the spool: in a forked child, where it is the parent's."""
        if self._spool is not None:
            self._spool.abandon()

    @contextmanager
    def _counting(self) -> Generator[Account]:
        with self._ledger.changed:
            yield self._account
            self._ledger.changed.notify_all()

    def _count_placed(self, account: Account, spooled: bool | None, count: int) -> None:
        if spooled:
            account.spooled += count
        elif spooled is None:
            account.dropped[NO_ROOM] += count

    def _count_settled(
        self,
        account: Account,
        claim: Claim,
        again: int,
        dead: Sequence[tuple[Record, str]],
    ) -> None:
        """Take a claim from where it is counted, and count what is done."""
        for batch in claim.batches:
            if batch.segment is None:
                account.waiting -= batch.count
            else:
                account.spooled -= batch.count
        held = sum(batch.count for batch in claim.batches)
        account.stored += len(claim.metrics) - again - len(dead)
        account.dropped.update(Counter(reason for _, reason in dead))
        if held > len(claim.metrics):
            account.dropped[UNREADABLE] += held - len(claim.metrics)

    def _place(self, metrics: Sequence[Record]) -> bool | None:
        """Put metrics at the end: True for on disk, False for in memory, None for no room."""
        if self._local:
            return False if self._in_memory(metrics) else (self._on_disk(metrics) or None)
        return self._on_disk(metrics) or (False if self._in_memory(metrics) else None)

    def _in_memory(self, metrics: Sequence[Record]) -> bool:
        batch = Batch(len(metrics), metrics, self._weight(metrics))
        if not self._unspooled.take(batch, self._most_in_memory, self._most_bytes):
            return False
        self._batches.append(batch)
        return True

    def _on_disk(self, metrics: Sequence[Record]) -> bool:
        last = self._batches[-1] if self._batches else None
        if last and last.segment and last.metrics is None and self._extended(last, metrics):
            return True
        segment = self._written(metrics)
        if segment is None:
            return False
        batch = Batch(len(metrics), metrics, self._weight(metrics), segment)
        self._keep_at_hand(batch)
        self._batches.append(batch)
        return True

    def _keep_at_hand(self, batch: Batch) -> None:
        """Of a batch that is on disk and is not being sent, what need not be read again."""
        if batch not in self._claimed and not self._at_hand.take(
            batch, MAX_AT_HAND, MAX_BYTES_AT_HAND
        ):
            batch.metrics = None

    def _weight(self, metrics: Sequence[Record]) -> int:
        return sum(map(self._form.weigh, metrics))

    def _written(self, metrics: Sequence[Record]) -> Segment | None:
        if self._spool is None:
            return None
        try:
            return self._spool.write(metrics)
        except (OSError, SpoolFull) as error:
            _LOG.warning("the spool takes no more: %s", error or type(error).__name__)
            return None

    def _extended(self, last: Batch, metrics: Sequence[Record]) -> bool:
        assert self._spool is not None
        assert last.segment is not None
        try:
            added = self._spool.extend(last.segment, metrics)
        except (OSError, SpoolFull):
            return False
        last.count += len(metrics) if added else 0
        return added

    def _metrics(self, batch: Batch) -> Sequence[Record] | None:
        """The metrics of a batch, none of a segment that is gone; None where the disk does not give
        them now, which may pass."""
        if batch.metrics is not None:
            if batch.segment is not None:
                self._at_hand.let_go(batch)
            return batch.metrics
        assert self._spool is not None
        assert batch.segment is not None
        try:
            return self._spool.read(batch.segment)
        except FileNotFoundError:
            self._gone.warning("a segment of the spool is gone")
            return ()
        except OSError as error:
            reason = error.strerror
            self._unreadable.warning("a segment of the spool cannot be read now: %s", reason)
            return None

    def _put_back(self, claim: Claim) -> None:
        """A claim of which nothing was stored: to the front, and after some attempts to the end, so
        that what a store cannot swallow does not stop the rest."""
        for batch in reversed(claim.batches):
            batch.attempts += 1
            if batch.segment is not None:
                batch.metrics = None
            if batch.attempts % self._max_attempts:
                self._batches.appendleft(batch)
            else:
                self._batches.append(batch)

    def _forget(self, batch: Batch) -> None:
        if batch.segment is None:
            self._unspooled.let_go(batch)
            return
        assert self._spool is not None
        try:
            self._spool.remove(batch.segment)
        except OSError as error:
            _LOG.warning("a segment of the spool cannot be removed: %s", error.strerror)

    def _bury(self, dead: Sequence[tuple[Record, str]]) -> None:
        for reason, count in Counter(reason for _, reason in dead).items():
            _LOG.warning("%d metrics were refused for good: %s", count, reason)
        if self._spool is not None:
            try:
                self._spool.bury(dead)
            except OSError as error:
                _LOG.warning("dead letters cannot be kept: %s", error.strerror)
