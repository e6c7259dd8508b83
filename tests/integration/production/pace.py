"""No two requests closer together than the delay, whatever they go to."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Shared by the clients of one run."""

    def __init__(
        self,
        delay: float,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._delay = delay
        self._clock = clock
        self._pause = pause
        self._next = clock()

    def wait(self) -> None:
        """Return when the next request may leave."""
        early = self._next - self._clock()
        if early > 0:
            self._pause(early)
        self._next = self._clock() + self._delay
