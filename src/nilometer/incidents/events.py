"""Incident events: one typed registry of everything that can happen to an incident.

A type has a name, a version, the facts of its payload, the module that produces it, and who
consumes it: a stage, by its queue, and the timeline, which has a sentence for every one. A test
fails for a type that nobody produces or consumes. JSON names are the contract's, in camelCase.

Old versions stay readable: a type of version n has n - 1 upcasters, each of which brings a payload
from one version to the next. What is older than the payload's class is read through them. What a
later release wrote is `Unread`, and shown as it is: while workers are replaced, both are at work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from nilometer.incidents.incident import Actor, ActorKind

Json = dict[str, Any]
Upcaster = Callable[[Json], Json]


@dataclass(frozen=True, slots=True)
class Payload:
    """The facts of an event; one class a type."""


_P = TypeVar("_P", bound=type[Payload])


def _always(_: Payload) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class EventType:
    """One entry. `producers` are modules of this room; `consumers` are queues of stages, besides
    the timeline, of those payloads that `goes_on` is true of. `upcasters[i]` brings a payload of
    version i + 1 to version i + 2."""

    name: str
    version: int
    payload: type[Payload]
    producers: tuple[str, ...]
    consumers: tuple[str, ...] = ()
    goes_on: Callable[[Any], bool] = _always
    upcasters: tuple[Upcaster, ...] = ()


@dataclass(frozen=True, slots=True)
class Unread(Payload):
    """The facts, by their JSON names, of an event that this release does not know: of a type that
    it has not, or of a version that is not among its own. Read, and never written."""

    name: str
    version: int
    facts: Mapping[str, Any] = field(repr=False)


REGISTRY: Final[dict[str, EventType]] = {}
_BY_CLASS: Final[dict[type[Payload], EventType]] = {}
_NAMES: Final[dict[type[Payload], tuple[tuple[str, str], ...]]] = {}


def _event(
    *producers: str,
    to: tuple[str, ...] = (),
    when: Callable[[Any], bool] = _always,
    version: int = 1,
    upcasters: tuple[Upcaster, ...] = (),
) -> Callable[[_P], _P]:
    def register(payload: _P) -> _P:
        kind = EventType(payload.__name__, version, payload, producers, to, when, upcasters)
        REGISTRY[kind.name] = _BY_CLASS[payload] = kind
        _NAMES[payload] = tuple((each.name, _camel(each.name)) for each in fields(payload))
        return payload

    return register


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


@_event("accept", to=("intake",))
@dataclass(frozen=True, slots=True)
class ExceptionIngested(Payload):
    """It was accepted, durably, under its id."""

    exception_type: str
    source_system: str
    severity: str | None
    occurred_at: str


@_event("stages.intake", to=("triage",))
@dataclass(frozen=True, slots=True)
class ExceptionNormalized(Payload):
    """It was read by the domain pack; `redacted` are the places that are kept no more."""

    exception_type: str
    domain: str | None
    entity: str | None
    amount: str | None
    sla_deadline: str | None
    redacted: list[str]
    pack: str | None
    pack_version: int | None


@_event("stages.intake")
@dataclass(frozen=True, slots=True)
class DuplicateDetected(Payload):
    """Another incident of the same fingerprint was raised within the pack's window."""

    duplicate_of: str
    fingerprint: str
    window_seconds: int


@_event("stages.triage", to=("policy",))
@dataclass(frozen=True, slots=True)
class TriageCompleted(Payload):
    """Its type and severity were judged; `reasons` says by which rules."""

    exception_type: str
    severity: str
    confidence: float
    reasons: list[str]


@_event("stages.policy", to=("playbook",), when=lambda decided: decided.outcome == "allow")
@dataclass(frozen=True, slots=True)
class PolicyEvaluated(Payload):
    """The policy decided (`allow`, `require_approval`, `block`, `escalate`), by this rule. Only
    what it allowed goes on to a playbook, and to no other than `playbook`, the one that it judged:
    None where none fitted, or in what an earlier release wrote, which did not tell."""

    outcome: str
    rule: str
    reason: str
    playbook: str | None = None


@_event("approvals")
@dataclass(frozen=True, slots=True)
class ApprovalRequested(Payload):
    """A person is to decide until `expires_at`; `step` is None where the whole chain waits."""

    approval_id: str
    rule: str
    reason: str
    expires_at: str
    step: str | None = None


