"""Runs a stage that works in the database alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from nilometer import failpoints
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import NilometerError
from nilometer.workflows import settling
from nilometer.workflows.apart import apart
from nilometer.workflows.bisecting import Bisecting
from nilometer.workflows.candidates import Kinds
from nilometer.workflows.claims import Claims, Sharing
from nilometer.workflows.enqueueing import enqueued_in
from nilometer.workflows.loop import Loop
from nilometer.workflows.runner import Attempts, Running, check_survivable, failure_of
from nilometer.workflows.stage import Stage
from nilometer.workflows.task import Task

BATCH_SECONDS = 0.03
LEAST = 32
"""Of a smaller batch the commit would be most, on a slow disk."""

_log = logging.getLogger(__name__)


class StageRunner:
    """Claims, works and settles, in a thread of its own, until `stop`. Any number of processes may
    run the same stage.

    What it promises: each task's work takes effect once, with the end of the task, in one
    transaction; or the task is a dead letter.
    """

    def __init__(
        self,
        database: Database,
        stage: Stage,
        running: Running | None = None,
        sharing: Sharing | None = None,
        *,
        kinds: Kinds = None,
        before: Callable[[Sequence[Task]], None] | None = None,
    ) -> None:
        """`kinds` are those of the tasks that this release's stage knows; None for any. `before` is
        done before each transaction: what takes long, and needs none."""
        self._database = database
        self._stage = stage
        self._before = before
        self._running = running or Running()
        lease = self._running.lease
        self._claims = Claims(database, stage.queue, sharing, lease=lease, kinds=kinds)
        self._attempts = Attempts(stage, stage.queue, self._running.policies)
        self._in_hand = Bisecting[Task](self._work, self._failed)
        self._size = min(LEAST, self._running.batch)
        self._busy = 0.0
        interval, pace = self._running.interval, self._running.pace
        self._loop = Loop(f"stage-{stage.queue}", self.look, interval, pace=pace)

    @property
    def queue(self) -> str:
        """What it works on."""
        return self._stage.queue

    def start(self) -> None:
        """Begin, in a thread."""
        self._loop.start()

    def stop(self) -> None:
        """End after the batch under way, and wait for it. What could not be done goes back."""
        self._loop.stop()
        try:
            self._release(self._in_hand.parts)
        except NilometerError as error:
            _log.warning("%s: tasks come back when their lease ends: %s", self.queue, error.detail)

    def wake(self) -> None:
        """Look now: something was enqueued, and committed. Returns at once."""
        self._loop.wake()

    def turn(self, timeout: float) -> bool:
        """See `Loop.turn`."""
        return self._loop.turn(timeout)

    def look(self) -> bool:
        """Do a batch of what is due, in this thread; whether there was any. Raises
        DatabaseUnavailable; what is in hand is then done by the next call."""
        if self._in_hand.parts:
            self._in_hand.drain()
            return True
        now = self._running.now()
        if not self._claims.due(now):
            return False
        claimed = self._claims.claim(self._size, now)
        self._attempts.note_claim(claimed, now)
        started, self._busy = time.perf_counter(), 0.0
        for part in apart(claimed):
            self._in_hand.add(part)
        self._in_hand.drain()
        if claimed:
            self._attempts.note_time(time.perf_counter() - started)
            self._size = self._fitting(len(claimed), self._busy)
        return bool(claimed)

    def _fitting(self, done: int, took: float) -> int:
        """How many tasks the next claim may have, so that a batch takes about `BATCH_SECONDS`:
        whoever comes meanwhile waits for its end, and so does every other writer of SQLite. What
        it waited for them itself does not count, or all would make each other smaller."""
        if took > BATCH_SECONDS:
            return min(self._running.batch, max(LEAST, min(self._size, done) // 2))
        if took < BATCH_SECONDS / 2 and done == self._size:
            return min(self._running.batch, self._size * 2)
        return self._size

    def _work(self, tasks: list[Task]) -> None:
        """The transaction that does tasks and ends them."""
        for task in tasks:
            check_survivable(task)
        if self._before is not None:
            self._before(tasks)
        now = self._running.now()
        with self._database.concurrent(EVERY_ROW) as session:
            began = time.perf_counter()
            self._stage.lock(session, tasks)
            mine = settling.held(session, tasks)
            if mine:
                self._stage.work(session, mine, now)
                settling.finish(session, mine)
            failpoints.hit("stage_worked")
        self._busy += time.perf_counter() - began
        failpoints.hit("stage_settled")
        self._attempts.note("done", len(mine))
        self._attempts.note("lost", len(tasks) - len(mine))
        self._running.wake(enqueued_in(session))

    def _failed(self, task: Task, error: Exception) -> None:
        self._attempts.end(self._database, task, failure_of(error), self._running)

    def _release(self, tasks: list[Task]) -> None:
        if tasks:
            with self._database.concurrent(EVERY_ROW) as session:
                settling.release(session, settling.held(session, tasks), self._running.now())
            self._attempts.note("released", len(tasks))
