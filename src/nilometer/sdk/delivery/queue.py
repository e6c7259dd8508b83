"""The queue between callers and the writer: bounded, and never waited for by a caller."""

from __future__ import annotations

from collections import deque
from queue import Empty, SimpleQueue

from nilometer.sdk.delivery.ledger import Ledger
from nilometer.sdk.delivery.records import Queued
from nilometer.sdk.observation import size_of

FULL, CLOSED = "queue_full", "closed"


class Bell:
    """Wakes one thread. Unlike an Event's, its `ring` may interrupt itself (a finalizer or a
    signal's handler that records)."""

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake the thread that waits, or the next that will."""
        self._rings.put(None)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for a ring; False when the time is over. Rings that came meanwhile are one."""
        try:
            self._rings.get(timeout=seconds)
        except Empty:
            return False
        while not self._rings.empty():
            self._rings.get()
        return True


class BoundedQueue:
    """At most so many observations, and so many bytes of them. Refuses the newest.

    `put` never waits for the ledger's lock: who holds it may have lost the interpreter to another
    thread, and gets it back milliseconds later. An observation that finds it taken is laid down
    outside, and `settle` lets it in.
    """

    def __init__(self, ledger: Ledger, bell: Bell, most: int, most_bytes: int) -> None:
        self._ledger = ledger
        self._lock = ledger.lock
        self._bell = bell
        self._most = most
        self._most_bytes = most_bytes
        self._items: deque[tuple[Queued, int]] = ledger.queue
        self._outside: deque[tuple[Queued, int]] = deque()
        self._bytes = 0
        self._closed = False

    def put(self, item: Queued) -> bool:
        """Take the observation, False when there is no room. Waits for nothing."""
        size = item.size
        if metadata := item.scopes.metadata:
            size += size_of(metadata)
        if not self._lock.acquire(blocking=False):
            self._outside.append((item, size))
            self._bell.ring()
            return True
        try:
            if self._outside:
                self.settle()
            count = len(self._items)
            taken = self._let_in(item, size)
        finally:
            self._lock.release()
        if not count:
            self._bell.ring()
        return taken

    def settle(self) -> None:
        """Let in, or refuse, what was laid down outside, so that all is in the ledger's counts. To
        be called with its lock held."""
        while self._outside:
            try:
                item, size = self._outside.popleft()
            except IndexError:  # a finalizer that records was here, on this thread
                return
            self._let_in(item, size)

    def _let_in(self, item: Queued, size: int) -> bool:
        ledger = self._ledger
        if self._closed:
            ledger.refuse(CLOSED)
            return False
        if len(self._items) >= self._most or self._bytes + size > self._most_bytes:
            ledger.refuse(FULL)
            return False
        self._bytes += size
        self._items.append((item, size))
        return True

    def close(self) -> None:
        """Refuse everything from now on."""
        with self._lock:
            self.settle()
            self._closed = True

    def oldest(self, most: int) -> list[Queued]:
        """The oldest observations, at most so many. They stay until they `leave`."""
        with self._lock:
            self.settle()
            # By place: a finalizer that records may add to the queue meanwhile.
            return [self._items[place][0] for place in range(min(most, len(self._items)))]

    def __len__(self) -> int:
        return len(self._items)

    def leave(self, count: int, *, dropped: int = 0, reason: str = "") -> None:
        """So many of the oldest are metrics now, and wait for the stores; or are dropped."""
        with self._lock:
            size = sum([self._items[place][1] for place in range(count)])
            self._ledger.leave(count, dropped=dropped, reason=reason)
            self._bytes -= size
