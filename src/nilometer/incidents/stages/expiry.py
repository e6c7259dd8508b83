"""What nobody saw to in time: an approval that was not decided, a manual step that was not done."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from nilometer.incidents import approvals
from nilometer.incidents.events import (
    ApprovalDecided,
    ExceptionEscalated,
    PlaybookStepCompletionRequested,
    moment,
)
from nilometer.incidents.history import History, Key
from nilometer.incidents.incident import ApprovalState, Incident, Status, system
from nilometer.incidents.tables import ApprovalRow, IncidentRow

APPROVAL_EXPIRED = "approval_expired"
"""The rule by which an incident is a person's then."""

_ACTOR = system("expiry")
_LATE = "nobody did it in time"


def due(session: Session, now: datetime) -> bool:
    """Whether there is anything to expire."""
    return bool(approvals.overdue(session, now, 1) or _late(session, now, 1))


def sweep(session: Session, now: datetime, limit: int) -> int:
    """Expire at most so many approvals, and as many manual steps; how many that were."""
    return _approvals(session, now, limit) + _steps(session, now, limit)


def _approvals(session: Session, now: datetime, limit: int) -> int:
    found = approvals.overdue(session, now, limit)
    history = History(session, now)
    incidents = history.load((project_id, incident_id) for project_id, incident_id, _ in found)
    for project_id, incident_id, approval_id in found:
        row = approvals.locked(session, project_id, approval_id)
        if row.state is ApprovalState.PENDING:  # nobody was faster
            _expire(history, incidents[project_id, incident_id], row)
    history.flush()
    return len(found)


def _expire(history: History, incident: Incident, row: ApprovalRow) -> None:
    row.state, row.decided_at, row.decided_by = ApprovalState.EXPIRED, history.now, str(_ACTOR)
    told = ApprovalDecided(row.id, row.state.value, None, row.step)
    if incident.status is not Status.AWAITING_APPROVAL:
        history.change(incident, told, actor=_ACTOR)
        return
    reason = f"nobody decided in time: {row.reason}"
    history.change(
        incident,
        told,
        ExceptionEscalated(APPROVAL_EXPIRED, reason),
        actor=_ACTOR,
        to=Status.ESCALATED,
        reason=reason,
    )


def _steps(session: Session, now: datetime, limit: int) -> int:
    found = _late(session, now, limit)
    history = History(session, now)
    for incident in history.load(found).values():
        _give_up(history, incident)
    history.flush()
    return len(found)


def _late(session: Session, now: datetime, limit: int) -> list[Key]:
    query = (
        select(IncidentRow.project_id, IncidentRow.id)
        .where(IncidentRow.waits_until.is_not(None), IncidentRow.waits_until <= now)
        .order_by(IncidentRow.waits_until)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in session.execute(query)]


def _give_up(history: History, incident: Incident) -> None:
    """The step has failed; the playbook goes on from there."""
    step = incident.step
    if incident.status is not Status.WAITING or step is None:
        history.change(incident, actor=_ACTOR, waits_until=None)
        return
    if incident.waits_until is None or incident.waits_until > history.now:
        return
    ended = {
        **incident.steps.get(step, {}),
        "status": "failed",
        "code": "timed_out",
        "detail": _LATE,
        "finished_at": moment(history.now),
    }
    history.change(
        incident,
        PlaybookStepCompletionRequested(step, "failed", _LATE),
        actor=_ACTOR,
        to=Status.IN_PROGRESS,
        steps={**incident.steps, step: ended},
        waits_until=None,
        reason=None,
    )
