"""How much the API does at once: threads for calls that block, and a gate for what is large."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from nilometer.errors import Unavailable

Result = TypeVar("Result")


class Workers:
    """A fixed number of threads, and room for so many calls to wait for one.

    A call whose client has gone still counts until it ends, so a crowd of impatient clients cannot
    pile up work.
    """

    def __init__(self, name: str, *, threads: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._room = threading.Semaphore(threads + waiting)

    async def run(self, call: Callable[[], Result]) -> Result:
        """What the call returns or raises. Raises Unavailable at once when the queue is full."""
        if not self._room.acquire(blocking=False):
            raise busy()
        try:
            future = self._executor.submit(call)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Refuse further calls and wait for those under way."""
        self._executor.shutdown(wait=True, cancel_futures=True)


class Gate:
    """Lets so many coroutines through at once, and so many wait."""

    def __init__(self, *, slots: int, waiting: int) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._room = slots + waiting

    @asynccontextmanager
    async def passed(self) -> AsyncGenerator[None]:
        """Wait for a slot and hold it. Raises Unavailable at once when too many wait."""
        if not self._room:
            raise busy()
        self._room -= 1
        try:
            async with self._slots:
                yield
        finally:
            self._room += 1


def busy() -> Unavailable:
    """What is raised when there is no room to wait."""
    return Unavailable(
        "Too many reads are waiting; try again in a second.", code="busy", retry_after=1
    )
