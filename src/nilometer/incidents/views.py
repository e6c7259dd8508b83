"""What reads of incidents give: frozen, and of one project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Generic, TypeVar

from nilometer.incidents.incident import ApprovalState, Deadline, Severity, Status
from nilometer.workflows.task import ErrorClass

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which incidents; None for whatever it is. `since` is included and `until` is not: both are of
    the acceptance."""

    status: Status | None = None
    severity: Severity | None = None
    exception_type: str | None = None
    source_system: str | None = None
    owner: str | None = None
    deadline: Deadline | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An incident as lists show it: without what was sent, and without its steps. `sequence` is
    that of its last event."""

    id: str
    version: int
    sequence: int
    status: Status
    severity: Severity | None
    exception_type: str
    source_system: str
    domain: str | None
    entity: str | None
    amount: Decimal | None
    occurred_at: datetime
    received_at: datetime
    updated_at: datetime
    closed_at: datetime | None
    duplicate_of: str | None
    sla_deadline: datetime | None
    sla_state: Deadline
    playbook: str | None
    step: str | None
    owner: str | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A decision that a person was asked for. `separate`: who raised the incident may not decide.
    `step` is None where the whole chain waits."""

    id: str
    incident_id: str
    run: int
    step: str | None
    state: ApprovalState
    rule: str
    reason: str
    separate: bool
    requested_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    note: str | None


class LetterState(StrEnum):
    """What has become of a dead letter. One that was replayed is a task again."""

    OPEN = "open"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A task of an incident that was given up, as lists show it. `error…` are of the last
    attempt."""

    id: str
    incident_id: str
    sequence: int
    queue: str
    kind: str
    state: LetterState
    attempts: int
    losses: int
    error_code: str | None
    error: str | None
    error_class: ErrorClass | None
    causation_id: str | None
    created_at: datetime
    dead_at: datetime | None
    decided_at: datetime | None
    decided_by: str | None
    decided_because: str | None

    @property
    def listed_at(self) -> datetime:
        """The moment that lists are ordered by."""
        at = self.dead_at if self.state is LetterState.OPEN else self.decided_at
        return at or self.created_at


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeDeadLetter(DeadLetter):
    """A dead letter with what its stage was given."""

    payload: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows, newest first, and whether older ones follow."""

    rows: Sequence[Row]
    more: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """An incident's events by type, and when the first and the last of them was."""

    types: dict[str, int]
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Duration:
    """How long an incident took from its acceptance, in seconds: until something was first done for
    it, and until it was resolved; and whether no person had a part."""

    to_first_action: float | None
    to_resolution: float
    automatic: bool
