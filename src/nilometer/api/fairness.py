"""Places shared out among projects, so that what one of them asks keeps no other waiting."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from nilometer.api.workers import busy
from nilometer.errors import Unavailable

Result = TypeVar("Result")


class OwnShareTaken(Unavailable):
    """The project's own requests take all that it may have; others are served meanwhile."""

    code = "throttled"


@dataclass(frozen=True, slots=True)
class Shares:
    """How many may be inside at once and how many may wait, all together and of one project, and
    how many seconds at most."""

    places: int
    places_each: int
    waiting: int
    waiting_each: int
    seconds: float


class FairGate:
    """Lets coroutines through within their project's share. Of one event loop.

    A place that becomes free goes to the projects that wait in rotation, and within a project to
    the one that waited longest.
    """

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._inside = Counter[int]()
        self._queues: dict[int, deque[asyncio.Future[None]]] = {}  # the next project is the first

    async def enter(self, project_id: int) -> None:
        """Wait for a place and take it; `leave` gives it back.

        Raises OwnShareTaken or Unavailable: at once when too many wait, and after the time limit.
        """
        if self._is_open(project_id):
            self._inside[project_id] += 1
            return
        queue = self._queue(project_id)
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            async with asyncio.timeout(self._shares.seconds):
                await turn
        except BaseException as error:
            self._give_up(project_id, turn)
            if isinstance(error, TimeoutError):
                raise self._refusal(project_id) from None
            raise

    def leave(self, project_id: int) -> None:
        """Give a place back, and let in whose turn it is."""
        self._inside[project_id] -= 1
        if not self._inside[project_id]:
            del self._inside[project_id]
        self._admit()

    @asynccontextmanager
    async def passed(self, project_id: int) -> AsyncGenerator[None]:
        """Hold a place for the length of the block. Raises as `enter` does."""
        await self.enter(project_id)
        try:
            yield
        finally:
            self.leave(project_id)

    def _is_open(self, project_id: int) -> bool:
        return (
            self._inside.total() < self._shares.places
            and self._inside[project_id] < self._shares.places_each
        )

    def _queue(self, project_id: int) -> deque[asyncio.Future[None]]:
        """The project's queue. Raises when it, or all together, have no more room."""
        queue = self._queues.get(project_id, deque())
        if len(queue) >= self._shares.waiting_each:
            raise self._own_share_taken()
        if sum(map(len, self._queues.values())) >= self._shares.waiting:
            raise busy()
        return self._queues.setdefault(project_id, queue)

    def _admit(self) -> None:
        while (project_id := next(filter(self._is_open, self._queues), None)) is not None:
            queue = self._queues.pop(project_id)
            turn = queue.popleft()
            if queue:
                self._queues[project_id] = queue
            if not turn.done():  # done: cancelled, and about to give up
                self._inside[project_id] += 1
                turn.set_result(None)

    def _give_up(self, project_id: int, turn: asyncio.Future[None]) -> None:
        if not turn.cancelled():  # its turn had come
            self.leave(project_id)
            return
        queue = self._queues.get(project_id, deque())
        if turn in queue:
            queue.remove(turn)
            if not queue:
                del self._queues[project_id]

    def _refusal(self, project_id: int) -> Unavailable:
        own = self._inside[project_id] >= self._shares.places_each
        return self._own_share_taken() if own else busy()

    def _own_share_taken(self) -> OwnShareTaken:
        return OwnShareTaken(
            "Too many requests of this kind are running or waiting for this project; try again in "
            "5 seconds."
        )


class FairWorkers:
    """As many threads as the shares have places, for calls that block.

    A call whose client has gone while it waited is not made; one that was under way keeps its place
    until it ends.
    """

    def __init__(self, name: str, shares: Shares) -> None:
        self._gate = FairGate(shares)
        self._executor = ThreadPoolExecutor(shares.places, thread_name_prefix=name)

    async def run(self, project_id: int, call: Callable[[], Result]) -> Result:
        """What the call returns or raises. Raises as `FairGate.enter` does."""
        await self._gate.enter(project_id)
        try:
            future = self._executor.submit(call)
        except BaseException:
            self._gate.leave(project_id)
            raise
        loop = asyncio.get_running_loop()

        def leave(_: Future[Result]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and who waited with it
                loop.call_soon_threadsafe(self._gate.leave, project_id)

        future.add_done_callback(leave)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Refuse further calls and wait for those under way."""
        self._executor.shutdown(wait=True, cancel_futures=True)
