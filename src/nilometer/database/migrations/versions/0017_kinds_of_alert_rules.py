"""Alert rules of many kinds, what broke, what failed; and which alerts raised exceptions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_NUMBER = sa.Numeric(38, 18).with_variant(sa.Text(), "sqlite")
# As migration 0007 has them, for a table with a project.
_FENCE = (
    "nilometer_rows_kind() = 'operator'",
    "nilometer_rows_kind() = 'organization' AND project_id IN "
    "(SELECT id FROM projects WHERE organization_id::text = nilometer_rows_id())",
    "nilometer_rows_kind() = 'project' AND project_id::text = nilometer_rows_id()",
)


def upgrade() -> None:
    """Add what is new; what is there is of the kind that the version before knows."""
    _add_kinds()
    _add_exceptions()
    _add_alerts()
    _add_failures()
    if op.get_bind().dialect.name == "postgresql":
        condition = " OR ".join(f"({each})" for each in _FENCE)
        for table in ("alerts", "failure_counts"):
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} USING ({condition})")


def _add_kinds() -> None:
    for column in (
        sa.Column("kind", sa.String(32), nullable=False, server_default="spend_unusual"),
        sa.Column("filters", sa.JSON(), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("threshold", _NUMBER, nullable=True),
        sa.Column("window_seconds", sa.Integer(), nullable=True),
        sa.Column("min_calls", sa.Integer(), nullable=True),
        sa.Column("for_seconds", sa.Integer(), nullable=True),
        sa.Column("cooldown_seconds", sa.Integer(), nullable=True),
        sa.Column("raise_exception", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("exception_type", sa.String(100), nullable=True),
        sa.Column("severity", sa.String(16), nullable=True),
    ):
        op.add_column("alert_rules", column)


def _add_exceptions() -> None:
    op.add_column(
        "budgets",
        sa.Column("raise_exception", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    for table in ("budget_alerts", "unusual_days"):
        op.add_column(table, sa.Column("exception_id", sa.String(100), nullable=True))


def _add_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("rule_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_digest", sa.String(64), nullable=False),
        sa.Column("broken_at", _MOMENT, nullable=False),
        sa.Column("measured", _NUMBER, nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("fired_at", _MOMENT, nullable=True),
        sa.Column("recovered_at", _MOMENT, nullable=True),
        sa.Column("exception_id", sa.String(100), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["alert_rules.id"], name="fk_alerts_rule_id_alert_rules"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_alerts_project_id_projects"
        ),
    )
    op.create_index("ix_alerts_newest", "alerts", ["project_id", "broken_at", "id"])
    # A condition is broken once until it recovers: the database says so, whoever looks.
    op.create_index(
        "uq_alerts_once",
        "alerts",
        ["rule_id", "subject_digest"],
        unique=True,
        sqlite_where=sa.text("recovered_at IS NULL"),
        postgresql_where=sa.text("recovered_at IS NULL"),
    )


def _add_failures() -> None:
    op.create_table(
        "failure_counts",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("what", sa.String(32), nullable=False),
        sa.Column("minute", _MOMENT, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "what", "minute", name="pk_failure_counts"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_failure_counts_project_id_projects"
        ),
    )
