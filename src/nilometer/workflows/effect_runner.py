"""Runs a stage that acts on the world: begun in one transaction, performed outside of any, recorded
in another."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any, Generic

from nilometer import failpoints
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import NilometerError
from nilometer.workflows import settling
from nilometer.workflows.apart import apart
from nilometer.workflows.bisecting import Bisecting
from nilometer.workflows.claims import Claims, Sharing, everybody_alike
from nilometer.workflows.enqueueing import enqueued_in
from nilometer.workflows.located import located
from nilometer.workflows.loop import Loop
from nilometer.workflows.runner import Attempts, Running, check_survivable, failure_of
from nilometer.workflows.stage import Begun, Effect, Outcome, Performed, Postponed
from nilometer.workflows.task import Task

PLACES = 64
"""How many effects one process performs at once."""

_log = logging.getLogger(__name__)


class EffectRunner(Generic[Begun, Outcome]):
    """Claims and begins in one thread, performs in many, records in another, until `stop`.

    Of what others leave of the places one project gets half (`Sharing.places`), so that those whose
    receivers hang leave the others room. A task that is performed keeps its lease for as long as
    this process lives, also while it is being stopped.
    """

    def __init__(
        self,
        database: Database,
        effect: Effect[Begun, Outcome],
        running: Running | None = None,
        *,
        places: int = PLACES,
        weight_of: Callable[[int], int] = everybody_alike,
        before: Callable[[Sequence[Task]], None] | None = None,
    ) -> None:
        """`before` is done before each transaction that records: what takes long, and needs
        none."""
        self._database = database
        self._effect = effect
        self._before = before
        self._running = running or Running()
        self._places = places
        shared = Sharing(weight_of, places=places, keyed=True)
        self._claims = Claims(database, effect.queue, shared, lease=self._running.lease)
        self._attempts = Attempts(effect, effect.queue, self._running.policies)
        self._lock = threading.Lock()
        # Each with the end that its lease has now, and when it was begun.
        self._under_way: dict[tuple[Any, ...], tuple[Task, float]] = {}
        self._prolonging = threading.Lock()
        self._performed: deque[Performed[Begun, Outcome]] = deque()
        self._beginning = Bisecting[Task](self._begin, self._failed)
        self._recording = Bisecting[Performed[Begun, Outcome]](self._record, self._unrecorded)
        self._pool = ThreadPoolExecutor(places, thread_name_prefix=f"effect-{effect.queue}")
        interval, pace = self._running.interval, self._running.pace
        self._loop = Loop(f"stage-{effect.queue}", self.look, interval, pace=pace)
        self._recorder = Loop(f"record-{effect.queue}", self.record, interval, pace=pace)
        # Of its own: the others end before what is under way does, or wait for the database.
        tenth = self._running.lease.total_seconds() / 10
        self._keeper = Loop(f"keep-{effect.queue}", self._keep, tenth)

    @property
    def queue(self) -> str:
        """What it works on."""
        return self._effect.queue

    def start(self) -> None:
        """Begin, in threads."""
        self._keeper.start()
        self._recorder.start()
        self._loop.start()

    def stop(self) -> None:
        """Begin nothing more; end when what is under way is performed and recorded."""
        self._loop.stop()
        self._ending(lambda: self._release(self._beginning.parts))
        self._pool.shutdown()
        self._recorder.stop()
        self._ending(self._record_all)
        self._keeper.stop()

    def _ending(self, end: Callable[[], None]) -> None:
        try:
            end()
        except NilometerError as error:
            _log.warning("%s: tasks come back when their lease ends: %s", self.queue, error.detail)

    def _record_all(self) -> None:
        while self.record():
            pass

    def wake(self) -> None:
        """Look now: something was enqueued, and committed. Returns at once."""
        self._loop.wake()

    def turn(self, timeout: float) -> bool:
        """See `Loop.turn`."""
        return self._loop.turn(timeout)

    def look(self) -> bool:
        """Begin what is due, as far as there are places; whether there was any. Raises
        DatabaseUnavailable; what is in hand is then begun by the next call."""
        now = self._running.now()
        if self._beginning.parts:
            self._extend(self._beginning.parts, now)
            self._beginning.drain()
            return True
        # After a pause longer than the lease this would else claim what it has itself, as lost.
        # The claim is as of a time before: whatever pauses in between, none of it is due then.
        self._prolong()
        with self._lock:
            mine = Counter(task.project_id for task, _ in self._under_way.values())
        free = min(self._places - mine.total(), self._running.batch)
        if free <= 0 or not self._claims.due(now):
            return False
        claimed = self._claims.claim(free, now, mine)
        self._attempts.note_claim(claimed, now)
        for part in apart(claimed):
            self._beginning.add(part)
        self._beginning.drain()
        return bool(claimed)

    def record(self) -> bool:
        """Record what has been performed; whether there was any. Raises DatabaseUnavailable; what
        is in hand is then recorded by the next call."""
        batch: list[Performed[Begun, Outcome]] = []
        while self._performed and len(batch) < self._running.batch:
            batch.append(self._performed.popleft())
        self._recording.add(batch)
        self._recording.drain()
        return bool(batch)

    def _begin(self, tasks: list[Task]) -> None:
        for task in tasks:
            check_survivable(task)
        now = self._running.now()
        with self._database.concurrent(EVERY_ROW) as session:
            self._effect.lock(session, tasks)
            mine = settling.held(session, tasks)
            begun: Sequence[Begun | Postponed | None] = ()
            if mine:
                begun = self._effect.begin(session, mine, now)
            together = list(zip(mine, begun, strict=True))
            done = [task for task, each in together if each is None]
            later = [(task, each) for task, each in together if isinstance(each, Postponed)]
            settling.finish(session, done)
            settling.postpone(session, later)
        failpoints.hit("tool_begun")
        self._attempts.note("done", len(done))
        self._attempts.note("released", len(later))
        self._attempts.note("lost", len(tasks) - len(mine))
        self._running.wake(enqueued_in(session))
        started = time.perf_counter()
        for task, each in together:
            if each is not None and not isinstance(each, Postponed):
                with self._lock:
                    self._under_way[task.lease, *task.key] = task, started
                self._pool.submit(self._perform, task, each)

    def _perform(self, task: Task, begun: Begun) -> None:
        try:
            outcome = self._effect.perform(begun)
            failpoints.hit("tool_performed")
        except Exception as error:  # noqa: BLE001  (of a thread of a pool nobody would hear)
            # Nobody knows what came of it: as after a death, the next to claim it finds out.
            _log.error("task %s: its outcome is unknown: %s", task.id, located(error))
            self._forget(task)
            return
        self._performed.append(Performed(task, begun, outcome))
        self._recorder.wake()

    def _record(self, performed: list[Performed[Begun, Outcome]]) -> None:
        tasks = [each.task for each in performed]
        if self._before is not None:
            self._before(tasks)
        now = self._running.now()
        outcomes: list[str] = []
        with self._database.concurrent(EVERY_ROW) as session:
            self._effect.lock(session, tasks)
            keys = {task.key for task in settling.held(session, tasks)}
            mine = [each for each in performed if each.task.key in keys]
            failures = self._effect.record(session, mine, now) if mine else []
            done: list[Task] = []
            for each, failure in zip(mine, failures, strict=True):
                if failure is None:
                    done.append(each.task)
                else:
                    outcomes.append(self._attempts.fail(session, each.task, failure, now))
            settling.finish(session, done)
        failpoints.hit("tool_recorded")
        self._attempts.note("done", len(done))
        self._attempts.note("lost", len(performed) - len(mine))
        for outcome in outcomes:
            self._attempts.note(outcome)
        for each in performed:
            self._forget(each.task)
        self._running.wake(enqueued_in(session))
        self._loop.wake()

    def _unrecorded(self, performed: Performed[Begun, Outcome], error: Exception) -> None:
        task = performed.task
        _log.error("task %s: its outcome cannot be recorded: %s", task.id, failure_of(error).detail)
        self._forget(task)

    def _failed(self, task: Task, error: Exception) -> None:
        self._attempts.end(self._database, task, failure_of(error), self._running)

    def _forget(self, task: Task) -> None:
        """It is not under way any more."""
        with self._lock:
            _, started = self._under_way.pop((task.lease, *task.key), (task, None))
        if started is not None:
            self._attempts.note_time(time.perf_counter() - started)

    def _keep(self) -> bool:
        self._prolong()
        return False

    def _prolong(self) -> None:
        """Keep what is under way, when a third of the lease of any of it has passed. Also when all
        of it has, unless another has claimed it meanwhile. Raises DatabaseUnavailable."""
        lease = self._running.lease
        with self._prolonging:  # who comes second finds it done
            now = self._running.now()
            with self._lock:
                kept = dict(self._under_way)
            tasks = [task for task, _ in kept.values()]
            # Beyond a whole lease the clock was put back: others end such a lease (`shorten`).
            if all(now + lease * 2 / 3 < task.due_at <= now + lease for task in tasks):
                return
            self._extend(tasks, now)
            with self._lock:
                for key in kept.keys() & self._under_way.keys():
                    task, started = kept[key]
                    self._under_way[key] = replace(task, due_at=now + lease), started

    def _extend(self, tasks: Sequence[Task], now: datetime) -> None:
        with self._database.concurrent(EVERY_ROW) as session:
            settling.extend(session, tasks, now + self._running.lease)

    def _release(self, tasks: list[Task]) -> None:
        if tasks:
            with self._database.concurrent(EVERY_ROW) as session:
                settling.release(session, settling.held(session, tasks), self._running.now())
            self._attempts.note("released", len(tasks))
