"""The tables of this room: what is looked for, what broke, what days were told, what failed."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from nilometer.access.tables import Project
from nilometer.alerts.kinds import Kind
from nilometer.budgets.budget import MAX_NAME
from nilometer.database.engine import Base
from nilometer.database.types import ExactDecimal, UtcDateTime, stored_as_text


class AlertRuleRow(Base):
    """A rule of one project. `channels` as a budget's.

    `score` and what is named `min_…`, but for `min_calls`, are of days of unusual spend; of any
    other kind they are such that the release that knew no kinds never fires.
    """

    __tablename__ = "alert_rules"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id))
    name: Mapped[str] = mapped_column(String(MAX_NAME))
    dimension: Mapped[str] = mapped_column(String(32))
    value: Mapped[str] = mapped_column(String(500))
    score: Mapped[Decimal] = mapped_column(ExactDecimal)
    min_percent: Mapped[Decimal] = mapped_column(ExactDecimal)
    min_amount: Mapped[Decimal] = mapped_column(ExactDecimal)
    min_history: Mapped[int]
    channels: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    kind: Mapped[Kind] = mapped_column(
        stored_as_text(Kind), server_default=Kind.SPEND_UNUSUAL.value
    )
    filters: Mapped[dict[str, str]] = mapped_column(JSON, server_default=text("'{}'"))
    threshold: Mapped[Decimal | None] = mapped_column(ExactDecimal)
    window_seconds: Mapped[int | None]
    min_calls: Mapped[int | None]
    for_seconds: Mapped[int | None]
    cooldown_seconds: Mapped[int | None]
    raise_exception: Mapped[bool] = mapped_column(server_default=false())
    exception_type: Mapped[str | None] = mapped_column(String(100))
    severity: Mapped[str | None] = mapped_column(String(16))

    __table_args__ = (UniqueConstraint("project_id", "name", name="uq_alert_rules_name"),)


class UnusualDayRow(Base):
    """A day that a rule told of, and how it stood then. `subject` is the value's digest, as a value
    may be longer than an index takes."""

    __tablename__ = "unusual_days"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    rule_id: Mapped[str] = mapped_column(ForeignKey(AlertRuleRow.id))
    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id))
    day: Mapped[str] = mapped_column(String(10))
    subject: Mapped[str] = mapped_column(String(64))
    value: Mapped[str] = mapped_column(Text)
    spent: Mapped[Decimal] = mapped_column(ExactDecimal)
    expected: Mapped[Decimal] = mapped_column(ExactDecimal)
    score: Mapped[Decimal] = mapped_column(ExactDecimal)
    method: Mapped[str] = mapped_column(String(32))
    fired_at: Mapped[datetime] = mapped_column(UtcDateTime)
    exception_id: Mapped[str | None] = mapped_column(String(100))

    __table_args__ = (
        UniqueConstraint("rule_id", "day", "subject", name="uq_unusual_days_once"),
        Index("ix_unusual_days_newest", "project_id", "fired_at", "id"),
    )


class AlertRow(Base):
    """A condition that is broken, or was: since when, and, where it fired, how it stood then. Of a
    rule and `subject_digest` at most one that has not recovered: the database says so, whoever
    looks. That is `Reading.digest`: a subject may be longer than an index takes."""

    __tablename__ = "alerts"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    rule_id: Mapped[str] = mapped_column(ForeignKey(AlertRuleRow.id))
    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id))
    subject: Mapped[str] = mapped_column(Text)
    subject_digest: Mapped[str] = mapped_column(String(64))
    broken_at: Mapped[datetime] = mapped_column(UtcDateTime)
    measured: Mapped[Decimal] = mapped_column(ExactDecimal)
    calls: Mapped[int] = mapped_column(BigInteger)
    facts: Mapped[dict[str, str]] = mapped_column(JSON)
    fired_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    recovered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    exception_id: Mapped[str | None] = mapped_column(String(100))

    __table_args__ = (
        Index("ix_alerts_newest", "project_id", "broken_at", "id"),
        Index(
            "uq_alerts_once",
            "rule_id",
            "subject_digest",
            unique=True,
            sqlite_where=text("recovered_at IS NULL"),
            postgresql_where=text("recovered_at IS NULL"),
        ),
    )


class FailureRow(Base):
    """How often something of a project's failed in a minute, whichever process it failed in."""

    __tablename__ = "failure_counts"

    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id), primary_key=True)
    what: Mapped[str] = mapped_column(String(32), primary_key=True)
    minute: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)
