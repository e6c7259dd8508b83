"""Domain packs of incidents, by project, name and version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
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
    op.create_table(
        "packs",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.String(232), nullable=False),
        sa.Column("changed_at", _MOMENT, nullable=False),
        sa.Column("changed_by", sa.String(232), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "name", "version", name="pk_packs"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_packs_project_id_projects"
        ),
    )
    op.create_index(
        "uq_packs_active",
        "packs",
        ["project_id", "name"],
        unique=True,
        sqlite_where=sa.text("state = 'active'"),
        postgresql_where=sa.text("state = 'active'"),
    )
    if op.get_bind().dialect.name == "postgresql":
        condition = " OR ".join(f"({each})" for each in _FENCE)
        op.execute("ALTER TABLE packs ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE packs FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON packs USING ({condition})")
