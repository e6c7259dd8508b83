"""The circuit breaker of a tool of a project: who fails again and again is left alone for a while.

It is kept in the database, so that every worker obeys the same one and a restart forgets nothing.
Failures that may pass, and outcomes that nobody knows, count; an answer that refuses the call does
not: whoever gave it is there. After so many in a row it opens. When its time is over, the next call
goes through alone, and what comes of it closes the breaker or opens it again. What asked nobody
(`asked` of an outcome) tells nothing, and leaves all as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, bindparam, delete, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import InstrumentedAttribute, Session

from nilometer.domain import clock
from nilometer.incidents.tools.call import Deferred, Failed, Outcome, Succeeded, Unknown
from nilometer.incidents.tools.definition import Tool
from nilometer.incidents.tools.resolving import Key, limit_key
from nilometer.incidents.tools.tables import BreakerRow, BreakerState
from nilometer.workflows import settling

PROBE_SECONDS = 120.0
"""How long a probe may take before another call is tried in its place. Longer than any attempt."""
OPEN = "breaker_open"
"""The code of what waits for a breaker: with its success a probe lets all of them begin."""

TOOL_CHANGED = "tool_changed"
"""The code of an interrupted call whose tool is another by now."""

_QUEUE = "tool"
_PLACE = (BreakerRow.project_id, BreakerRow.tool)
_THESE = (
    select(BreakerRow)
    .where(tuple_(*_PLACE).in_(bindparam("keys", expanding=True)))
    .execution_options(populate_existing=True)
)
# In one order for everybody, or two workers would wait for each other.
_LOCKED = _THESE.order_by(*_PLACE).with_for_update()
_SHORTEST_WAIT = 1.0
# Beyond it no clock that is right can have put a time.
_LONGEST = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Breaker:
    """How a breaker stands. `retry_at` is when the next call goes through, None where any does."""

    state: BreakerState
    failures: int = 0
    opened_at: datetime | None = None
    retry_at: datetime | None = None


CLOSED = Breaker(BreakerState.CLOSED)


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of one call, for its breaker."""

    tool: Tool
    execution_id: str
    outcome: Outcome

    @property
    def key(self) -> Key:
        """Whose breaker."""
        return self.tool.project_id, self.tool.name

    @property
    def tells_nothing(self) -> bool:
        """Whether nobody was asked."""
        return not isinstance(self.outcome, Succeeded) and not self.outcome.asked

    @property
    def is_failure(self) -> bool:
        """Whether it counts as one."""
        outcome = self.outcome
        passes = isinstance(outcome, Failed) and outcome.is_transient
        return not self.tells_nothing and (passes or isinstance(outcome, Unknown))


def admit(
    session: Session, calls: Sequence[tuple[Key, str]], now: datetime
) -> dict[tuple[int, str], Deferred]:
    """Who of these calls (a tool and an execution's id) has to come again later, by project and
    execution.

    Of a breaker whose time is over the first call becomes the probe, whatever others do at the same
    moment: one conditional statement decides. Who is told to come again has the breaker locked, so
    that it either sees it close or is among those that its closing lets begin.
    """
    asked = _read(session, {key for key, _ in calls})
    troubled = [key for key, row in asked.items() if row.state is not BreakerState.CLOSED]
    rows = _read(session, troubled, lock=True) if troubled else {}
    refused: dict[tuple[int, str], Deferred] = {}
    for key, execution_id in calls:
        row = rows.get(key)
        if row is None or row.state is BreakerState.CLOSED or row.probe == execution_id:
            continue
        if not _became_probe(session, key, execution_id, now):
            refused[key[0], execution_id] = _deferred(row, now)
    return refused


def troubled(session: Session, keys: Collection[Key]) -> set[Key]:
    """Those of these tools whose breaker is not closed."""
    found = _read(session, keys).items() if keys else ()
    return {key for key, row in found if row.state is not BreakerState.CLOSED}


def settle(session: Session, settled: Collection[Settled], now: datetime) -> None:
    """Count what came of these calls, in their order."""
    by_key: dict[Key, list[Settled]] = {}
    for each in settled:
        by_key.setdefault(each.key, []).append(each)
    failing = [key for key, each in by_key.items() if any(one.is_failure for one in each)]
    troubled = {
        key
        for key, row in _read(session, by_key).items()
        if row.failures or row.state is not BreakerState.CLOSED
    }
    concerned = sorted(troubled.union(failing))
    if not concerned:
        return
    _make(session, failing, now)
    rows = _read(session, concerned, lock=True)
    for key in concerned:
        for each in by_key[key]:
            _count(session, rows[key], each, now)


