"""The tables of this room: incidents, their events, approvals, and the idempotency keys.

An incident's key is (project, id): no statement can name one without its project. An id is a UUID
of version 7, so the order of the keys is the order of acceptance.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, ForeignKeyConstraint, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from nilometer.access.tables import Project
from nilometer.database.engine import Base
from nilometer.database.types import ExactDecimal, UtcDateTime, stored_as_text
from nilometer.incidents.incident import ActorKind, ApprovalState, Deadline, Severity, Status

ID_LENGTH = 36
NAME_LENGTH = 200
"""The longest type, source, domain, playbook or step, in characters."""
ENTITY_LENGTH = 500
ACTOR_LENGTH = 232


def _present(column: str) -> dict[str, Any]:
    """An index of the few rows that have a value here."""
    condition = text(f"{column} IS NOT NULL")
    return {"sqlite_where": condition, "postgresql_where": condition}


class IncidentRow(Base):
    """An incident, as `incident.Incident` describes it."""

    __tablename__ = "incidents"

    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id), primary_key=True)
    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    version: Mapped[int]
    sequence: Mapped[int]
    run: Mapped[int]
    status: Mapped[Status] = mapped_column(stored_as_text(Status))
    severity: Mapped[Severity | None] = mapped_column(stored_as_text(Severity))
    exception_type: Mapped[str] = mapped_column(String(NAME_LENGTH))
    source_system: Mapped[str] = mapped_column(String(NAME_LENGTH))
    stated_type: Mapped[str] = mapped_column(String(NAME_LENGTH))
    stated_severity: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    domain: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    entity: Mapped[str | None] = mapped_column(String(ENTITY_LENGTH))
    amount: Mapped[Decimal | None] = mapped_column(ExactDecimal)
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    redacted: Mapped[list[str]] = mapped_column(JSON)
    raised_by: Mapped[str] = mapped_column(String(ACTOR_LENGTH))
    traceparent: Mapped[str | None] = mapped_column(String(100))
    pack: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    pack_version: Mapped[int | None]
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    duplicate_of: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    sla_deadline: Mapped[datetime | None] = mapped_column(UtcDateTime)
    sla_next_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    sla_state: Mapped[Deadline] = mapped_column(stored_as_text(Deadline))
    confidence: Mapped[float | None] = mapped_column(Float)
    rules: Mapped[list[str]] = mapped_column(JSON)
    reasons: Mapped[list[str]] = mapped_column(JSON)
    allowed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    playbook: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    step: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    steps: Mapped[dict[str, dict[str, Any]]] = mapped_column(JSON)
    waits_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    failures: Mapped[int]
    owner: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    reason: Mapped[str | None] = mapped_column(Text)
    touched: Mapped[bool]
    automatic: Mapped[bool | None]
    first_action_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (
        Index(
            "ix_incidents_fingerprint",
            *("project_id", "fingerprint", "received_at"),
            **_present("fingerprint"),
        ),
        Index("ix_incidents_sla", "sla_next_at", **_present("sla_next_at")),
        Index("ix_incidents_waiting", "waits_until", **_present("waits_until")),
        Index("ix_incidents_allowed", "project_id", "allowed_at", **_present("allowed_at")),
    )


class IncidentEventRow(Base):
    """An event of an incident; rows are only ever added. `payload` as `events.payload_json`."""

    __tablename__ = "incident_events"

    project_id: Mapped[int] = mapped_column(primary_key=True)
    incident_id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(String(ID_LENGTH))
    type: Mapped[str] = mapped_column(String(64))
    version: Mapped[int]
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor_kind: Mapped[ActorKind] = mapped_column(stored_as_text(ActorKind))
    actor_id: Mapped[str] = mapped_column(String(NAME_LENGTH))
    causation_id: Mapped[str | None] = mapped_column(String(ID_LENGTH))
    correlation_id: Mapped[str] = mapped_column(String(ID_LENGTH))
    traceparent: Mapped[str | None] = mapped_column(String(100))
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)

    __table_args__ = (
        ForeignKeyConstraint(
            ["project_id", "incident_id"], ["incidents.project_id", "incidents.id"]
        ),
    )


class ApprovalRow(Base):
    """A decision that a person is asked for, once, until `expires_at`. `run` is the incident's,
    `separate`: who raised the incident may not decide."""

    __tablename__ = "approvals"

    project_id: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    incident_id: Mapped[str] = mapped_column(String(ID_LENGTH))
    run: Mapped[int]
    step: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    state: Mapped[ApprovalState] = mapped_column(stored_as_text(ApprovalState))
    rule: Mapped[str] = mapped_column(String(NAME_LENGTH))
    reason: Mapped[str] = mapped_column(Text)
    separate: Mapped[bool]
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    decided_by: Mapped[str | None] = mapped_column(String(ACTOR_LENGTH))
    note: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        ForeignKeyConstraint(
            ["project_id", "incident_id"], ["incidents.project_id", "incidents.id"]
        ),
        Index("ix_approvals_incident", "project_id", "incident_id"),
        Index(
            "ix_approvals_pending",
            "expires_at",
            sqlite_where=text("state = 'pending'"),
            postgresql_where=text("state = 'pending'"),
        ),
    )


class AcceptanceRow(Base):
    """What an idempotency key was used for: digests of the key and of what was raised, and the
    answer. Kept for `accept.KEEP_KEYS`."""

    __tablename__ = "incident_acceptances"

    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id), primary_key=True)
    key_digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    body_digest: Mapped[str] = mapped_column(String(64))
    exception_ids: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = (Index("ix_incident_acceptances_age", "created_at"),)
