"""What a person decides about an incident: each one transaction of the caller's, with its event.

Every decision names its project; what is not the project's does not exist for it (NotFound). What
does not go with how things stand raises Conflict, and changes nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from nilometer.errors import InvalidInput
from nilometer.incidents import approvals, sla
from nilometer.incidents.events import (
    ApprovalDecided,
    CommentAdded,
    DeadLetterReplayed,
    ExceptionBlocked,
    ExceptionEscalated,
    ExceptionResolved,
    OwnerAssigned,
    PlaybookRecalculationRequested,
    PlaybookStepCompletionRequested,
    ReprocessRequested,
    moment,
)
from nilometer.incidents.history import History
from nilometer.incidents.incident import Actor, ApprovalState, Incident, Status
from nilometer.incidents.lifecycle import CLOSED, REPROCESSABLE, Conflict
from nilometer.incidents.stages import failures
from nilometer.incidents.tables import NAME_LENGTH, ApprovalRow
from nilometer.workflows import dead_letters
from nilometer.workflows.dead_letters import DeadTask
from nilometer.workflows.enqueueing import cancel

MAX_COMMENT: Final = 4000
MAX_REASON: Final = 1000
"""In characters."""

_BEGUN_AGAIN: Final[dict[str, Any]] = {
    "severity": None,
    "confidence": None,
    "rules": [],
    "reasons": [],
    "fingerprint": None,
    "duplicate_of": None,
    "playbook": None,
    "step": None,
    "steps": {},
    "waits_until": None,
    "failures": 0,
    "automatic": None,
    "closed_at": None,
}
_RECALCULABLE: Final = frozenset({Status.WAITING, Status.BLOCKED, Status.ESCALATED})
_RESOLVABLE: Final = frozenset({Status.WAITING, Status.BLOCKED, Status.ESCALATED, Status.FAILED})


def reprocess(
    session: Session,
    project_id: int,
    exception_id: str,
    *,
    actor: Actor,
    reason: str | None = None,
    now: datetime,
) -> Incident:
    """Have the whole chain done again, from intake. What still waits for it is dropped, dead
    letters among it; tools are used anew, under new execution ids. An incident that was done gets a
    new deadline. Raises Conflict for one that the chain is at work on (`being_processed`)."""
    _check_text(reason, "reason", MAX_REASON)
    history = History(session, now)
    incident = history.one(project_id, exception_id)
    if incident.status not in REPROCESSABLE:
        raise Conflict(
            f"the exception is {incident.status.value}: it is being processed",
            code="being_processed",
        )
    approvals.void(session, incident, actor, now)
    cancel(session, [(project_id, incident.id)])
    deadline = sla.started(now, None) if incident.status in CLOSED else {}
    run = incident.run + 1
    history.change(
        incident,
        ReprocessRequested(run, reason),
        actor=actor,
        to=Status.RECEIVED,
        run=run,
        touched=True,
        reason=reason,
        exception_type=incident.stated_type,
        **_BEGUN_AGAIN,
        **deadline,
    )
    history.flush()
    return incident


def recalculate(
    session: Session,
    project_id: int,
    exception_id: str,
    *,
    actor: Actor,
    reason: str | None = None,
    now: datetime,
) -> Incident:
    """Have the policy asked and a playbook chosen anew. Raises Conflict unless the incident waits
    for a person, is blocked or escalated."""
    _check_text(reason, "reason", MAX_REASON)
    history = History(session, now)
    incident = _in(history, project_id, exception_id, _RECALCULABLE, "not_recalculable")
    if incident.severity is None:
        raise Conflict("the exception was never judged: have it reprocessed", code="not_judged")
    approvals.void(session, incident, actor, now)
    cancel(session, [(project_id, incident.id)])
    again = {name: _BEGUN_AGAIN[name] for name in ("playbook", "step", "steps", "waits_until")}
    history.change(
        incident,
        PlaybookRecalculationRequested(reason),
        actor=actor,
        to=Status.TRIAGED,
        run=incident.run + 1,
        touched=True,
        reason=reason,
        **again,
    )
    history.flush()
    return incident


def comment(
    session: Session,
    project_id: int,
    exception_id: str,
    text: str,
    *,
    actor: Actor,
    now: datetime,
) -> Incident:
    """Add a comment."""
    if not text.strip():
        raise InvalidInput("give a comment that says something", attr="text")
    _check_text(text, "text", MAX_COMMENT)
    history = History(session, now)
    incident = history.one(project_id, exception_id)
    history.change(incident, CommentAdded(text), actor=actor)
    history.flush()
    return incident


def assign(
    session: Session,
    project_id: int,
    exception_id: str,
    owner: str | None,
    *,
    actor: Actor,
    now: datetime,
) -> Incident:
    """Say whose it is; None for nobody's. To say the same again changes nothing."""
    _check_text(owner, "owner", NAME_LENGTH)
    if owner is not None and not owner.isprintable():
        raise InvalidInput("give an owner of printable characters", attr="owner")
    history = History(session, now)
    incident = history.one(project_id, exception_id)
    if incident.owner != (owner or None):
        told = OwnerAssigned(owner or None, incident.owner)
        history.change(incident, told, actor=actor, owner=owner or None, touched=True)
        history.flush()
    return incident


