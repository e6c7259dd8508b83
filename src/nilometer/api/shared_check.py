"""One check of a part at a time, its result shared by everyone who asks meanwhile.

Readiness is asked without a key and by many: what a check costs must not grow with them, and a part
that hangs must hold one thread and not one for each time it was asked.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable

from nilometer.errors import NilometerError

# Returns when the part works; raises NilometerError when it does not.
Check = Callable[[], Awaitable[None]]

OK = "ok"

logger = logging.getLogger(__name__)


class SharedCheck:
    """A check that is never run twice at once. Used on one event loop.

    `fresh` is for how many seconds a result is given again, and `timeout` how long a check may
    take before the part counts as down. One that takes longer goes on, and is not started again
    before it has ended.
    """

    def __init__(self, check: Check, *, timeout: float, fresh: float) -> None:
        self._check = check
        self._timeout = timeout
        self._fresh = fresh
        self._begun = 0.0
        self._ended = 0.0
        self._running: asyncio.Task[str] | None = None

    async def result(self) -> str:
        """`ok`, or what is wrong, in a sentence for the operator."""
        loop = asyncio.get_running_loop()
        task = self._running
        if task is None or (task.done() and loop.time() - self._ended >= self._fresh):
            self._begun = loop.time()
            task = self._running = asyncio.create_task(self._run())
        left = self._begun + self._timeout - loop.time()
        # `wait` leaves the task alone when the time is over or the asker goes away.
        await asyncio.wait([task], timeout=max(left, 0))
        return task.result() if task.done() else f"no answer within {self._timeout:g} s"

    async def _run(self) -> str:
        try:
            await self._check()
        except NilometerError as error:
            return error.detail
        except Exception as error:  # noqa: BLE001  (told to the operator as a part that is down)
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("a check failed: %s\n%s", type(error).__name__, frames)  # noqa: TRY400
            return f"the check failed: {type(error).__name__}"
        finally:
            self._ended = asyncio.get_running_loop().time()
        return OK
