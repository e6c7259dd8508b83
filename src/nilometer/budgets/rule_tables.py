"""The tables of alert rules: what is looked for, and which days have been told."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import JSON, ForeignKey, Index, String, Text, UniqueConstraint, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from nilometer.access.tables import Project
from nilometer.budgets.budget import MAX_NAME
from nilometer.database.engine import Base
from nilometer.database.types import ExactDecimal, UtcDateTime


class AlertRuleRow(Base):
    """A rule of one project. `channels` as a budget's."""

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

    __table_args__ = (
        UniqueConstraint("rule_id", "day", "subject", name="uq_unusual_days_once"),
        Index("ix_unusual_days_newest", "project_id", "fired_at", "id"),
    )
