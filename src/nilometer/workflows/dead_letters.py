"""Tasks that were given up: read, replayed, discarded. Each belongs to its project.

A dead letter holds its lane, so that nothing of it goes on behind its back. Replayed, it is a task
again, for the stage that failed and no other; discarded, it is out of the way for good. Who decided
and why is kept with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from sqlalchemy import Row, Table, select, tuple_
from sqlalchemy.orm import Session

from nilometer.errors import NilometerError, NotFound
from nilometer.workflows.enqueueing import enqueued_in
from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import ErrorClass, TaskState, parse_task_id, task_id

KEEP_DISCARDED = timedelta(days=90)
"""How long one that was discarded can be read."""

_TASKS = cast("Table", TaskRow.__table__)
_CHUNK = 400

Item = TypeVar("Item")


class AlreadyDecided(NilometerError):
    """The dead letter was replayed or discarded meanwhile."""

    code = "already_decided"


@dataclass(frozen=True, slots=True)
class DeadTask:
    """A dead letter: what was to be done, what failed, and what was decided of it, if anything.
    `payload` is the task's whole; the event that asked for it is `causation_id`."""

    id: str
    project_id: int
    queue: str
    lane: str
    sequence: int
    kind: str
    payload: dict[str, Any] = field(repr=False)
    state: TaskState
    attempts: int
    losses: int
    created_at: datetime
    dead_at: datetime
    error_code: str
    error: str
    error_class: ErrorClass
    causation_id: str | None
    trace_context: str | None
    decided_at: datetime | None
    decided_by: str | None
    decided_because: str | None


def get(session: Session, project_id: int, letter_id: str) -> DeadTask:
    """One of the project's. Raises NotFound."""
    return _dead(_found(session, project_id, letter_id))


def replay(
    session: Session, project_id: int, letter_id: str, *, by: str, because: str, now: datetime
) -> DeadTask:
    """Make it a task again, with all its attempts before it. Returns it as it was.

    Raises NotFound, and AlreadyDecided.
    """
    letter = _undecided(session, project_id, letter_id)
    replay_each(session, [letter], by=by, because=because, now=now)
    return letter


def discard(
    session: Session, project_id: int, letter_id: str, *, by: str, because: str, now: datetime
) -> DeadTask:
    """Give it up for good: what stands behind it in its lane goes on. Returns it as it was.

    Raises NotFound, and AlreadyDecided.
    """
    letter = _undecided(session, project_id, letter_id)
    discard_each(session, [letter], by=by, because=because, now=now)
    return letter


def undecided(session: Session, project_id: int, lanes: Collection[str]) -> list[DeadTask]:
    """The dead letters of these lanes that nobody has decided about, locked until the transaction
    ends: for `replay_each` and `discard_each`."""
    found: list[DeadTask] = []
    for chunk in _chunks(sorted(lanes)):
        query = select(_TASKS).where(
            _TASKS.c.project_id == project_id,
            _TASKS.c.lane.in_(chunk),
            _TASKS.c.dead_at.is_not(None),
            _TASKS.c.state == TaskState.DEAD,
        )
        ordered = query.order_by(_TASKS.c.lane, _TASKS.c.sequence).with_for_update()
        found += [_dead(row) for row in session.execute(ordered)]
    return found


def replay_each(
    session: Session, letters: Sequence[DeadTask], *, by: str, because: str, now: datetime
) -> None:
    """`replay` of letters that are locked and undecided, all of one project."""
    values = {"state": TaskState.READY, "due_at": now, "dead_at": None, "attempts": 0, "losses": 0}
    _decide(session, letters, {**values, **_decided(by, because, now)})
    enqueued_in(session).update(letter.queue for letter in letters)


def discard_each(
    session: Session, letters: Sequence[DeadTask], *, by: str, because: str, now: datetime
) -> None:
    """`discard` of letters that are locked and undecided, all of one project."""
    _decide(session, letters, {"state": TaskState.DISCARDED, **_decided(by, because, now)})


def prune(session: Session, now: datetime) -> None:
    """Delete what was discarded long ago."""
    session.execute(
        _TASKS.delete().where(
            _TASKS.c.dead_at.is_not(None),
            _TASKS.c.state == TaskState.DISCARDED,
            _TASKS.c.decided_at < now - KEEP_DISCARDED,
        )
    )


def _undecided(session: Session, project_id: int, letter_id: str) -> DeadTask:
    row = _found(session, project_id, letter_id, lock=True)
    if row.state is not TaskState.DEAD:
        raise AlreadyDecided(f"The dead letter {letter_id} was decided already.")
    return _dead(row)


def _decided(by: str, because: str, now: datetime) -> dict[str, Any]:
    return {"decided_at": now, "decided_by": by, "decided_because": because}


def _decide(session: Session, letters: Sequence[DeadTask], values: dict[str, Any]) -> None:
    place = tuple_(_TASKS.c.lane, _TASKS.c.sequence)
    for chunk in _chunks([(letter.lane, letter.sequence) for letter in letters]):
        these = (_TASKS.c.project_id == letters[0].project_id, place.in_(chunk))
        session.execute(_TASKS.update().where(*these).values(values))


def _chunks(values: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def _found(session: Session, project_id: int, letter_id: str, *, lock: bool = False) -> Row[Any]:
    missing = NotFound("There is no such dead letter in this project.", attr="task_id")
    try:
        lane, sequence = parse_task_id(letter_id)
    except ValueError:
        raise missing from None
    query = select(_TASKS).where(
        _TASKS.c.project_id == project_id,
        _TASKS.c.lane == lane,
        _TASKS.c.sequence == sequence,
        _TASKS.c.dead_at.is_not(None),
    )
    row = session.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise missing
    return row


def _dead(row: Row[Any]) -> DeadTask:
    return DeadTask(
        id=task_id(row.lane, row.sequence),
        project_id=row.project_id,
        queue=row.queue,
        lane=row.lane,
        sequence=row.sequence,
        kind=row.kind,
        payload=row.payload,
        state=row.state,
        attempts=row.attempts,
        losses=row.losses,
        created_at=row.created_at,
        dead_at=row.dead_at,
        error_code=row.error_code,
        error=row.error,
        error_class=row.error_class,
        causation_id=row.causation_id,
        trace_context=row.trace_context,
        decided_at=row.decided_at,
        decided_by=row.decided_by,
        decided_because=row.decided_because,
    )
