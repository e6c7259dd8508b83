"""Every named read of incidents. A read begins with a project: there is none without one.

Lists are newest first by id: an id is a UUID of version 7, so the order of ids is that of
acceptance, and the key of the table serves every page.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, TypeVar, cast

from sqlalchemy import ColumnElement, Select, Table, func, literal, select, tuple_
from sqlalchemy.orm import Session

from nilometer.errors import NotFound
from nilometer.incidents import feedback
from nilometer.incidents.accepted_within import ids_within
from nilometer.incidents.bulk_decisions import Decided, Letters, preview
from nilometer.incidents.events import IncidentEvent, read_payload
from nilometer.incidents.incident import Actor, ApprovalState, Deadline, Incident, Status
from nilometer.incidents.packs.tables import PackRow, PackState
from nilometer.incidents.tables import ApprovalRow, IncidentEventRow, IncidentRow
from nilometer.incidents.views import (
    Approval,
    DeadLetter,
    Duration,
    Filters,
    LetterState,
    Page,
    Summary,
    Trace,
    WholeDeadLetter,
)
from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import TaskState, parse_task_id, task_id

Row = TypeVar("Row")

_INCIDENTS: Final = cast("Table", IncidentRow.__table__)
_EVENTS: Final = cast("Table", IncidentEventRow.__table__)
_APPROVALS: Final = cast("Table", ApprovalRow.__table__)
_TASKS: Final = cast("Table", TaskRow.__table__)
_I, _E, _A, _T = _INCIDENTS.c, _EVENTS.c, _APPROVALS.c, _TASKS.c
_STATES: Final = {
    LetterState.OPEN: TaskState.DEAD,
    LetterState.DISCARDED: TaskState.DISCARDED,
}
_READ_BY_INTAKE: Final = ("ExceptionNormalized", "DuplicateDetected")
_SUMMARY: Final = tuple(_I[name] for name in Summary.__dataclass_fields__)
_APPROVAL: Final = tuple(_A[name] for name in Approval.__dataclass_fields__)
_LETTER: Final = tuple(
    _T[name] for name in DeadLetter.__dataclass_fields__ if name not in ("id", "incident_id")
)


class IncidentReads:
    """What one project may know of its incidents, within a transaction of the caller."""

    def __init__(self, session: Session, project_id: int) -> None:
        self._session = session
        self._project_id = project_id

    def incident(self, incident_id: str) -> Incident:
        """One incident. Raises NotFound, for another project's too."""
        query = select(_INCIDENTS).where(_I.project_id == self._project_id, _I.id == incident_id)
        row = self._session.execute(query).mappings().one_or_none()
        if row is None:
            raise no_incident()
        return Incident(**row)

    def withholds_payload(self, incident_id: str) -> bool:
        """Whether a pack may yet take something out of what was sent: intake, which applies the
        pack's redaction, has not read the incident. To be asked before the incident is read, which
        may be redacted in between."""
        read = select(literal(1)).where(
            _E.project_id == self._project_id,
            _E.incident_id == incident_id,
            _E.type.in_(_READ_BY_INTAKE),
        )
        if self._session.scalar(read.limit(1)) is not None:
            return False
        redaction = PackRow.document["normalisation"]["redaction"]
        active = select(redaction).where(
            PackRow.project_id == self._project_id, PackRow.state == PackState.ACTIVE
        )
        # The pack of this incident is not known yet: that of any will do.
        return any(self._session.scalars(active))

    def require(self, incident_id: str) -> None:
        """Raises NotFound unless the incident is the project's."""
        own = (_I.project_id == self._project_id, _I.id == incident_id)
        if self._session.scalar(select(_I.id).where(*own)) is None:
            raise no_incident()

    def incidents(self, filters: Filters, *, limit: int, before: str | None) -> Page[Summary]:
        """Incidents that the filters let through, from just before an id on."""
        query = select(*_SUMMARY).where(_I.project_id == self._project_id, *_conditions(filters))
        return self._page(query, _I.id, Summary, limit, before)

    def events(self, incident_id: str, *, after: int, limit: int) -> list[IncidentEvent]:
        """What happened to an incident, in order, from behind a sequence number on."""
        query = (
            select(_EVENTS)
            .where(
                _E.project_id == self._project_id,
                _E.incident_id == incident_id,
                _E.sequence > after,
            )
            .order_by(_E.sequence)
            .limit(limit)
        )
        return [_event(row) for row in self._session.execute(query).mappings()]

    def trace(self, incident_id: str) -> Trace:
        """What an incident's events add up to. Raises NotFound."""
        own = (_E.project_id == self._project_id, _E.incident_id == incident_id)
        query = (
            select(_E.type, func.count(), func.min(_E.occurred_at), func.max(_E.occurred_at))
            .where(*own)
            .group_by(_E.type)
        )
        rows = self._session.execute(query).all()
        if not rows:
            raise no_incident()
        return Trace(
            {row[0]: row[1] for row in rows},
            min(row[2] for row in rows),
            max(row[3] for row in rows),
        )

    def approvals(
        self,
        *,
        state: ApprovalState | None,
        incident_id: str | None,
        limit: int,
        before: str | None,
    ) -> Page[Approval]:
        """Approvals that were asked for, from just before an id on."""
        query = select(*_APPROVAL).where(_A.project_id == self._project_id)
        if state is not None:
            query = query.where(_A.state == state)
        if incident_id is not None:
            query = query.where(_A.incident_id == incident_id)
        return self._page(query, _A.id, Approval, limit, before)

    def approval(self, approval_id: str) -> Approval:
        """One approval. Raises NotFound, for another project's too."""
        own = (_A.project_id == self._project_id, _A.id == approval_id)
        row = self._session.execute(select(*_APPROVAL).where(*own)).mappings().one_or_none()
        if row is None:
            raise NotFound("There is no such approval in this project.", attr="approval_id")
        return Approval(**row)

    def dead_letters(
        self,
        state: LetterState,
        *,
        queue: str | None,
        incident_id: str | None,
        limit: int,
        before: tuple[datetime, str] | None,
    ) -> Page[DeadLetter]:
        """Tasks that were given up and wait for a decision, or were discarded, the newest such
        first, from just before a moment and id on."""
        at = _T.dead_at if state is LetterState.OPEN else _T.decided_at
        # Without what their stages were given: a page of that may be too large for memory.
        query = select(*_LETTER, _T.lane).where(
            _T.project_id == self._project_id, _T.state == _STATES[state], at.is_not(None)
        )
        if queue is not None:
            query = query.where(_T.queue == queue)
        if incident_id is not None:
            query = query.where(_T.lane == incident_id)
        if before is not None:
            moment, last = before
            last_at = literal(moment, at.type)
            query = query.where(tuple_(at, _T.lane, _T.sequence) < tuple_(last_at, *_place(last)))
        query = query.order_by(at.desc(), _T.lane.desc(), _T.sequence.desc()).limit(limit + 1)
        found = self._session.execute(query).mappings()
        rows = [DeadLetter(**_letter(row)) for row in found]
        return Page(rows[:limit], len(rows) > limit)

    def dead_letter(self, task_id: str) -> WholeDeadLetter:
        """One dead letter, open or discarded. Raises NotFound, for another project's too."""
        try:
            lane, sequence = parse_task_id(task_id)
        except ValueError:
            raise no_dead_letter() from None
        query = select(*_LETTER, _T.lane, _T.payload).where(
            _T.project_id == self._project_id,
            _T.lane == lane,
            _T.sequence == sequence,
            _T.state.in_(_STATES.values()),
        )
        row = self._session.execute(query).mappings().one_or_none()
        if row is None:
            raise no_dead_letter()
        return WholeDeadLetter(**_letter(row), payload=row["payload"])

    def letters(self, which: Letters, *, most: int) -> Decided:
        """The open dead letters that a decision about many would be about."""
        return preview(self._session, self._project_id, which, most=most)

    def event(self, incident_id: str, sequence: int) -> IncidentEvent | None:
        """One event of an incident."""
        found = self.events(incident_id, after=sequence - 1, limit=1)
        return found[0] if found and found[0].sequence == sequence else None

    def dead_letter_counts(self) -> dict[str, dict[str, int]]:
        """How many dead letters are open, by queue and by the code of their error."""
        query = (
            select(_T.queue, _T.error_code, func.count())
            .where(_T.project_id == self._project_id, _T.dead_at.is_not(None))
            .where(_T.state == TaskState.DEAD)
            .group_by(_T.queue, _T.error_code)
        )
        counts: dict[str, dict[str, int]] = {}
        for queue, code, count in self._session.execute(query):
            counts.setdefault(queue, {})[code or "unknown"] = count
        return counts

    def deadlines(self, since: datetime, until: datetime) -> dict[Deadline, int]:
        """How many of the incidents accepted within a time stand how to their deadlines."""
        accepted = (_I.received_at >= since, _I.received_at < until)
        query = (
            select(_I.sla_state, func.count())
            .where(_I.project_id == self._project_id, *accepted, *ids_within(since, until))
            .group_by(_I.sla_state)
        )
        found = {row[0]: row[1] for row in self._session.execute(query)}
        return {state: found.get(state, 0) for state in Deadline}

    def rates(self, since: datetime, until: datetime) -> feedback.Rates:
        """What came of the incidents that were accepted within a time."""
        return feedback.rates(self._session, self._project_id, since, until)

    def durations(self, since: datetime, until: datetime, *, most: int) -> list[Duration]:
        """How long the incidents that were accepted within a time and are resolved took, at most
        the `most` newest of them."""
        query = (
            select(_I.received_at, _I.first_action_at, _I.closed_at, _I.automatic)
            .where(
                _I.project_id == self._project_id,
                _I.status == Status.RESOLVED,
                _I.received_at >= since,
                _I.received_at < until,
                _I.closed_at.is_not(None),
                *ids_within(since, until),
            )
            .order_by(_I.id.desc())
            .limit(most)
        )
        return [_duration(*row) for row in self._session.execute(query)]

    def _page(
        self,
        query: Select[Any],
        key: ColumnElement[str],
        kind: type[Row],
        limit: int,
        before: str | None,
    ) -> Page[Row]:
        if before is not None:
            query = query.where(key < before)
        query = query.order_by(key.desc()).limit(limit + 1)
        rows = [kind(**row) for row in self._session.execute(query).mappings()]
        return Page(rows[:limit], len(rows) > limit)


