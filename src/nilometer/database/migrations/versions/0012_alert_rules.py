"""Alert rules, and the unusual days that they have told of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
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
    """Add what is new; the version before does not notice."""
    _add_rules()
    _add_days()
    if op.get_bind().dialect.name == "postgresql":
        condition = " OR ".join(f"({each})" for each in _FENCE)
        for table in ("alert_rules", "unusual_days"):
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} USING ({condition})")


def _add_rules() -> None:
    op.create_table(
        "alert_rules",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("dimension", sa.String(32), nullable=False),
        sa.Column("value", sa.String(500), nullable=False),
        sa.Column("score", _NUMBER, nullable=False),
        sa.Column("min_percent", _NUMBER, nullable=False),
        sa.Column("min_amount", _NUMBER, nullable=False),
        sa.Column("min_history", sa.Integer(), nullable=False),
        sa.Column("channels", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alert_rules"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_alert_rules_project_id_projects"
        ),
        sa.UniqueConstraint("project_id", "name", name="uq_alert_rules_name"),
    )


def _add_days() -> None:
    op.create_table(
        "unusual_days",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("rule_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("spent", _NUMBER, nullable=False),
        sa.Column("expected", _NUMBER, nullable=False),
        sa.Column("score", _NUMBER, nullable=False),
        sa.Column("method", sa.String(32), nullable=False),
        sa.Column("fired_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_unusual_days"),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["alert_rules.id"], name="fk_unusual_days_rule_id_alert_rules"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_unusual_days_project_id_projects"
        ),
        # A day is told once of each value: the database says so, whoever looks.
        sa.UniqueConstraint("rule_id", "day", "subject", name="uq_unusual_days_once"),
    )
    op.create_index("ix_unusual_days_newest", "unusual_days", ["project_id", "fired_at", "id"])
