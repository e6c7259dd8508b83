"""Operators' own prices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add what is new; the version before does not notice."""
    op.create_table(
        "price_overrides",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=True),
        sa.Column("provider", sa.String(512), nullable=False),
        sa.Column("model", sa.String(512), nullable=False),
        sa.Column("effective_from", _MOMENT, nullable=False),
        sa.Column("effective_to", _MOMENT, nullable=True),
        sa.Column("per_million_tokens", sa.JSON(), nullable=False),
        sa.Column("per_unit", sa.JSON(), nullable=False),
        sa.Column("alias", sa.String(1100), nullable=True),
        sa.Column("region", sa.String(512), nullable=False),
        sa.Column("tier", sa.String(32), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_price_overrides"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_price_overrides_project_id_projects"
        ),
    )
    op.create_index("ix_price_overrides_project_id", "price_overrides", ["project_id"])
