"""When to try a store again: soon at first, then seldom, and with one batch only.

Its own, because the libraries that retry (backoff, tenacity, stamina) hold a call and repeat it.
Here nothing is held: what failed is in a lane, the sender waits on what also wakes it for a flush
or the end of the process, and a store may say itself when it wants to be asked again.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"


class CircuitBreaker:
    """Closed: every batch may go, after a jittered delay that doubles with each failure. Open,
    after `threshold` failures in a row: none may, for `timeout` seconds. Then one probe may, and
    its outcome decides. Times are seconds. Safe between threads."""

    def __init__(
        self,
        *,
        threshold: int = 5,
        timeout: float = 30.0,
        base: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._threshold = threshold
        self._timeout = timeout
        self._base = base
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.RLock()
        self._failures = 0
        self._not_before = 0.0
        self._probing = False

    @property
    def state(self) -> str:
        """`closed`, `open` or `half_open`."""
        with self._lock:
            if self._failures < self._threshold:
                return CLOSED
            return HALF_OPEN if self._probing or self._due() else OPEN

    @property
    def failures(self) -> int:
        """How many there were in a row."""
        return self._failures

    def delay(self) -> float:
        """How many seconds until a batch may go; 0 for now."""
        with self._lock:
            return max(0.0, self._not_before - self._clock())

    def allow(self) -> bool:
        """Whether a batch may go now. Who is allowed says then how it went."""
        with self._lock:
            if not self._due() or self._probing:
                return False
            self._probing = self._failures >= self._threshold
            return True

    def passed_over(self) -> None:
        """Who was allowed had nothing to send."""
        with self._lock:
            self._probing = False

    def succeeded(self) -> None:
        """The store answered."""
        with self._lock:
            self._failures = 0
            self._not_before = 0.0
            self._probing = False

    def failed(self, retry_after: float = 0.0) -> None:
        """The store did not, or wants to be asked again after so many seconds."""
        with self._lock:
            self._failures += 1
            self._probing = False
            delay = min(self._timeout, self._base * 2.0 ** min(self._failures - 1, 30))
            delay *= 0.5 + self._jitter() / 2
            if self._failures >= self._threshold:
                delay = self._timeout * (1 + self._jitter() / 4)
            self._not_before = self._clock() + max(delay, retry_after)

    def hurry(self) -> None:
        """Someone waits: the next batch, or probe, may go at once."""
        with self._lock:
            self._not_before = 0.0

    def alike(self) -> CircuitBreaker:
        """Another one of the same limits, closed."""
        return CircuitBreaker(
            threshold=self._threshold,
            timeout=self._timeout,
            base=self._base,
            clock=self._clock,
            jitter=self._jitter,
        )

    def _due(self) -> bool:
        return self._clock() >= self._not_before
