"""One decision about many dead letters of a project: those that a filter lets through, the oldest
first, a bounded number at a time, in one transaction of the caller's.

What dies again after it was replayed is not among those of before: `Letters.before` is the moment
up to which they had died, and whoever goes on with the rest gives the same again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, Table, func, select
from sqlalchemy.orm import Session

from nilometer.incidents import decisions
from nilometer.incidents.history import History
from nilometer.incidents.incident import Actor, Incident
from nilometer.incidents.tables import IncidentRow
from nilometer.workflows import dead_letters
from nilometer.workflows.dead_letters import DeadTask
from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import TaskState, task_id

MOST: Final = 1000
"""Dead letters of one decision: it bounds for how long others wait to write."""

_T: Final = cast("Table", TaskRow.__table__).c
_I: Final = cast("Table", IncidentRow.__table__).c


class Verb(StrEnum):
    """What is to become of them."""

    REPLAY = "replay"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letters:
    """Which open dead letters; None for whatever it is. `since` is included and `before` is not:
    both are of the moment at which the task was given up."""

    before: datetime
    since: datetime | None = None
    stage: str | None = None
    code: str | None = None
    exception_type: str | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """The ids of the dead letters that were decided about, and how many of the filter are left."""

    letter_ids: list[str]
    left: int


def preview(session: Session, project_id: int, which: Letters, *, most: int) -> Decided:
    """What `decide` would decide about; nothing is changed."""
    found = _oldest(session, project_id, which, most)
    left = _count(session, project_id, which) - len(found)
    return Decided([task_id(lane, sequence) for lane, sequence in found], left)


def decide(
    session: Session,
    project_id: int,
    verb: Verb,
    which: Letters,
    *,
    most: int,
    actor: Actor,
    reason: str,
    now: datetime,
) -> Decided:
    """Replay or discard at most `most` of them, each as `decisions` does one: with its event, by
    whom and why. Raises InvalidInput for a reason that says nothing."""
    decisions.check_reason(reason)
    wanted = set(_oldest(session, project_id, which, most))
    lanes = {lane for lane, _ in wanted}
    history = History(session, now)
    # The incidents' locks first, as everywhere: whoever holds one can then ask for its tasks.
    incidents = history.load((project_id, lane) for lane in lanes)
    letters = [
        each
        for each in dead_letters.undecided(session, project_id, lanes)
        if (each.lane, each.sequence) in wanted and (project_id, each.lane) in incidents
    ]
    settle, tell = _VERBS[verb]
    if letters:
        settle(session, letters, by=str(actor), because=reason, now=now)
    for letter in letters:
        tell(history, incidents[project_id, letter.lane], letter, actor, reason)
    history.flush()
    return Decided([each.id for each in letters], _count(session, project_id, which))


_Tell = Callable[[History, Incident, DeadTask, Actor, str], None]
_VERBS: Final[dict[Verb, tuple[Callable[..., None], _Tell]]] = {
    Verb.REPLAY: (dead_letters.replay_each, decisions.tell_replayed),
    Verb.DISCARD: (dead_letters.discard_each, decisions.tell_discarded),
}


def _oldest(session: Session, project_id: int, which: Letters, most: int) -> list[tuple[str, int]]:
    """The lanes and sequences of those that have waited longest."""
    query = select(_T.lane, _T.sequence).where(*_conditions(project_id, which))
    ordered = query.order_by(_T.dead_at, _T.lane, _T.sequence).limit(most)
    return [(row.lane, row.sequence) for row in session.execute(ordered)]


def _count(session: Session, project_id: int, which: Letters) -> int:
    query = select(func.count()).where(*_conditions(project_id, which))
    return session.execute(query.select_from(TaskRow)).scalar_one()


def _conditions(project_id: int, which: Letters) -> list[ColumnElement[bool]]:
    exact: dict[Any, str | None] = {_T.queue: which.stage, _T.error_code: which.code}
    conditions = [
        _T.project_id == project_id,
        _T.dead_at.is_not(None),
        _T.dead_at < which.before,
        _T.state == TaskState.DEAD,
        *(column == value for column, value in exact.items() if value is not None),
    ]
    if which.since is not None:
        conditions.append(_T.dead_at >= which.since)
    if which.exception_type is not None:
        of_type = select(_I.id).where(
            _I.project_id == project_id, _I.exception_type == which.exception_type
        )
        conditions.append(_T.lane.in_(of_type))
    return conditions
