"""Budgets, and the thresholds that have fired."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_MONEY = sa.Numeric(38, 18).with_variant(sa.Text(), "sqlite")
# As migration 0007 has them, for a table with a project.
_FENCE = (
    "nilometer_rows_kind() = 'operator'",
    "nilometer_rows_kind() = 'organization' AND project_id IN "
    "(SELECT id FROM projects WHERE organization_id::text = nilometer_rows_id())",
    "nilometer_rows_kind() = 'project' AND project_id::text = nilometer_rows_id()",
)


def upgrade() -> None:
    """Add what is new; the version before does not notice."""
    _add_budgets()
    _add_alerts()
    if op.get_bind().dialect.name == "postgresql":
        condition = " OR ".join(f"({each})" for each in _FENCE)
        for table in ("budgets", "budget_alerts"):
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} USING ({condition})")


def _add_budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("scope_kind", sa.String(32), nullable=False),
        sa.Column("scope_value", sa.String(500), nullable=False),
        sa.Column("amount", _MONEY, nullable=False),
        sa.Column("past_amounts", sa.JSON(), nullable=False),
        sa.Column("period", sa.String(32), nullable=False),
        sa.Column("time_zone", sa.String(64), nullable=False),
        sa.Column("thresholds", sa.JSON(), nullable=False),
        sa.Column("rollover_cap", _MONEY, nullable=True),
        sa.Column("hard_stop", sa.Boolean(), nullable=False),
        sa.Column("channels", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_budgets"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_budgets_project_id_projects"
        ),
        sa.UniqueConstraint("project_id", "name", name="uq_budgets_name"),
    )


def _add_alerts() -> None:
    op.create_table(
        "budget_alerts",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("budget_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("period_start", _MOMENT, nullable=False),
        sa.Column("period_end", _MOMENT, nullable=False),
        sa.Column("period_name", sa.String(32), nullable=False),
        sa.Column("threshold", sa.Integer(), nullable=False),
        sa.Column("amount", _MONEY, nullable=False),
        sa.Column("spend_limit", _MONEY, nullable=False),
        sa.Column("spent", _MONEY, nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("fired_at", _MOMENT, nullable=False),
        sa.Column("lapsed_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_budget_alerts"),
        sa.ForeignKeyConstraint(
            ["budget_id"], ["budgets.id"], name="fk_budget_alerts_budget_id_budgets"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_budget_alerts_project_id_projects"
        ),
    )
    op.create_index("ix_budget_alerts_newest", "budget_alerts", ["project_id", "fired_at", "id"])
    # A threshold fires once a period: the database says so, whoever evaluates.
    op.create_index(
        "uq_budget_alerts_once",
        "budget_alerts",
        ["budget_id", "period_start", "threshold"],
        unique=True,
        sqlite_where=sa.text("lapsed_at IS NULL"),
        postgresql_where=sa.text("lapsed_at IS NULL"),
    )
