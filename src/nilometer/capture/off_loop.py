"""Work on a large text that must not hold up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
MAX_BYTES_ON_LOOP = 64 * 1024
"""A text up to this size is parsed on the loop, in at most some milliseconds; going to a thread
and back would cost a small request more."""


class OffLoop:
    """Runs work in a thread, one at a time.

    The interpreter runs one thread at a time too, but lets the loop have its turn every few
    milliseconds (but for the innermost of the JSON parser: tens of milliseconds for the worst
    megabyte). One at a time, because the loop then gets at least every second turn, and because
    what a text is parsed to can take twenty times its size.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """The result of `work`, which goes through `size` bytes. Raises what it raises."""
        if size <= MAX_BYTES_ON_LOOP:
            return work()
        async with self._turn:
            return await asyncio.to_thread(work)
