"""What a transaction adds to the queues and takes from them: tasks, whole lanes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, bindparam, func, literal, select
from sqlalchemy.orm import Session

from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import NewTask, TaskState

_TASKS = cast("Table", TaskRow.__table__)
_INSERT = _TASKS.insert()
_CANCEL = _TASKS.delete().where(
    _TASKS.c.project_id == bindparam("in_project"),
    _TASKS.c.lane == bindparam("in_lane"),
    _TASKS.c.state != TaskState.DISCARDED,
)
_QUEUES = "workflow queues"


def enqueue(session: Session, tasks: Sequence[NewTask], now: datetime) -> None:
    """Keep these tasks, in the caller's transaction: they are done once it is committed.

    Raises IntegrityError for a sequence that its lane has already.
    """
    if tasks:
        session.execute(_INSERT, [_row(task, now) for task in tasks])
        enqueued_in(session).update(task.queue for task in tasks)


def enqueued_in(session: Session) -> set[str]:
    """The queues that this session has enqueued to, for who wakes their stages after the commit."""
    return cast("set[str]", session.info.setdefault(_QUEUES, set[str]()))


def cancel(session: Session, lanes: Collection[tuple[int, str]]) -> None:
    """Drop every task of these lanes (project id and lane), whatever state it is in; who works on
    one finds its lease gone, and its result is dropped."""
    if lanes:
        session.execute(
            _CANCEL, [{"in_project": project, "in_lane": lane} for project, lane in lanes]
        )


def count_waiting(session: Session, project_id: int, most: int) -> int:
    """How many tasks of a project are not done, dead letters among them; counted up to `most`."""
    waiting = (
        select(literal(1))
        .where(_TASKS.c.project_id == project_id, _TASKS.c.state != TaskState.DISCARDED)
        .limit(most)
        .subquery()
    )
    return session.scalar(select(func.count()).select_from(waiting)) or 0


def _row(task: NewTask, now: datetime) -> dict[str, Any]:
    return {
        "project_id": task.project_id,
        "lane": task.lane,
        "sequence": task.sequence,
        "queue": task.queue,
        "kind": task.kind,
        "payload": task.payload,
        "state": TaskState.READY,
        "due_at": task.due_at or now,
        "attempts": 0,
        "losses": 0,
        "limit_key": task.limit_key,
        "key_limit": task.limit,
        "causation_id": task.causation_id,
        "trace_context": task.trace_context,
        "created_at": now,
    }
