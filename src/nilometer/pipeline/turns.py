"""Lets another thread wait for the end of the batch that is under way."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

from nilometer.errors import Unavailable


class Turns:
    """Counts the batches of one thread. Whoever waits is never starved by batches that follow."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ended = 0
        self._under_way = False

    @contextmanager
    def turn(self) -> Generator[None]:
        """One batch."""
        with self._changed:
            self._under_way = True
        try:
            yield
        finally:
            with self._changed:
                self._under_way = False
                self._ended += 1
                self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until the batch now under way, if any, has ended. Raises Unavailable when it takes
        longer."""
        with self._changed:
            if not self._under_way:
                return
            before = self._ended
            if not self._changed.wait_for(lambda: self._ended > before, seconds):
                raise Unavailable("a batch of the pipeline takes long; wait for its end")
