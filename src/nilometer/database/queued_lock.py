"""A lock that is handed to whoever has waited for longest.

`threading.Lock` goes to whoever asks first after it was released, and that is mostly the thread
that released it and asks again: others can wait for seconds beside a thread that is busy.
"""

from __future__ import annotations

import threading
from collections import deque


class QueuedLock:
    """Held by one thread at a time, in the order of asking. Not reentrant."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    def acquire(self, timeout: float) -> bool:
        """Take it, waiting so many seconds at most; whether it is this thread's now."""
        with self._guard:
            if not self._held:
                self._held = True
                return True
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        if turn.acquire(timeout=timeout):
            return True
        with self._guard:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return False
        return True  # it was handed over as the time ended

    def release(self) -> None:
        """Hand it to the next, or leave it to whoever asks."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False
