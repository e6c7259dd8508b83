"""A queue at a time that a test moves, and stages that do what a test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.workflows import settling
from nilometer.workflows.claims import Claims, Sharing
from nilometer.workflows.enqueueing import enqueue
from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import Failure, NewTask, Task, TaskState

LEASE = timedelta(seconds=30)
MANY = 1000


@dataclass
class Queue:
    """The queue "work" over a database."""

    database: Database
    now: datetime = field(default_factory=clock.now)

    def add(self, lane: str = "lane", sequence: int = 1, project: int = 1, **more: Any) -> NewTask:
        queue, kind = more.pop("queue", "work"), more.pop("kind", "kind")
        task = NewTask(project, queue, lane, sequence, kind, **more)
        with self.database.concurrent(EVERY_ROW) as session:
            enqueue(session, [task], self.now)
        return task

    def add_lanes(self, count: int, project: int = 1, **more: Any) -> None:
        """Tasks of so many lanes."""
        tasks = [
            NewTask(project, "work", f"lane-{number:05}", 1, "kind", **more)
            for number in range(count)
        ]
        with self.database.concurrent(EVERY_ROW) as session:
            enqueue(session, tasks, self.now)

    def claims(self, **sharing: Any) -> Claims:
        """Those of one worker."""
        return Claims(self.database, "work", Sharing(**sharing), lease=LEASE)

    def claim(self, places: int = MANY, **sharing: Any) -> list[Task]:
        """By a worker that claims for the first time."""
        return self.claims(**sharing).claim(places, self.now)

    def finish(self, tasks: Sequence[Task]) -> list[Task]:
        """What of them was still its worker's, and is done now."""
        with self.database.concurrent(EVERY_ROW) as session:
            mine = settling.held(session, tasks)
            settling.finish(session, mine)
            return mine

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)

    def rows(self) -> list[TaskRow]:
        with self.database.read(EVERY_ROW) as session:
            query = select(TaskRow).order_by(TaskRow.project_id, TaskRow.lane, TaskRow.sequence)
            return list(session.scalars(query))

    def count(self) -> int:
        with self.database.read(EVERY_ROW) as session:
            return session.scalar(select(func.count()).select_from(TaskRow)) or 0

    def only(self) -> TaskRow:
        [row] = self.rows()
        return row


def lanes(tasks: Sequence[Task]) -> list[str]:
    return [task.lane for task in tasks]


class Recording:
    """A stage that notes what it was given, does `act`, and remembers what it was told."""

    def __init__(
        self,
        act: Callable[[Session, Task], None] = lambda _, __: None,
        queue: str = "work",
    ) -> None:
        self.queue = queue
        self.act = act
        self.batches: list[list[str]] = []
        self.told: list[tuple[str, str, int]] = []

    def lock(self, session: Session, tasks: Sequence[Task]) -> None: ...

    def work(self, session: Session, tasks: Sequence[Task], now: datetime) -> None:
        self.batches.append([task.id for task in tasks])
        for task in tasks:
            self.act(session, task)

    def retried(
        self, session: Session, task: Task, failure: Failure, due_at: datetime, now: datetime
    ) -> None:
        self.told.append(("retried", failure.code, task.attempts))

    def died(self, session: Session, task: Task, failure: Failure, now: datetime) -> None:
        self.told.append(("died", failure.code, task.attempts))


def states(queue: Queue) -> dict[str, TaskState]:
    return {f"{row.lane}.{row.sequence}": row.state for row in queue.rows()}
