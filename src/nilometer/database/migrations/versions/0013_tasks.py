"""Tasks, and the outbox of the log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
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
    _add_tasks()
    _add_outbox()
    if op.get_bind().dialect.name == "postgresql":
        condition = " OR ".join(f"({each})" for each in _FENCE)
        for table in ("tasks", "outbox"):
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} USING ({condition})")


def _add_tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("lane", sa.String(100), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("queue", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(100), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("due_at", _MOMENT, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("lease", sa.String(36), nullable=True),
        sa.Column("limit_key", sa.String(100), nullable=True),
        sa.Column("key_limit", sa.Integer(), nullable=True),
        sa.Column("causation_id", sa.String(100), nullable=True),
        sa.Column("trace_context", sa.String(100), nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("error_code", sa.String(100), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("error_class", sa.String(32), nullable=True),
        sa.Column("dead_at", _MOMENT, nullable=True),
        sa.Column("decided_at", _MOMENT, nullable=True),
        sa.Column("decided_by", sa.String(200), nullable=True),
        sa.Column("decided_because", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("project_id", "lane", "sequence", name="pk_tasks"),
        sqlite_with_rowid=False,
    )
    # Each of only the rows that are looked for by it: a task is written three times in its life.
    _index("ix_tasks_due", ["queue", "project_id", "due_at", "limit_key"], "due_at IS NOT NULL")
    _index("ix_tasks_leased", ["queue", "lease"], "lease IS NOT NULL")
    _index("ix_tasks_dead", ["project_id", "dead_at"], "dead_at IS NOT NULL")


def _index(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "tasks", columns, sqlite_where=where, postgresql_where=where)


def _add_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            autoincrement=True,
        ),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("lane", sa.String(100), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("occurred_at", _MOMENT, nullable=False),
        sa.Column("trace_context", sa.String(100), nullable=True),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sqlite_autoincrement=True,
    )
