"""Group commit of what is raised: many requests wait, one thread writes, one commit answers them.

Whatever was asked while a commit ran goes into the next one, a request of each project in turn, so
that a project that floods delays another by one request and not by its whole queue. A request that
cannot be accepted fails alone. Nothing is answered before the commit that has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from nilometer import failpoints
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.errors import NilometerError, Unavailable
from nilometer.incidents.backlog import Backlog, BacklogFull
from nilometer.incidents.incident import Accepted, Actor, NewException
from nilometer.workflows.enqueueing import enqueued_in
from nilometer.workflows.located import located

logger = logging.getLogger(__name__)

MAX_COMMIT = 500
"""Exceptions of one commit, unless one request has more: it bounds how long a commit takes."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_WAITING_BYTES_EACH = 16 * 1024 * 1024
"""Of the requests that wait, as they were sent: all together, and of one project."""

# What a request weighs besides its bytes.
_OVERHEAD = 1024
_CLOSED = "the server is stopping"


@dataclass(frozen=True, slots=True)
class Raise:
    """What one request asks to be raised, all or nothing. `size` is its bytes as it was sent."""

    project_id: int
    exceptions: Sequence[NewException] = field(repr=False)
    actor: Actor
    idempotency_key: str | None
    traceparent: str | None
    size: int


Outcome = list[Accepted] | NilometerError
Accept = Callable[[Session, Sequence[Raise], datetime], Sequence[Outcome]]
"""Accepts requests within a transaction, and says what came of each. What it raises undoes all."""


class _Waiting:
    """A request in the queue and who waits for it."""

    __slots__ = ("asked", "future", "loop", "weight")

    def __init__(self, asked: Raise, loop: asyncio.AbstractEventLoop) -> None:
        self.asked = asked
        self.weight = asked.size + _OVERHEAD * len(asked.exceptions)
        self.loop = loop
        self.future: asyncio.Future[list[Accepted]] = loop.create_future()


class Raising:
    """The queue and the thread that empties it. `wake` is called after each commit,
    with the queues that it added to."""

    def __init__(
        self,
        database: Database,
        accept: Accept,
        backlog: Backlog,
        *,
        wake: Callable[[Collection[str]], None],
    ) -> None:
        self._database = database
        self._accept = accept
        self._backlog = backlog
        self._wake = wake
        self._changed = threading.Condition(threading.Lock())
        self._queues: dict[int, deque[_Waiting]] = {}  # the next project is the first
        self._weights = Counter[int]()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="incident-intake", daemon=True)
        self._thread.start()

    async def accepted(self, asked: Raise) -> list[Accepted]:
        """Raise, and return once it is durable: an id for each exception, in their order.

        Raises BacklogFull when the project has too much waiting, Unavailable when everybody has
        or the database does not answer, and what makes the request impossible.
        """
        self._backlog.check(asked.project_id, clock.now())
        waiting = _Waiting(asked, asyncio.get_running_loop())
        self._submit(waiting)
        return await waiting.future

    def close(self) -> None:
        """Write what is queued, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _submit(self, waiting: _Waiting) -> None:
        project_id = waiting.asked.project_id
        with self._changed:
            if self._closed:
                raise Unavailable(_CLOSED)
            if self._weights[project_id] + waiting.weight > MAX_WAITING_BYTES_EACH:
                raise BacklogFull(
                    "Too many of this project's exceptions wait to be accepted.", retry_after=1
                )
            if self._weights.total() + waiting.weight > MAX_WAITING_BYTES:
                raise Unavailable(
                    "Too many exceptions wait to be accepted; try again in a second.",
                    code="busy",
                    retry_after=1,
                )
            self._weights[project_id] += waiting.weight
            self._queues.setdefault(project_id, deque()).append(waiting)
            self._changed.notify()

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            self._write(batch)

    def _take(self) -> list[_Waiting] | None:
        """The next batch, of each project in turn; None when closed and drained."""
        with self._changed:
            while not self._queues:
                if self._closed:
                    return None
                self._changed.wait()
            batch: list[_Waiting] = []
            count = 0
            while self._queues and count < MAX_COMMIT:
                batch.append(self._next())
                count += len(batch[-1].asked.exceptions)
            return batch

    def _next(self) -> _Waiting:
        project_id = next(iter(self._queues))
        queue = self._queues.pop(project_id)
        waiting = queue.popleft()
        if queue:
            self._queues[project_id] = queue
        self._weights[project_id] -= waiting.weight
        if not self._weights[project_id]:
            del self._weights[project_id]
        return waiting

    def _write(self, batch: Sequence[_Waiting]) -> None:
        wanted = [each for each in batch if not each.future.cancelled()]
        if not wanted:
            return
        try:
            outcomes = self._commit([each.asked for each in wanted])
        except NilometerError as error:
            outcomes = [error] * len(wanted)
        except Exception as error:  # noqa: BLE001  (the thread goes on; who waits is told)
            logger.error("exceptions could not be accepted: %s", located(error))  # noqa: TRY400
            if len(wanted) > 1:
                # One of them did this: each is tried alone.
                for each in wanted:
                    self._write([each])
                return
            outcomes = [Unavailable("The exception could not be accepted.", code="failed")]
        _answer(list(zip(wanted, outcomes, strict=True)))

    def _commit(self, asked: Sequence[Raise]) -> Sequence[Outcome]:
        now = clock.now()
        with self._database.concurrent(EVERY_ROW) as session:
            full = self._backlog.full(session, {each.project_id for each in asked}, now)
            admitted = [each for each in asked if each.project_id not in full]
            outcomes = iter(self._accept(session, admitted, now) if admitted else ())
        failpoints.hit("incident_accepted")
        self._wake(enqueued_in(session))
        results = [
            full[each.project_id] if each.project_id in full else next(outcomes) for each in asked
        ]
        for each, outcome in zip(asked, results, strict=True):
            if isinstance(outcome, list):
                self._backlog.add(each.project_id, len(outcome))
        return results


def _answer(outcomes: Sequence[tuple[_Waiting, Outcome]]) -> None:
    """Tell each who waits; one wake-up of a loop for all of its requests."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Outcome]]] = {}
    for waiting, outcome in outcomes:
        by_loop.setdefault(waiting.loop, []).append((waiting, outcome))
    for loop, of_loop in by_loop.items():
        with contextlib.suppress(RuntimeError):  # a closed loop has nobody left to tell
            loop.call_soon_threadsafe(_tell, of_loop)


def _tell(outcomes: Sequence[tuple[_Waiting, Outcome]]) -> None:
    for waiting, outcome in outcomes:
        if waiting.future.done():  # whoever asked has gone
            continue
        if isinstance(outcome, list):
            waiting.future.set_result(outcome)
        else:
            # One each: a traceback belongs to its raiser.
            waiting.future.set_exception(copy.copy(outcome))
