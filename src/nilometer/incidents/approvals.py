"""Approvals: asked for in the transaction that stops the chain, decided once, or expired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import literal_column, select, update
from sqlalchemy.orm import Session

from nilometer.errors import NilometerError, NotFound
from nilometer.incidents.events import ApprovalRequested, moment
from nilometer.incidents.incident import Actor, ApprovalState, Incident
from nilometer.incidents.lifecycle import Conflict
from nilometer.incidents.tables import ApprovalRow

DEFAULT_TIMEOUT: Final = timedelta(hours=1)
"""How long a decision is waited for, unless the pack says otherwise."""

# As a literal, or no database would use the index of what is pending.
PENDING: Final = ApprovalRow.state == literal_column(f"'{ApprovalState.PENDING}'")


class SeparationOfDuties(NilometerError):
    """Who raised the incident may not decide about it."""

    code = "separation_of_duties"


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked: by which rule, why, and how long. With `separate`, who raised the
    incident may not answer. `step` is None where the whole chain waits."""

    rule: str
    reason: str
    timeout: timedelta = DEFAULT_TIMEOUT
    separate: bool = False
    step: str | None = None


def ask(
    session: Session, incident: Incident, question: Question, approval_id: str, now: datetime
) -> ApprovalRequested:
    """Keep the question; the event that tells of it."""
    expires_at = now + question.timeout
    session.add(
        ApprovalRow(
            project_id=incident.project_id,
            id=approval_id,
            incident_id=incident.id,
            run=incident.run,
            step=question.step,
            state=ApprovalState.PENDING,
            rule=question.rule,
            reason=question.reason,
            separate=question.separate,
            requested_at=now,
            expires_at=expires_at,
        )
    )
    return ApprovalRequested(
        approval_id, question.rule, question.reason, moment(expires_at), question.step
    )


def locked(session: Session, project_id: int, approval_id: str) -> ApprovalRow:
    """A request, locked; its incident is to be locked before it. Raises NotFound."""
    query = select(ApprovalRow).where(
        ApprovalRow.project_id == project_id, ApprovalRow.id == approval_id
    )
    row = session.scalar(query.with_for_update().execution_options(populate_existing=True))
    if row is None:
        raise NotFound("There is no such approval in this project.", attr="approval_id")
    return row


def incident_of(session: Session, project_id: int, approval_id: str) -> str:
    """The id of the incident that a request is about. Raises NotFound."""
    query = select(ApprovalRow.incident_id).where(
        ApprovalRow.project_id == project_id, ApprovalRow.id == approval_id
    )
    found = session.scalar(query)
    if found is None:
        raise NotFound("There is no such approval in this project.", attr="approval_id")
    return found


def decide(
    row: ApprovalRow,
    incident: Incident,
    *,
    approve: bool,
    note: str | None,
    actor: Actor,
    now: datetime,
) -> None:
    """Answer a request, once. Raises Conflict for one that is answered or expired, and
    SeparationOfDuties."""
    if row.state is not ApprovalState.PENDING:
        raise Conflict(f"the approval is {row.state.value} already", code="approval_decided")
    if row.expires_at <= now:
        raise Conflict("nobody decided in time: the approval has expired", code="approval_expired")
    if row.separate and incident.raised_by == str(actor):
        raise SeparationOfDuties("who raised the exception may not decide about it")
    row.state = ApprovalState.APPROVED if approve else ApprovalState.REJECTED
    row.decided_at, row.decided_by, row.note = now, str(actor), note


def void(session: Session, incident: Incident, actor: Actor, now: datetime) -> None:
    """Take back what is still asked about an incident: it goes another way."""
    session.execute(
        update(ApprovalRow)
        .where(
            ApprovalRow.project_id == incident.project_id,
            ApprovalRow.incident_id == incident.id,
            PENDING,
        )
        .values(state=ApprovalState.VOID, decided_at=now, decided_by=str(actor))
        .execution_options(synchronize_session="fetch")
    )


def rejected(session: Session, incident: Incident) -> bool:
    """Whether a person has rejected it, in this run or an earlier one."""
    query = select(ApprovalRow.id).where(
        ApprovalRow.project_id == incident.project_id,
        ApprovalRow.incident_id == incident.id,
        ApprovalRow.state == ApprovalState.REJECTED,
    )
    return session.scalar(query.limit(1)) is not None


def overdue(session: Session, now: datetime, limit: int) -> Sequence[tuple[int, str, str]]:
    """The requests that nobody answered in time: project, incident, approval."""
    query = (
        select(ApprovalRow.project_id, ApprovalRow.incident_id, ApprovalRow.id)
        .where(PENDING, ApprovalRow.expires_at <= now)
        .order_by(ApprovalRow.expires_at)
        .limit(limit)
    )
    return [(row[0], row[1], row[2]) for row in session.execute(query)]