def complete_step(
    session: Session,
    project_id: int,
    exception_id: str,
    step: str,
    *,
    actor: Actor,
    succeeded: bool = True,
    note: str | None = None,
    now: datetime,
) -> Incident:
    """Say that a manual step was done, or that it cannot be; the playbook goes on from there.
    Raises Conflict unless it is the step that is waited for."""
    _check_text(note, "note", MAX_REASON)
    history = History(session, now)
    incident = _in(history, project_id, exception_id, frozenset({Status.WAITING}), "not_waiting")
    if incident.step != step:
        raise Conflict(f"the step that is waited for is {incident.step}", code="another_step")
    status = "succeeded" if succeeded else "failed"
    done = {
        **incident.steps.get(step, {}),
        "status": status,
        "output": {"note": note} if note else {},
        "finished_at": moment(now),
        "by": str(actor),
    }
    history.change(
        incident,
        PlaybookStepCompletionRequested(step, status, note),
        actor=actor,
        to=Status.IN_PROGRESS,
        steps={**incident.steps, step: done},
        waits_until=None,
        touched=True,
        reason=None,
    )
    history.flush()
    return incident


def decide_approval(
    session: Session,
    project_id: int,
    approval_id: str,
    *,
    approve: bool,
    actor: Actor,
    note: str | None = None,
    now: datetime,
) -> ApprovalRow:
    """Answer a request for approval, once. Approved, the chain goes on; rejected, the incident is
    blocked. Raises Conflict (`approval_decided`, `approval_expired`) and SeparationOfDuties."""
    _check_text(note, "note", MAX_REASON)
    history = History(session, now)
    # The incident's lock first, as everywhere: whoever holds it can then ask for the others.
    incident = history.one(project_id, approvals.incident_of(session, project_id, approval_id))
    row = approvals.locked(session, project_id, approval_id)
    approvals.decide(row, incident, approve=approve, note=note, actor=actor, now=now)
    decided = ApprovalDecided(row.id, row.state.value, note, row.step)
    if row.state is ApprovalState.APPROVED:
        history.change(incident, decided, actor=actor, to=Status.TRIAGED, touched=True, reason=None)
    else:
        reason = f"{actor} rejected it: {note}" if note else f"{actor} rejected it"
        history.change(
            incident,
            decided,
            ExceptionBlocked(row.rule, reason),
            actor=actor,
            to=Status.BLOCKED,
            touched=True,
            reason=reason,
        )
    history.flush()
    return row


