"""What the runners of stages and of effects share: how they work, and how attempts end."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.errors import NilometerError, Unavailable
from nilometer.observability import metrics
from nilometer.workflows import settling
from nilometer.workflows.claims import LEASE
from nilometer.workflows.enqueueing import enqueued_in
from nilometer.workflows.located import located
from nilometer.workflows.retries import RetryPolicies
from nilometer.workflows.stage import Failures
from nilometer.workflows.task import ErrorClass, Failure, Task, TaskFailed

MOST_LOSSES = 5
"""How often workers may be heard of no more with a task before it is given up: it may be what kills
them."""

PACE = 0.02
"""Seconds between two claims under load. Each costs two commits, whether it has one task or many:
what comes meanwhile is taken together."""

_log = logging.getLogger(__name__)


def wake_nobody(_: Collection[str]) -> None:
    """For who has no other stage to wake: they look by themselves."""


@dataclass(frozen=True, slots=True)
class Running:
    """How a runner works.

    - `batch`: tasks of one claim, at most; fewer where that takes long. `lease`: for how long a
      claim holds without a word.
    - `interval`: seconds between two looks when nobody wakes it: for tasks whose time has come, and
      for what a lost message left.
    - `pace`: seconds that lie between two looks at least, while there is something to do.
    - `wake` is told the queues that a transaction has added to, once it is committed.
    """

    policies: RetryPolicies = field(default_factory=RetryPolicies)
    batch: int = 128
    lease: timedelta = LEASE
    interval: float = 0.5
    pace: float = PACE
    wake: Callable[[Collection[str]], None] = wake_nobody
    now: Callable[[], datetime] = clock.now


class Attempts:
    """How attempts at tasks of one queue end, and how that is counted."""

    def __init__(self, hooks: Failures, queue: str, policies: RetryPolicies) -> None:
        self._hooks = hooks
        self._policies = policies
        self._claimed = metrics.TASKS_CLAIMED.labels(queue)
        self._waited = metrics.TASK_WAIT_SECONDS.labels(queue)
        self._took = metrics.TASK_SECONDS.labels(queue)
        self._settled = {
            outcome: metrics.TASKS_SETTLED.labels(queue, outcome)
            for outcome in ("done", "retried", "dead", "released", "lost")
        }

    def note_claim(self, tasks: Sequence[Task], now: datetime) -> None:
        """Count what was claimed."""
        self._claimed.inc(len(tasks))
        for task in tasks:
            if task.attempts == 1 and not task.losses:
                self._waited.observe(max(0, (now - task.created_at).total_seconds()))

    def note(self, outcome: str, count: int = 1) -> None:
        """Count what was settled."""
        self._settled[outcome].inc(count)

    def note_time(self, seconds: float) -> None:
        """How long a batch took."""
        self._took.observe(seconds)

    def end(self, database: Database, task: Task, failure: Failure, running: Running) -> None:
        """End an attempt that failed, in a transaction of its own.

        A hook that cannot write what it should must not keep the task from its end for ever: after
        as many attempts as a task may lose workers, it is given up without.
        """
        now = running.now()
        try:
            with database.concurrent(EVERY_ROW) as session:
                outcome = "lost"
                self._hooks.lock(session, [task])
                if settling.held(session, [task]):
                    outcome = self.fail(session, task, failure, now)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001  (whatever a hook raises)
            if task.losses <= MOST_LOSSES:
                _log.error("task %s: its failure cannot be kept: %s", task.id, located(error))
                return
            with database.concurrent(EVERY_ROW) as session:
                if settling.held(session, [task]):
                    settling.bury(session, task, failure, now)
            outcome = "dead"
        self.note(outcome)
        running.wake(enqueued_in(session))

    def fail(self, session: Session, task: Task, failure: Failure, now: datetime) -> str:
        """End an attempt that failed, as its policy says; the name of the outcome."""
        chance = random.random()  # noqa: S311
        policy = self._policies.of(task.kind)
        due_at = policy.next_attempt(task.attempts, failure, now, chance)
        if due_at is None:
            self._hooks.died(session, task, failure, now)
            settling.bury(session, task, failure, now)
            return "dead"
        self._hooks.retried(session, task, failure, due_at, now)
        settling.retry(session, task, failure, due_at)
        return "retried"


def check_survivable(task: Task) -> None:
    """Raises TaskFailed for a task that too many workers died with."""
    if task.losses > MOST_LOSSES:
        detail = (
            f"{task.losses} workers had this task and were heard of no more: it may be what ends "
            "them. Replay it when that is mended."
        )
        raise TaskFailed(Failure("workers_died", detail, ErrorClass.PERMANENT))


def failure_of(error: Exception) -> Failure:
    """What an error says of the task that raised it."""
    if isinstance(error, TaskFailed):
        return error.failure
    if isinstance(error, NilometerError):
        return Failure(error.code, error.detail)
    # Its text may hold what it was working on.
    return Failure("defect", f"The stage failed ({located(error)}).")