@_event(
    *("decisions", "stages.expiry"),
    to=("playbook",),
    when=lambda decided: decided.outcome == "approved",
)
@dataclass(frozen=True, slots=True)
class ApprovalDecided(Payload):
    """It was approved or rejected, or nobody decided in time (`expired`)."""

    approval_id: str
    outcome: str
    note: str | None = None
    step: str | None = None


@_event("stages.playbook")
@dataclass(frozen=True, slots=True)
class PlaybookMatched(Payload):
    """A playbook was chosen; `considered` says of each why, or why not. None: there is none."""

    playbook: str | None
    considered: list[str]


@_event("decisions", to=("policy",))
@dataclass(frozen=True, slots=True)
class PlaybookRecalculationRequested(Payload):
    """Somebody wants the policy asked and a playbook chosen anew."""

    reason: str | None


@_event("decisions", to=("intake",))
@dataclass(frozen=True, slots=True)
class ReprocessRequested(Payload):
    """Somebody wants the whole chain again; `run` counts how often it began."""

    run: int
    reason: str | None


@_event("stages.playbook")
@dataclass(frozen=True, slots=True)
class StepExecutionRequested(Payload):
    """A step of the playbook is its turn; `manual` ones wait for a person."""

    playbook: str
    step: str
    action: str
    manual: bool
    instructions: str | None = None


@_event("stages.playbook")
@dataclass(frozen=True, slots=True)
class StepCompleted(Payload):
    """A step came to its end: `succeeded`, `failed` or `skipped`, and why."""

    playbook: str
    step: str
    status: str
    detail: str | None = None


@_event("decisions", "stages.expiry", to=("playbook",))
@dataclass(frozen=True, slots=True)
class PlaybookStepCompletionRequested(Payload):
    """A person did a manual step, or gave it up."""

    step: str
    status: str
    note: str | None = None


@_event("stages.playbook", to=("tool",))
@dataclass(frozen=True, slots=True)
class ToolExecutionRequested(Payload):
    """A tool is to be used. `execution_id` stays the same over all attempts: it is the idempotency
    key that is sent."""

    execution_id: str
    step: str
    tool: str
    dry_run: bool


@_event("stages.tool", to=("playbook",))
@dataclass(frozen=True, slots=True)
class ToolExecutionCompleted(Payload):
    """A tool was used, to what end, after how many attempts. `outcome`: `succeeded`, `failed`."""

    execution_id: str
    step: str
    tool: str
    outcome: str
    attempts: int
    code: str | None = None
    detail: str | None = None


@_event("stages.failures", "stages.tool")
@dataclass(frozen=True, slots=True)
class RetryScheduled(Payload):
    """A task of the incident failed and is tried again at `due_at`."""

    stage: str
    attempts: int
    due_at: str
    code: str
    detail: str


@_event("stages.failures")
@dataclass(frozen=True, slots=True)
class DeadLettered(Payload):
    """A task of the incident was given up; it waits to be replayed or discarded."""

    stage: str
    task_id: str
    attempts: int
    code: str
    detail: str
    error_class: str


@_event("decisions")
@dataclass(frozen=True, slots=True)
class DeadLetterReplayed(Payload):
    """Somebody had a task that was given up done again, or left out (`discarded`)."""

    stage: str
    task_id: str
    outcome: str
    reason: str


@_event("stages.sla")
@dataclass(frozen=True, slots=True)
class SLAImminent(Payload):
    """Little time is left."""

    deadline: str


@_event("stages.sla")
@dataclass(frozen=True, slots=True)
class SLAExpired(Payload):
    """The deadline has passed."""

    deadline: str


@_event("stages.playbook")
@dataclass(frozen=True, slots=True)
class PlaybookCompleted(Payload):
    """Every step of the playbook came to its end; `status`: `succeeded` or `failed`."""

    playbook: str
    status: str
    detail: str | None = None


@_event("stages.policy", "decisions", to=("feedback",))
@dataclass(frozen=True, slots=True)
class ExceptionBlocked(Payload):
    """A policy or a person stopped the chain."""

    rule: str
    reason: str


@_event("stages.policy", "stages.playbook", "stages.expiry", "decisions", to=("feedback",))
@dataclass(frozen=True, slots=True)
class ExceptionEscalated(Payload):
    """It was handed to a person."""

    rule: str
    reason: str


