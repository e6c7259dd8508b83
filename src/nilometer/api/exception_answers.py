"""Incidents, their events and approvals as the API answers them, in the contract's camel case.

Each class is the shape of an answer for the OpenAPI page; the function beside it makes one.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from nilometer.api import shapes
from nilometer.incidents import timeline
from nilometer.incidents.events import IncidentEvent
from nilometer.incidents.incident import ApprovalState, Deadline, Incident, Severity, Status
from nilometer.incidents.views import Approval, DeadLetter, LetterState, Summary, WholeDeadLetter
from nilometer.workflows.task import ErrorClass


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class ActorAnswer(_Answer):
    """Who did something."""

    kind: str = Field(description="`key`, `rule` or `system`.")
    id: str


class EventAnswer(_Answer):
    """Something that happened to an exception."""

    event_id: str
    type: str
    version: int
    tenant_id: int
    exception_id: str
    sequence: int = Field(description="Counts from 1, without a gap.")
    occurred_at: str
    actor: ActorAnswer
    causation_id: str | None = Field(description="The event that led to this one.")
    correlation_id: str
    traceparent: str | None = Field(description="The trace context, as W3C has it.")
    payload: dict[str, Any]
    summary: str = Field(description="What happened, and why, in a sentence.")


class EventsAnswer(_Answer):
    """What happened to an exception, in order. `next` is a path on this server."""

    next: str | None
    previous: None
    results: list[EventAnswer]


class ExceptionSummaryAnswer(_Answer):
    """An exception in a list."""

    exception_id: str
    tenant_id: int
    version: int = Field(description="Counts the changes.")
    sequence: int = Field(description="Of its last event.")
    status: Status
    severity: Severity | None
    exception_type: str
    source_system: str
    domain: str | None
    entity: str | None
    amount: str | None = Field(description="An exact decimal.")
    occurred_at: str
    received_at: str
    updated_at: str
    closed_at: str | None
    duplicate_of: str | None
    sla_deadline: str | None
    sla_state: Deadline
    playbook: str | None
    step: str | None
    owner: str | None
    reason: str | None = Field(description="Why the status is what it is.")


class ExceptionAnswer(ExceptionSummaryAnswer):
    """An exception, with what was sent (redacted) and what happened to it."""

    stated_type: str = Field(description="As it was sent; triage may have judged otherwise.")
    stated_severity: str | None
    payload: dict[str, Any] | None = Field(
        description="Null while a pack's redaction is still to be applied."
    )
    redacted: list[str] = Field(description="Where the payload is kept no more.")
    raised_by: str
    traceparent: str | None
    pack: str | None = Field(description="The domain pack that it was read by.")
    pack_version: int | None
    confidence: float | None
    reasons: list[str] = Field(description="Why triage judged as it did.")
    steps: dict[str, Any] = Field(description="What each step of the playbook came to.")
    run: int = Field(description="How often the chain was begun for it.")
    automatic: bool | None
    events: list[EventAnswer] = Field(description="By `sequence`; at most the first 500.")
    next_events: str | None = Field(description="Where there are more.")


class ExceptionsAnswer(_Answer):
    """A page of exceptions, newest first. `next` is a path on this server."""

    next: str | None
    previous: None
    results: list[ExceptionSummaryAnswer]


class PlaybookAnswer(_Answer):
    """How a playbook goes, step by step."""

    exception_id: str
    tenant_id: int
    status: Status
    playbook: str | None = Field(description="Null while none was chosen, or none fits.")
    pack: str | None
    pack_version: int | None
    current_step: str | None
    steps: list[dict[str, Any]] = Field(
        description="In order: `step` is the name, `number` counts from 1, `action` is what it "
        "does, `status` what came of it; `pending` before it was begun."
    )


class AcceptedAnswer(_Answer):
    """An exception that is durable under its id, and will be worked on."""

    exception_id: str
    status: str = Field(description="`accepted`.")


class ItemError(_Answer):
    """What is wrong with one exception of a list."""

    type: str
    code: str
    detail: str
    attr: str | None


class ItemAnswer(_Answer):
    """What came of one exception of a list."""

    status: str = Field(description="`accepted` or `rejected`.")
    exception_id: str | None = None
    error: ItemError | None = None


class AcceptedManyAnswer(_Answer):
    """What came of each exception of a list, in its order."""

    status: str = Field(description="`accepted`, or `partial` where some were rejected.")
    accepted: int
    rejected: int
    results: list[ItemAnswer]


class ApprovalAnswer(_Answer):
    """A decision that a person was asked for."""

    approval_id: str
    tenant_id: int
    exception_id: str
    state: ApprovalState
    rule: str
    reason: str
    step: str | None = Field(description="Null where the whole chain waits.")
    separate: bool = Field(description="Whether who raised the exception may not decide.")
    requested_at: str
    expires_at: str
    decided_at: str | None
    decided_by: str | None
    note: str | None


class ApprovalsAnswer(_Answer):
    """A page of approvals, newest first. `next` is a path on this server."""

    next: str | None
    previous: None
    results: list[ApprovalAnswer]


class DeadLetterAnswer(_Answer):
    """A task of an exception that its stage gave up."""

    letter_id: str
    tenant_id: int
    exception_id: str
    sequence: int = Field(description="Of the event that asked for the task.")
    stage: str
    kind: str
    state: LetterState
    attempts: int
    losses: int = Field(description="How often a worker had it and was heard of no more.")
    error_code: str | None
    error: str | None
    error_class: ErrorClass | None
    causation_id: str | None
    created_at: str
    dead_at: str | None
    decided_at: str | None
    decided_by: str | None
    reason: str | None = Field(description="Why it was discarded.")


class DeadLetterDetailAnswer(DeadLetterAnswer):
    """A dead letter with what its stage was given."""

    payload: dict[str, Any]
    event: EventAnswer | None


class DeadLettersAnswer(_Answer):
    """A page of dead letters, newest first. `next` is a path on this server."""

    next: str | None
    previous: None
    results: list[DeadLetterAnswer]


class DecidedLetterAnswer(_Answer):
    """A dead letter that was decided about, and the exception's status since."""

    letter_id: str
    tenant_id: int
    exception_id: str
    state: str = Field(description="`replayed` or `discarded`.")
    status: Status


