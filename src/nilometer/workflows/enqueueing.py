"""What a transaction adds to the queues and takes from them: tasks, whole lanes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, func, literal, select, text
from sqlalchemy.orm import Session

from nilometer.database.bulk import Bulk, bulk_insert
from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import NewTask, TaskState

_TASKS = cast("Table", TaskRow.__table__)
_INSERT = bulk_insert(
    _TASKS,
    (
        *("project_id", "lane", "sequence", "queue", "kind", "payload", "state", "due_at"),
        *("attempts", "losses", "limit_key", "key_limit", "causation_id", "trace_context"),
        "created_at",
    ),
)
_CANCEL = Bulk(
    "DELETE FROM tasks WHERE project_id = ? AND lane = ? AND state <> ?",
    [_TASKS.c[name] for name in ("project_id", "lane", "state")],
)
_QUEUES = "workflow queues"
# By the index of what is due, queue by queue: however many dead letters there are, none is read.
_WAITING = text("""
WITH RECURSIVE queues(queue) AS (
    SELECT (SELECT min(queue) FROM tasks WHERE due_at IS NOT NULL)
    UNION ALL
    SELECT (SELECT min(tasks.queue) FROM tasks
            WHERE tasks.due_at IS NOT NULL AND tasks.queue > queues.queue)
    FROM queues WHERE queues.queue IS NOT NULL
)
SELECT count(*) FROM (
    SELECT 1 FROM queues JOIN tasks ON tasks.queue = queues.queue
    WHERE tasks.project_id = :project AND tasks.due_at IS NOT NULL LIMIT :most
) AS waiting
""")


def enqueue(session: Session, tasks: Sequence[NewTask], now: datetime) -> None:
    """Keep these tasks, in the caller's transaction: they are done once it is committed.

    Raises IntegrityError for a sequence that its lane has already.
    """
    if tasks:
        _INSERT.run(session, (_row(task, now) for task in tasks))
        enqueued_in(session).update(task.queue for task in tasks)


def enqueued_in(session: Session) -> set[str]:
    """The queues that this session has enqueued to, for who wakes their stages after the commit."""
    return cast("set[str]", session.info.setdefault(_QUEUES, set[str]()))


def cancel(session: Session, lanes: Collection[tuple[int, str]]) -> None:
    """Drop every task of these lanes (project id and lane), whatever state it is in; who works on
    one finds its lease gone, and its result is dropped."""
    _CANCEL.run(session, ((*lane, TaskState.DISCARDED) for lane in lanes))


def count_waiting(session: Session, project_id: int, most: int) -> int:
    """How many tasks of a project workers have before them, counted up to `most`. What waits for a
    person is none of them."""
    return session.scalar(_WAITING, {"project": project_id, "most": most}) or 0


def count_dead(session: Session, project_id: int, most: int) -> int:
    """How many dead letters of a project wait for a decision, counted up to `most`."""
    dead = (
        select(literal(1))
        .where(
            _TASKS.c.project_id == project_id,
            _TASKS.c.dead_at.is_not(None),
            _TASKS.c.state == TaskState.DEAD,
        )
        .limit(most)
        .subquery()
    )
    return session.scalar(select(func.count()).select_from(dead)) or 0


def _row(task: NewTask, now: datetime) -> tuple[Any, ...]:
    return (
        task.project_id,
        task.lane,
        task.sequence,
        task.queue,
        task.kind,
        task.payload,
        TaskState.READY,
        task.due_at or now,
        0,
        0,
        task.limit_key,
        task.limit,
        task.causation_id,
        task.trace_context,
        now,
    )
