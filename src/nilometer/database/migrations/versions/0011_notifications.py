"""Notification channels and deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
# As migration 0007: a second fence behind the statements' own conditions.
_OWN_ROWS = (
    "(nilometer_rows_kind() = 'operator') OR "
    "(nilometer_rows_kind() = 'organization' AND project_id IN "
    "(SELECT id FROM projects WHERE organization_id::text = nilometer_rows_id())) OR "
    "(nilometer_rows_kind() = 'project' AND project_id::text = nilometer_rows_id())"
)


def upgrade() -> None:
    """Add what is new; the version before does not notice."""
    _add_channels()
    _add_deliveries()
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in ("notification_channels", "notification_deliveries"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} USING ({_OWN_ROWS})")


def _add_channels() -> None:
    op.create_table(
        "notification_channels",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("secrets", sa.JSON(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notification_channels"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_notification_channels_project_id_projects"
        ),
        sa.UniqueConstraint("project_id", "name", name="uq_notification_channels_name"),
    )


def _add_deliveries() -> None:
    op.create_table(
        "notification_deliveries",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("channel_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("channel_name", sa.String(100), nullable=False),
        sa.Column("notification_id", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(100), nullable=False),
        sa.Column("notification", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("due_at", _MOMENT, nullable=False),
        sa.Column("give_up_at", _MOMENT, nullable=False),
        sa.Column("leased_by", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("leased_until", _MOMENT, nullable=True),
        sa.Column("error_code", sa.String(100), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("finished_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_notification_deliveries"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_notification_deliveries_project_id_projects"
        ),
        sa.UniqueConstraint(
            "channel_id", "notification_id", name="uq_notification_deliveries_notification"
        ),
    )
    op.create_index(
        "ix_notification_deliveries_newest",
        "notification_deliveries",
        ["project_id", "created_at", "id"],
    )
    # What is looked for every second is what waits, and that is little.
    op.create_index(
        "ix_notification_deliveries_due",
        "notification_deliveries",
        ["due_at"],
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
