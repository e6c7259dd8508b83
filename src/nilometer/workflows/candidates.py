"""Which tasks of a queue could be claimed: the statements of `claims`, for either database.

The queue is read by its index of what is due. Over projects it is skipped, not scanned: a project
with a hundred thousand tasks costs as much as one with a single one. Projects that are suspended
are passed over: whatever they have waits in its place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    Select,
    Table,
    bindparam,
    column,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from nilometer.access.tables import Project
from nilometer.access.types import CaptureMode
from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import TaskState

_TASKS = cast("Table", TaskRow.__table__)
_BEFORE = _TASKS.alias("before")
# As literals: the databases choose an index by what a statement says, not by what is bound.
_LEASED = _TASKS.c.state == literal_column(f"'{TaskState.LEASED}'")
_STANDS = _BEFORE.c.state != literal_column(f"'{TaskState.DISCARDED}'")

_COLUMNS = tuple(
    _TASKS.c[name]
    for name in (
        *("project_id", "lane", "sequence", "queue", "kind", "payload", "state", "attempts"),
        *("losses", "limit_key", "key_limit", "causation_id", "trace_context", "created_at"),
    )
)
_FIRST_OF_ITS_LANE = not_(
    exists().where(
        _BEFORE.c.project_id == _TASKS.c.project_id,
        _BEFORE.c.lane == _TASKS.c.lane,
        _BEFORE.c.sequence < _TASKS.c.sequence,
        _STANDS,
    )
)
_DUE = (_TASKS.c.queue == bindparam("queue"), _TASKS.c.due_at <= bindparam("now"))
_SUSPECT = _LEASED & (_TASKS.c.losses > 0)
_NOT_SUSPENDED = not_(
    exists().where(Project.id == _TASKS.c.project_id, Project.capture_mode != CaptureMode.ACCEPT)
)

_SKIP = """
WITH RECURSIVE found(project_id) AS (
    SELECT (SELECT min(project_id) FROM tasks
            WHERE queue = :queue AND due_at IS NOT NULL AND project_id > :after)
    UNION ALL
    SELECT (SELECT min(tasks.project_id) FROM tasks
            WHERE queue = :queue AND due_at IS NOT NULL AND tasks.project_id > found.project_id)
    FROM found WHERE found.project_id IS NOT NULL
)
SELECT project_id FROM found WHERE project_id IS NOT NULL
"""
_PROJECTS = text(
    f"{_SKIP} AND EXISTS (SELECT 1 FROM tasks WHERE queue = :queue "  # noqa: S608
    "AND tasks.project_id = found.project_id AND due_at <= :now) "
    "AND NOT EXISTS (SELECT 1 FROM projects WHERE projects.id = found.project_id "
    f"AND projects.capture_mode <> '{CaptureMode.ACCEPT}') LIMIT :most"
).bindparams(bindparam("now", type_=_TASKS.c.due_at.type))

_COUNTED = tuple(_TASKS.c[name] for name in ("project_id", "limit_key", "key_limit"))
_IN_HAND = select(*_COUNTED).where(
    _TASKS.c.queue == bindparam("queue"),
    _TASKS.c.lease.is_not(None),
    _TASKS.c.due_at > bindparam("now"),
)

Full = Collection[tuple[int, str]]
"""Keys, each of a project, of which no more may be claimed."""

Kinds = frozenset[str] | None
"""The kinds of tasks that a worker knows; None for one that takes any."""


class Candidates:
    """The tasks of one queue that are due and the first of their lanes, locked for who asked: on a
    server, what others have locked is passed over (`serves_many`). A task of a kind that is not
    among `kinds` is for a worker of a later release."""

    def __init__(self, queue: str, *, serves_many: bool, kinds: Kinds = None) -> None:
        self._queue = queue
        self._kinds = kinds
        self._serves_many = serves_many

    def projects(self, session: Session, after: int, now: datetime, most: int) -> list[int]:
        """The first projects with an id greater than `after` that are not suspended and of which
        anything is due, be it its turn in its lane or not."""
        bound = {"queue": self._queue, "after": after, "now": now, "most": most}
        return list(session.scalars(_PROJECTS, bound))

    def in_hand(self, session: Session, now: datetime) -> Sequence[Row[Any]]:
        """Project, key and limit of each task that somebody has."""
        return session.execute(_IN_HAND, {"queue": self._queue, "now": now}).all()

    def of(
        self, session: Session, shares: Mapping[int, int], now: datetime, full: Full
    ) -> list[Row[Any]]:
        """Of each project at most so many, what has been due for longest first; none of a key that
        is full. Without those that workers died with more than once."""
        bound: dict[str, Any] = {"queue": self._queue, "now": now}
        if self._serves_many:
            bound |= {"projects": list(shares), "shares": list(shares.values())}
            return list(session.execute(_of_many(frozenset(full), self._kinds), bound))
        statement = _of_one(frozenset(full), self._kinds)
        found: list[Row[Any]] = []
        for project, share in shares.items():
            found += session.execute(statement, bound | {"project": project, "share": share})
        return found

    def suspect(self, session: Session, now: datetime) -> Row[Any] | None:
        """One that workers died with more than once."""
        return session.execute(
            _one_suspect(self._kinds), {"queue": self._queue, "now": now}
        ).first()


def _known(kinds: Kinds) -> list[ColumnElement[bool]]:
    return [] if kinds is None else [_TASKS.c.kind.in_(sorted(kinds))]


@lru_cache
def _one_suspect(kinds: Kinds) -> Select[Any]:
    return (
        select(*_COLUMNS)
        .where(
            *(*_DUE, _TASKS.c.lease.is_not(None), _SUSPECT, _FIRST_OF_ITS_LANE, _NOT_SUSPENDED),
            *_known(kinds),
        )
        .limit(1)
        .with_for_update(skip_locked=True, of=_TASKS)
    )


def _eligible(project: ColumnElement[Any], full: Full, kinds: Kinds) -> Select[Any]:
    query = select(*_COLUMNS).where(
        *_DUE, _TASKS.c.project_id == project, not_(_SUSPECT), _FIRST_OF_ITS_LANE, *_known(kinds)
    )
    if full:
        not_full = tuple_(_TASKS.c.project_id, _TASKS.c.limit_key).not_in(sorted(full))
        query = query.where(or_(_TASKS.c.limit_key.is_(None), not_full))
    return query.order_by(_TASKS.c.due_at)


@lru_cache
def _of_one(full: frozenset[tuple[int, str]], kinds: Kinds) -> Select[Any]:
    """Of one project."""
    return _eligible(bindparam("project"), full, kinds).limit(bindparam("share"))


@lru_cache
def _of_many(full: frozenset[tuple[int, str]], kinds: Kinds) -> Select[Any]:
    """Of several, in one round trip; of none more than its share."""
    numbers = ARRAY(Integer)
    asked = (
        func.unnest(bindparam("projects", type_=numbers), bindparam("shares", type_=numbers))
        .table_valued(column("project", Integer), column("share", Integer))
        .render_derived("asked")
    )
    eligible = _eligible(asked.c.project, full, kinds).limit(asked.c.share)
    found = eligible.with_for_update(skip_locked=True, of=_TASKS).lateral("found")
    return select(found).select_from(asked.join(found, true()))
