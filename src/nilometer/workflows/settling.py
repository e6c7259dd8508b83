"""How claimed tasks end: done, tried again, given up, or handed back.

Everything here is part of the caller's transaction, and is said of tasks that `held` has found to
be still the caller's: until that transaction ends, nobody else can claim them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import Table, bindparam, select
from sqlalchemy.orm import Session

from nilometer.database.bulk import Bulk
from nilometer.workflows.enqueueing import enqueued_in
from nilometer.workflows.stage import Postponed
from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import Failure, Task, TaskState

_TASKS = cast("Table", TaskRow.__table__)
_THIS = (
    _TASKS.c.project_id == bindparam("of_project"),
    _TASKS.c.lane == bindparam("of_lane"),
    _TASKS.c.sequence == bindparam("of_sequence"),
    _TASKS.c.lease == bindparam("of_lease"),
)
_HELD = (
    select(_TASKS.c.project_id, _TASKS.c.lane, _TASKS.c.sequence)
    .where(_TASKS.c.queue == bindparam("queue"), _TASKS.c.lease == bindparam("of_lease"))
    .with_for_update()
)
_FINISH = Bulk(
    "DELETE FROM tasks WHERE project_id = ? AND lane = ? AND sequence = ? AND lease = ?",
    [_TASKS.c[name] for name in ("project_id", "lane", "sequence", "lease")],
)
_RETRY = (
    _TASKS.update()
    .where(*_THIS)
    .values(
        state=TaskState.READY,
        lease=None,
        due_at=bindparam("to_due_at"),
        losses=0,
        error_code=bindparam("to_code"),
        error=bindparam("to_detail"),
        error_class=bindparam("to_class"),
    )
)
_BURY = (
    _TASKS.update()
    .where(*_THIS)
    .values(
        state=TaskState.DEAD,
        lease=None,
        due_at=None,
        dead_at=bindparam("to_dead_at"),
        error_code=bindparam("to_code"),
        error=bindparam("to_detail"),
        error_class=bindparam("to_class"),
    )
)
_RELEASE = (
    _TASKS.update()
    .where(*_THIS)
    .values(
        state=TaskState.READY,
        lease=None,
        due_at=bindparam("to_due_at"),
        attempts=_TASKS.c.attempts - 1,
    )
)
_POSTPONE = (
    _TASKS.update()
    .where(*_THIS)
    .values(
        state=TaskState.READY,
        lease=None,
        due_at=bindparam("to_due_at"),
        attempts=_TASKS.c.attempts - 1,
        losses=0,
        error_code=bindparam("to_code"),
        error=bindparam("to_detail"),
        error_class=bindparam("to_class"),
    )
)
_EXTEND = (
    _TASKS.update()
    .where(_TASKS.c.queue == bindparam("of_queue"), _TASKS.c.lease == bindparam("of_lease"))
    .values(due_at=bindparam("to_due_at"))
)
_LONGEST_CODE = 100


def held(session: Session, tasks: Sequence[Task]) -> list[Task]:
    """Those that are still the caller's, in their order; locked until the transaction ends."""
    leases: defaultdict[tuple[str, str], set[tuple[int, str, int]]] = defaultdict(set)
    for queue, lease in sorted({(task.queue, task.lease) for task in tasks}):
        rows = session.execute(_HELD, {"queue": queue, "of_lease": lease})
        leases[queue, lease].update((project, lane, at) for project, lane, at in rows)
    return [task for task in tasks if task.key in leases[task.queue, task.lease]]


def finish(session: Session, tasks: Sequence[Task]) -> None:
    """They are done."""
    _FINISH.run(session, ((*task.key, task.lease) for task in tasks))


def retry(session: Session, task: Task, failure: Failure, due_at: datetime) -> None:
    """It failed and is tried again then."""
    session.execute(_RETRY, [_of(task) | _said(failure) | {"to_due_at": due_at}])


def bury(session: Session, task: Task, failure: Failure, now: datetime) -> None:
    """It is given up: a dead letter."""
    session.execute(_BURY, [_of(task) | _said(failure) | {"to_dead_at": now}])


def release(session: Session, tasks: Sequence[Task], now: datetime) -> None:
    """Hand them back as if they had not been claimed: this attempt did not take place."""
    if tasks:
        session.execute(_RELEASE, [_of(task) | {"to_due_at": now} for task in tasks])


def postpone(session: Session, tasks: Sequence[tuple[Task, Postponed]]) -> None:
    """They wait until then: this attempt did not take place."""
    if tasks:
        rows = [_of(task) | _said(each.why) | {"to_due_at": each.due_at} for task, each in tasks]
        session.execute(_POSTPONE, rows)


def hasten(
    session: Session, project_id: int, queue: str, limit_key: str, why: str, now: datetime
) -> None:
    """Let those tasks of a key begin now that were postponed for this reason."""
    waiting = (
        _TASKS.c.queue == queue,
        _TASKS.c.project_id == project_id,
        _TASKS.c.due_at > now,
        _TASKS.c.limit_key == limit_key,
        _TASKS.c.state == TaskState.READY,
        _TASKS.c.error_code == why,
    )
    session.execute(_TASKS.update().where(*waiting).values(due_at=now))
    enqueued_in(session).add(queue)


def extend(session: Session, tasks: Sequence[Task], until: datetime) -> None:
    """Keep them for longer."""
    for queue, lease in sorted({(task.queue, task.lease) for task in tasks}):
        bound = {"of_queue": queue, "of_lease": lease, "to_due_at": until}
        session.execute(_EXTEND, [bound])


def take_back(session: Session, now: datetime) -> None:
    """End every lease now. For the only process on a database, as it starts: whoever had them is
    gone."""
    session.execute(_TASKS.update().where(_TASKS.c.lease.is_not(None)).values(due_at=now))


def shorten(session: Session, now: datetime, longest: timedelta) -> None:
    """End leases that no clock that is right can have given: a worker whose clock is weeks ahead
    must not keep tasks for weeks."""
    beyond = _TASKS.c.due_at > now + longest
    session.execute(_TASKS.update().where(_TASKS.c.lease.is_not(None), beyond).values(due_at=now))


def _of(task: Task) -> dict[str, Any]:
    return {
        "of_project": task.project_id,
        "of_lane": task.lane,
        "of_sequence": task.sequence,
        "of_lease": task.lease,
    }


def _said(failure: Failure) -> dict[str, Any]:
    return {
        "to_code": failure.code[:_LONGEST_CODE],
        "to_detail": failure.detail,
        "to_class": failure.error_class,
    }