def states(session: Session, project_id: int) -> dict[str, Breaker]:
    """The breakers of a project's tools that are not simply closed, by tool."""
    query = select(BreakerRow).where(BreakerRow.project_id == project_id)
    return {row.tool: _told(row) for row in session.scalars(query)}


def forget(session: Session, project_id: int, tool: str) -> None:
    """Close the breaker of a tool, and forget its failures."""
    mine = (BreakerRow.project_id == project_id) & (BreakerRow.tool == tool)
    session.execute(delete(BreakerRow).where(mine))
    _let_all_begin(session, project_id, tool, clock.now())


def _read(session: Session, keys: Iterable[Key], *, lock: bool = False) -> dict[Key, BreakerRow]:
    found = session.scalars(_LOCKED if lock else _THESE, {"keys": list(keys)})
    return {(row.project_id, row.tool): row for row in found}


def _make(session: Session, keys: Collection[Key], now: datetime) -> None:
    if not keys:
        return
    dialect = session.get_bind().dialect.name
    insert = (postgresql if dialect == "postgresql" else sqlite).insert(BreakerRow)
    rows = [
        {
            "project_id": project_id,
            "tool": tool,
            "state": BreakerState.CLOSED,
            "failures": 0,
            "updated_at": now,
        }
        for project_id, tool in sorted(keys)
    ]
    session.execute(insert.on_conflict_do_nothing(), rows)


def _became_probe(session: Session, key: Key, execution_id: str, now: datetime) -> bool:
    state = BreakerRow.state
    free = or_(
        (state == BreakerState.OPEN) & _over(BreakerRow.retry_at, now),
        (state == BreakerState.HALF_OPEN) & _over(BreakerRow.probe_until, now),
    )
    mine = (BreakerRow.project_id == key[0]) & (BreakerRow.tool == key[1])
    taken = (
        update(BreakerRow)
        .where(mine, free)
        .values(
            state=BreakerState.HALF_OPEN,
            probe=execution_id,
            probe_until=now + timedelta(seconds=PROBE_SECONDS),
            updated_at=now,
        )
        .execution_options(synchronize_session=False)
    )
    result = session.execute(taken)
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


def _over(until: InstrumentedAttribute[datetime | None], now: datetime) -> ColumnElement[bool]:
    return or_(until <= now, until > now + _LONGEST)


def _deferred(row: BreakerRow, now: datetime) -> Deferred:
    until = row.probe_until if row.state is BreakerState.HALF_OPEN else row.retry_at
    wait = (until - now).total_seconds() if until else 0.0
    if wait <= 0:  # another became the probe at this moment
        wait = PROBE_SECONDS
    return Deferred(
        OPEN,
        "The tool failed too often and is left alone for a while.",
        max(_SHORTEST_WAIT, min(wait, _LONGEST.total_seconds())),
        row.opened_at,
    )


def _let_all_begin(session: Session, project_id: int, tool: str, now: datetime) -> None:
    settling.hasten(session, project_id, _QUEUE, limit_key(tool), OPEN, now)


def _count(session: Session, row: BreakerRow, settled: Settled, now: datetime) -> None:
    if settled.tells_nothing:
        _free(session, row, settled, now)
        return
    row.updated_at = now
    if row.state is BreakerState.CLOSED:
        row.failures = row.failures + 1 if settled.is_failure else 0
        if row.failures >= settled.tool.breaker_failures:
            _open(row, settled.tool, now)
    elif row.state is BreakerState.HALF_OPEN and row.probe == settled.execution_id:
        if settled.is_failure:
            row.failures += 1
            _open(row, settled.tool, now)
        else:
            row.state, row.failures = BreakerState.CLOSED, 0
            row.opened_at = row.retry_at = row.probe = row.probe_until = None
            _let_all_begin(session, row.project_id, row.tool, now)
    # Else it began before the breaker opened: it tells nothing new.


def _free(session: Session, row: BreakerRow, settled: Settled, now: datetime) -> None:
    """If it was the probe, let another be it at once: the breaker is as it was before, open, and
    its time is over."""
    if row.state is BreakerState.HALF_OPEN and row.probe == settled.execution_id:
        row.state, row.updated_at = BreakerState.OPEN, now
        row.probe = row.probe_until = None
        _let_all_begin(session, row.project_id, row.tool, now)


def _open(row: BreakerRow, tool: Tool, now: datetime) -> None:
    row.state, row.opened_at = BreakerState.OPEN, row.opened_at or now
    row.retry_at = now + timedelta(seconds=tool.breaker_seconds)
    row.probe = row.probe_until = None


def _told(row: BreakerRow) -> Breaker:
    return Breaker(row.state, row.failures, row.opened_at, row.retry_at)
