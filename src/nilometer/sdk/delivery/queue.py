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
    """At most so many observations, and so many bytes of them. Refuses the newest."""

    def __init__(self, ledger: Ledger, bell: Bell, most: int, most_bytes: int) -> None:
        self._ledger = ledger
        self._lock = ledger.lock
        self._bell = bell
        self._most = most
        self._most_bytes = most_bytes
        self._items: deque[tuple[Queued, int]] = deque()
        self._bytes = 0
        self._closed = False

    def put(self, item: Queued) -> bool:
        """Take the observation, False when there is no room. Waits for nothing."""
        size = item.size
        if metadata := item.scopes.metadata:
            size += size_of(metadata)
        ledger = self._ledger
        with self._lock:
            count = len(self._items)
            if self._closed:
                ledger.refuse(CLOSED)
                return False
            if count >= self._most or self._bytes + size > self._most_bytes:
                ledger.refuse(FULL)
                return False
            self._items.append((item, size))
            self._bytes += size
            ledger.submitted += 1
            ledger.queued += 1
        if not count:
            self._bell.ring()
        return True

    def close(self) -> None:
        """Refuse everything from now on."""
        with self._lock:
            self._closed = True

    def take(self, most: int) -> list[Queued]:
        """The oldest observations, at most so many. They count as waiting until the ledger hears
        what became of them."""
        with self._lock:
            taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            self._bytes -= sum(size for _, size in taken)
        return [item for item, _ in taken]

    def __len__(self) -> int:
        return len(self._items)
