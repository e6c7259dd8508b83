"""A pool of handles, each used by one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Generic, TypeVar

Handle = TypeVar("Handle")


class Pool(Generic[Handle]):
    """Handles made on demand and lent to one thread at a time.

    chDB wants one handle a thread. Threads of a web server come and go, so handles are lent rather
    than kept per thread; the last one returned is lent first, and more than `keep` idle ones are
    closed.
    """

    def __init__(
        self, make: Callable[[], Handle], close: Callable[[Handle], None], *, keep: int
    ) -> None:
        self._make = make
        self._close = close
        self._keep = keep
        self._idle: list[Handle] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def lend(self) -> Generator[Handle]:
        """A handle for the length of the block, thrown away when the block raises: the state that
        an error leaves in a handle is not known."""
        with self._lock:
            handle = self._idle.pop() if self._idle else None
        if handle is None:
            handle = self._make()
        try:
            yield handle
        except BaseException:
            self._close(handle)
            raise
        self._give_back(handle)

    def close(self) -> None:
        """Close the idle handles now, and the lent ones when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for handle in idle:
            self._close(handle)

    def _give_back(self, handle: Handle) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < self._keep:
                self._idle.append(handle)
                return
        self._close(handle)
