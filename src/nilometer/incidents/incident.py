"""The nouns of this room: an incident, what is raised, who acts. An *exception* in the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

OWN_SOURCE: Final = "nilometer"
"""The source system of what is raised here, by a rule; no key may claim it."""


class Status(StrEnum):
    """Where an incident is. `lifecycle` says what may follow what.

    Accepted and not yet looked at; normalised; another one of the same; judged; waiting for an
    approval; under a playbook; waiting for a person to do a step; stopped by a policy; handed to a
    person; stopped by a task that was given up; done.
    """

    RECEIVED = "received"
    OPEN = "open"
    DUPLICATE = "duplicate"
    TRIAGED = "triaged"
    AWAITING_APPROVAL = "awaiting_approval"
    IN_PROGRESS = "in_progress"
    WAITING = "waiting"
    BLOCKED = "blocked"
    ESCALATED = "escalated"
    FAILED = "failed"
    RESOLVED = "resolved"


class Severity(StrEnum):
    """How bad it is, the least first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Deadline(StrEnum):
    """How an incident stands to its SLA: it has none; time is left; little is left; it has passed;
    the incident was done before it."""

    NONE = "none"
    RUNNING = "running"
    IMMINENT = "imminent"
    EXPIRED = "expired"
    MET = "met"


class ApprovalState(StrEnum):
    """What has become of a request for approval. `void`: the incident went another way."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    VOID = "void"


class ActorKind(StrEnum):
    """What acts: a person or program with a key, an alert rule, or a stage of the chain."""

    KEY = "key"
    RULE = "rule"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something. `id` names the key, the rule or the stage; never a token."""

    kind: ActorKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.id}"


def kind_of(actor: str) -> ActorKind:
    """The kind of an actor that was written down (`str(actor)`)."""
    return ActorKind(actor.partition(":")[0])


def system(stage: str) -> Actor:
    """The actor of what a stage does by itself."""
    return Actor(ActorKind.SYSTEM, stage)


@dataclass(frozen=True, slots=True)
class NewException:
    """What is raised. `occurred_at` is aware, and the moment of acceptance unless given;
    `severity` is what the sender thinks, which triage may overrule."""

    exception_type: str
    source_system: str
    severity: str | None = None
    occurred_at: datetime | None = None
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """An exception that was accepted, durable with the caller's commit. `exception_id` is its id
    for good. `repeated`: the idempotency key had been used for the same before."""

    exception_id: str
    status: str = "accepted"
    repeated: bool = False


@dataclass(slots=True, kw_only=True)
class Incident:
    """An incident as its row has it, within one transaction; only `history` changes it.

    `version` counts its changes, `sequence` is that of its last event, `run` how often the chain
    was begun for it. `payload` is redacted, and `redacted` tells where. `confidence` is from 0 to
    1, `rules` are those of triage that matched. `allowed_at` is when a policy that counts allowed
    it. `steps` has what each step of the playbook came to, by name; one that a person is to do is
    waited for until `waits_until`. `failures` counts attempts of tasks. `reason` says in a sentence
    why the status is what it is. `touched`: a person had a part in it; `automatic`: it was resolved
    and nobody had.
    """

    project_id: int
    id: str
    version: int
    sequence: int
    run: int
    status: Status
    severity: Severity | None
    exception_type: str
    source_system: str
    stated_type: str
    stated_severity: str | None
    domain: str | None
    entity: str | None
    amount: Decimal | None
    occurred_at: datetime
    received_at: datetime
    updated_at: datetime
    payload: dict[str, Any] = field(repr=False)
    redacted: list[str]
    raised_by: str
    traceparent: str | None
    pack: str | None
    pack_version: int | None
    fingerprint: str | None
    duplicate_of: str | None
    sla_deadline: datetime | None
    sla_next_at: datetime | None
    sla_state: Deadline
    confidence: float | None
    rules: list[str]
    reasons: list[str]
    allowed_at: datetime | None
    playbook: str | None
    step: str | None
    steps: dict[str, dict[str, Any]] = field(repr=False)
    waits_until: datetime | None
    failures: int
    owner: str | None
    reason: str | None
    touched: bool
    automatic: bool | None
    first_action_at: datetime | None
    closed_at: datetime | None