@_event("stages.playbook", "decisions", to=("feedback",))
@dataclass(frozen=True, slots=True)
class ExceptionResolved(Payload):
    """It is done."""

    reason: str


@_event("decisions", "stages.playbook")
@dataclass(frozen=True, slots=True)
class CommentAdded(Payload):
    """Somebody, or a step, said something."""

    text: str


@_event("decisions", "stages.playbook")
@dataclass(frozen=True, slots=True)
class OwnerAssigned(Payload):
    """Whose it is; None: nobody's."""

    owner: str | None
    before: str | None


@_event("feedback")
@dataclass(frozen=True, slots=True)
class FeedbackCaptured(Payload):
    """What came of it, and how long it took, in seconds. `automatic`: no person had a part."""

    outcome: str
    automatic: bool
    seconds: float
    seconds_to_first_action: float | None
    sla: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentEvent:
    """An event with its envelope. `sequence` counts from 1 within the incident, without a gap.
    `causation_id` is the event that led to this one; `traceparent` as W3C has it."""

    event_id: str
    project_id: int
    incident_id: str
    sequence: int
    occurred_at: datetime
    actor: Actor
    causation_id: str | None
    correlation_id: str
    traceparent: str | None
    payload: Payload = field(repr=False)

    @property
    def kind(self) -> EventType:
        """The entry of the registry, or one that has nothing but the name and the version."""
        return type_of(self.payload)

    def to_json(self, facts: Json | None = None) -> Json:
        """The envelope as the topic and the API have it; `facts` are the payload's (`payload_json`)
        where they are at hand."""
        return {
            "eventId": self.event_id,
            "type": self.kind.name,
            "version": self.kind.version,
            "tenantId": self.project_id,
            "exceptionId": self.incident_id,
            "sequence": self.sequence,
            "occurredAt": moment(self.occurred_at),
            "actor": {"kind": self.actor.kind.value, "id": self.actor.id},
            "causationId": self.causation_id,
            "correlationId": self.correlation_id,
            "traceparent": self.traceparent,
            "payload": payload_json(self.payload) if facts is None else facts,
        }

    @classmethod
    def from_json(cls, envelope: Mapping[str, Any]) -> IncidentEvent:
        """The event of an envelope, of whatever version."""
        actor = envelope["actor"]
        return cls(
            event_id=envelope["eventId"],
            project_id=envelope["tenantId"],
            incident_id=envelope["exceptionId"],
            sequence=envelope["sequence"],
            occurred_at=datetime.fromisoformat(envelope["occurredAt"]),
            actor=Actor(ActorKind(actor["kind"]), actor["id"]),
            causation_id=envelope.get("causationId"),
            correlation_id=envelope["correlationId"],
            traceparent=envelope.get("traceparent"),
            payload=read_payload(envelope["type"], envelope["version"], envelope["payload"]),
        )


def type_of(payload: Payload) -> EventType:
    """The entry of a payload's class."""
    if isinstance(payload, Unread):
        return EventType(payload.name, payload.version, Unread, ())
    return _BY_CLASS[type(payload)]


def consumers_of(payload: Payload) -> tuple[str, ...]:
    """The queues of the stages that work on an event with this payload."""
    kind = _BY_CLASS[type(payload)]
    return kind.consumers if kind.goes_on(payload) else ()


def payload_json(payload: Payload) -> Json:
    """A payload's facts by their JSON names."""
    if isinstance(payload, Unread):
        return dict(payload.facts)
    return {named: getattr(payload, name) for name, named in _NAMES[type(payload)]}


def read_payload(
    name: str,
    version: int,
    stored: Mapping[str, Any],
    registry: Mapping[str, EventType] = REGISTRY,
) -> Payload:
    """The payload that was stored under a name and a version. Members that its class does not have
    are left out. `Unread` of a type that there is not, or a version of a later release.
    """
    kind = registry.get(name)
    if kind is None or not 1 <= version <= kind.version:
        return Unread(name, version, stored)
    facts = dict(stored)
    for upcast in kind.upcasters[version - 1 :]:
        facts = upcast(facts)
    names = _NAMES[kind.payload]
    return kind.payload(**{name: facts[named] for name, named in names if named in facts})


def moment(at: datetime) -> str:
    """A moment as it is written in events: RFC 3339, UTC, to the microsecond."""
    if at.tzinfo is None:
        raise ValueError("a datetime without a time zone is ambiguous; give one with a zone")
    return at.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"