def resolve(
    session: Session,
    project_id: int,
    exception_id: str,
    *,
    actor: Actor,
    reason: str,
    now: datetime,
) -> Incident:
    """Say that an incident which waits for a person is done. What still waits for it is dropped.
    Raises Conflict for one that the chain is at work on, or that is done."""
    _check_text(reason, "reason", MAX_REASON)
    history = History(session, now)
    incident = _in(history, project_id, exception_id, _RESOLVABLE, "not_resolvable")
    approvals.void(session, incident, actor, now)
    cancel(session, [(project_id, incident.id)])
    history.change(
        incident,
        ExceptionResolved(reason),
        actor=actor,
        to=Status.RESOLVED,
        touched=True,
        automatic=False,
        waits_until=None,
        reason=reason,
        closed_at=now,
        **sla.ended(incident, now),
    )
    history.flush()
    return incident


def replay_dead_letter(
    session: Session,
    project_id: int,
    task_id: str,
    *,
    actor: Actor,
    reason: str,
    now: datetime,
) -> Incident:
    """Have a task that was given up done again, with all its attempts before it; the incident is
    where it was. Raises NotFound for a task that is no dead letter of the project, and
    AlreadyDecided."""
    history, incident = _of_letter(session, project_id, task_id, reason, now)
    letter = dead_letters.replay(
        session, project_id, task_id, by=str(actor), because=reason, now=now
    )
    tell_replayed(history, incident, letter, actor, reason)
    history.flush()
    return incident


def discard_dead_letter(
    session: Session,
    project_id: int,
    task_id: str,
    *,
    actor: Actor,
    reason: str,
    now: datetime,
) -> Incident:
    """Have a task that was given up left out, for good. An incident that waited for it is a
    person's from now on. Raises as `replay_dead_letter`."""
    history, incident = _of_letter(session, project_id, task_id, reason, now)
    letter = dead_letters.discard(
        session, project_id, task_id, by=str(actor), because=reason, now=now
    )
    tell_discarded(history, incident, letter, actor, reason)
    history.flush()
    return incident


def tell_replayed(
    history: History, incident: Incident, letter: DeadTask, actor: Actor, reason: str
) -> None:
    """The part of a replay that is the incident's."""
    history.change(
        incident,
        DeadLetterReplayed(letter.queue, letter.id, "replayed", reason),
        actor=actor,
        causation_id=letter.causation_id,
        to=failures.status_before(letter.queue, incident),
        touched=True,
        reason=reason,
    )


def tell_discarded(
    history: History, incident: Incident, letter: DeadTask, actor: Actor, reason: str
) -> None:
    """The part of a discard that is the incident's."""
    told = DeadLetterReplayed(letter.queue, letter.id, "discarded", reason)
    if incident.status is not Status.FAILED:
        history.change(incident, told, actor=actor, causation_id=letter.causation_id)
        return
    history.change(
        incident,
        told,
        ExceptionEscalated("dead_letter_discarded", reason),
        actor=actor,
        causation_id=letter.causation_id,
        to=Status.ESCALATED,
        touched=True,
        reason=reason,
    )


def check_reason(reason: str) -> None:
    """Raises InvalidInput for a reason that says nothing, or too much."""
    if not reason.strip():
        raise InvalidInput("say why", attr="reason")
    _check_text(reason, "reason", MAX_REASON)


def _of_letter(
    session: Session, project_id: int, task_id: str, reason: str, now: datetime
) -> tuple[History, Incident]:
    """The incident of a dead letter, locked."""
    check_reason(reason)
    letter = dead_letters.get(session, project_id, task_id)
    history = History(session, now)
    return history, history.one(project_id, letter.lane)


def _in(
    history: History, project_id: int, exception_id: str, among: frozenset[Status], code: str
) -> Incident:
    """An incident whose status is one of these, locked."""
    incident = history.one(project_id, exception_id)
    if incident.status not in among:
        raise Conflict(f"the exception is {incident.status.value}", code=code)
    return incident


def _check_text(text: str | None, name: str, most: int) -> None:
    if text is not None and len(text) > most:
        raise InvalidInput(f"give at most {most} characters", attr=name)
