"""The tables of budgets: what may be spent, and which thresholds have fired."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    Uuid,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from nilometer.access.tables import Project
from nilometer.budgets.budget import MAX_NAME, ScopeKind
from nilometer.budgets.periods import Period
from nilometer.database.engine import Base
from nilometer.database.types import ExactDecimal, UtcDateTime, stored_as_text


class BudgetRow(Base):
    """A budget, of one project. `past_amounts` are `[until, amount]`, both texts, oldest first;
    `channels` are ids of notification channels, None for every one of the project."""

    __tablename__ = "budgets"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id))
    name: Mapped[str] = mapped_column(String(MAX_NAME))
    scope_kind: Mapped[ScopeKind] = mapped_column(stored_as_text(ScopeKind))
    scope_value: Mapped[str] = mapped_column(String(500))
    amount: Mapped[Decimal] = mapped_column(ExactDecimal)
    past_amounts: Mapped[list[list[str]]] = mapped_column(JSON)
    period: Mapped[Period] = mapped_column(stored_as_text(Period))
    time_zone: Mapped[str] = mapped_column(String(64))
    thresholds: Mapped[list[int]] = mapped_column(JSON)
    rollover_cap: Mapped[Decimal | None] = mapped_column(ExactDecimal)
    hard_stop: Mapped[bool]
    channels: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    raise_exception: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = (UniqueConstraint("project_id", "name", name="uq_budgets_name"),)


class BudgetAlertRow(Base):
    """A threshold that has fired in a period, and how things stood then.

    At most one that has not lapsed: the database says so, whoever evaluates. It lapses when the
    budget's amount is changed and the threshold is not reached any more; it may then fire again.
    """

    __tablename__ = "budget_alerts"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    budget_id: Mapped[str] = mapped_column(ForeignKey(BudgetRow.id))
    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id))
    period_start: Mapped[datetime] = mapped_column(UtcDateTime)
    period_end: Mapped[datetime] = mapped_column(UtcDateTime)
    period_name: Mapped[str] = mapped_column(String(32))
    threshold: Mapped[int]
    amount: Mapped[Decimal] = mapped_column(ExactDecimal)
    spend_limit: Mapped[Decimal] = mapped_column(ExactDecimal)
    spent: Mapped[Decimal] = mapped_column(ExactDecimal)
    calls: Mapped[int] = mapped_column(BigInteger)
    unpriced: Mapped[int] = mapped_column(BigInteger)
    fired_at: Mapped[datetime] = mapped_column(UtcDateTime)
    lapsed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    exception_id: Mapped[str | None] = mapped_column(String(100))

    __table_args__ = (
        Index("ix_budget_alerts_newest", "project_id", "fired_at", "id"),
        Index(
            "uq_budget_alerts_once",
            "budget_id",
            "period_start",
            "threshold",
            unique=True,
            sqlite_where=text("lapsed_at IS NULL"),
            postgresql_where=text("lapsed_at IS NULL"),
        ),
    )