class DecidedLettersAnswer(_Answer):
    """Dead letters that were decided about together."""

    tenant_id: int
    state: str = Field(description="`replayed` or `discarded`.")
    dry_run: bool = Field(description="Whether it would be so, and nothing was changed.")
    decided: int
    left: int = Field(description="How many more the filter lets through.")
    before: str = Field(description="Give it again for what is left.")
    letter_ids: list[str]


def summary(tenant_id: int, found: Summary | Incident) -> shapes.Json:
    """An incident in a list."""
    return {
        "exceptionId": found.id,
        "tenantId": tenant_id,
        "version": found.version,
        "sequence": found.sequence,
        "status": found.status,
        "severity": found.severity,
        "exceptionType": found.exception_type,
        "sourceSystem": found.source_system,
        "domain": found.domain,
        "entity": found.entity,
        "amount": None if found.amount is None else f"{found.amount:f}",
        "occurredAt": shapes.moment(found.occurred_at),
        "receivedAt": shapes.moment(found.received_at),
        "updatedAt": shapes.moment(found.updated_at),
        "closedAt": shapes.moment(found.closed_at),
        "duplicateOf": found.duplicate_of,
        "slaDeadline": shapes.moment(found.sla_deadline),
        "slaState": found.sla_state,
        "playbook": found.playbook,
        "step": found.step,
        "owner": found.owner,
        "reason": found.reason,
    }


def incident(
    found: Incident, events: list[IncidentEvent], *, next_events: str | None, withheld: bool
) -> shapes.Json:
    """An incident with its events, and without its payload where that is `withheld`."""
    return {
        **summary(found.project_id, found),
        "statedType": found.stated_type,
        "statedSeverity": found.stated_severity,
        "payload": None if withheld else found.payload,
        "redacted": found.redacted,
        "raisedBy": found.raised_by,
        "traceparent": found.traceparent,
        "pack": found.pack,
        "packVersion": found.pack_version,
        "confidence": found.confidence,
        "reasons": found.reasons,
        "steps": found.steps,
        "run": found.run,
        "automatic": found.automatic,
        "events": [event(each) for each in events],
        "nextEvents": next_events,
    }


def event(found: IncidentEvent) -> shapes.Json:
    """An event with its sentence."""
    return {**found.to_json(), "summary": timeline.sentence(found)}


def approval(tenant_id: int, found: Approval) -> shapes.Json:
    """An approval."""
    return {
        "approvalId": found.id,
        "tenantId": tenant_id,
        "exceptionId": found.incident_id,
        "state": found.state,
        "rule": found.rule,
        "reason": found.reason,
        "step": found.step,
        "separate": found.separate,
        "requestedAt": shapes.moment(found.requested_at),
        "expiresAt": shapes.moment(found.expires_at),
        "decidedAt": shapes.moment(found.decided_at),
        "decidedBy": found.decided_by,
        "note": found.note,
    }


def dead_letter(tenant_id: int, found: DeadLetter) -> shapes.Json:
    """A dead letter in a list."""
    return {
        "letterId": found.id,
        "tenantId": tenant_id,
        "exceptionId": found.incident_id,
        "sequence": found.sequence,
        "stage": found.queue,
        "kind": found.kind,
        "state": found.state,
        "attempts": found.attempts,
        "losses": found.losses,
        "errorCode": found.error_code,
        "error": found.error,
        "errorClass": found.error_class,
        "causationId": found.causation_id,
        "createdAt": shapes.moment(found.created_at),
        "deadAt": shapes.moment(found.dead_at),
        "decidedAt": shapes.moment(found.decided_at),
        "decidedBy": found.decided_by,
        "reason": found.decided_because,
    }


def dead_letter_detail(
    tenant_id: int, found: WholeDeadLetter, asked_by: IncidentEvent | None
) -> shapes.Json:
    """A dead letter with what its stage was given, and the event that asked for it."""
    return {
        **dead_letter(tenant_id, found),
        "payload": found.payload,
        "event": asked_by and event(asked_by),
    }
