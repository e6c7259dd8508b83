"""Waiting with a limit, for many requests at once and at almost no cost to each.

`asyncio.timeout` arms and cancels a timer per wait, which costs more than reading a small body.
Here one timer looks after all waits, ten times a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")
TICK = 0.1
"""Seconds between two looks, and so how late a wait may end."""


class Patience:
    """Ends waits that take too long. For the tasks of one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Task[Any], float] = {}
        self._over: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, action: Callable[[], Awaitable[T]], until: float) -> T:
        """The result of `action`; TimeoutError soon after `until`, by the loop's clock."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can wait with patience")
        self._waiting[task] = until
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._look)
        try:
            return await action()
        except asyncio.CancelledError:
            if task in self._over and task.uncancel() == 0:
                raise TimeoutError from None
            raise  # somebody else wants the task to end
        finally:
            del self._waiting[task]
            self._over.discard(task)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for task, until in self._waiting.items():
            if until <= now and task not in self._over:
                self._over.add(task)
                task.cancel()
        self._timer = loop.call_later(TICK, self._look) if self._waiting else None