def no_dead_letter() -> NotFound:
    """The one answer for a dead letter of others and for none."""
    return NotFound("There is no such dead letter in this project.", attr="task_id")


def no_incident() -> NotFound:
    """The one answer for an incident of others and for none."""
    return NotFound("There is no such exception in this project.", attr="exception_id")


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    exact = {
        _I.status: filters.status,
        _I.severity: filters.severity,
        _I.exception_type: filters.exception_type,
        _I.source_system: filters.source_system,
        _I.owner: filters.owner,
        _I.sla_state: filters.deadline,
    }
    conditions = [column == value for column, value in exact.items() if value is not None]
    if filters.since is not None:
        conditions.append(_I.received_at >= filters.since)
    if filters.until is not None:
        conditions.append(_I.received_at < filters.until)
    return conditions + ids_within(filters.since, filters.until)


def _event(row: Any) -> IncidentEvent:
    return IncidentEvent(
        event_id=row["event_id"],
        project_id=row["project_id"],
        incident_id=row["incident_id"],
        sequence=row["sequence"],
        occurred_at=row["occurred_at"],
        actor=Actor(row["actor_kind"], row["actor_id"]),
        causation_id=row["causation_id"],
        correlation_id=row["correlation_id"],
        traceparent=row["traceparent"],
        payload=read_payload(row["type"], row["version"], row["payload"]),
    )


def _place(task_id: str) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    lane, sequence = parse_task_id(task_id)
    return literal(lane), literal(sequence)


def _letter(row: Any) -> dict[str, Any]:
    """The members of a DeadLetter."""
    dead = row["state"] is TaskState.DEAD
    return {
        **{column.name: row[column] for column in _LETTER},
        "id": task_id(row["lane"], row["sequence"]),
        "incident_id": row["lane"],
        "state": LetterState.OPEN if dead else LetterState.DISCARDED,
    }


def _duration(
    received_at: datetime, first_action_at: datetime | None, closed_at: datetime, automatic: bool
) -> Duration:
    return Duration(
        first_action_at and (first_action_at - received_at).total_seconds(),
        (closed_at - received_at).total_seconds(),
        bool(automatic),
    )
