"""Tools of incidents, their secrets, what they were executed for, and their breakers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
# As migration 0007 has them, for a table with a project.
_FENCE = (
    "nilometer_rows_kind() = 'operator'",
    "nilometer_rows_kind() = 'organization' AND project_id IN "
    "(SELECT id FROM projects WHERE organization_id::text = nilometer_rows_id())",
    "nilometer_rows_kind() = 'project' AND project_id::text = nilometer_rows_id()",
)


def upgrade() -> None:
    """Add what is new; the version before does not notice."""
    _add_tools()
    _add_secrets()
    _add_executions()
    _add_breakers()
    if op.get_bind().dialect.name == "postgresql":
        condition = " OR ".join(f"({each})" for each in _FENCE)
        for table in ("tools", "tool_secrets", "tool_executions", "tool_breakers"):
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} USING ({condition})")


def _add_tools() -> None:
    op.create_table(
        "tools",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("input_schema", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("output_schema", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("max_concurrency", sa.Integer(), nullable=False),
        sa.Column("breaker_failures", sa.Integer(), nullable=False),
        sa.Column("breaker_seconds", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "name", name="pk_tools"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_tools_project_id_projects"
        ),
    )


def _add_secrets() -> None:
    op.create_table(
        "tool_secrets",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("tool", sa.String(100), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=True),
        sa.Column("previous_until", _MOMENT, nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "tool", "name", name="pk_tool_secrets"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_tool_secrets_project_id_projects"
        ),
    )


def _add_executions() -> None:
    op.create_table(
        "tool_executions",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("incident_id", sa.String(64), nullable=False),
        sa.Column("tool", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("tool_version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("output", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error_code", sa.String(100), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("error_class", sa.String(32), nullable=True),
        sa.Column("traceparent", sa.String(64), nullable=True),
        sa.Column("decided_by", sa.String(200), nullable=True),
        sa.Column("began_at", _MOMENT, nullable=False),
        sa.Column("attempted_at", _MOMENT, nullable=False),
        sa.Column("finished_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_tool_executions"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_tool_executions_project_id_projects"
        ),
    )
    op.create_index(
        "ix_tool_executions_newest", "tool_executions", ["project_id", "began_at", "id"]
    )
    op.create_index(
        "ix_tool_executions_incident", "tool_executions", ["project_id", "incident_id", "began_at"]
    )


def _add_breakers() -> None:
    op.create_table(
        "tool_breakers",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("tool", sa.String(100), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("opened_at", _MOMENT, nullable=True),
        sa.Column("retry_at", _MOMENT, nullable=True),
        sa.Column("probe", sa.String(64), nullable=True),
        sa.Column("probe_until", _MOMENT, nullable=True),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "tool", name="pk_tool_breakers"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_tool_breakers_project_id_projects"
        ),
    )
