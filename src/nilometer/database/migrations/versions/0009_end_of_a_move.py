"""Where a source ended when all of it was moved."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new; a move that an earlier release finished does not know it."""
    op.add_column("data_moves", sa.Column("log_end", sa.BigInteger(), nullable=True))
    op.add_column("data_moves", sa.Column("audit_id", sa.BigInteger(), nullable=True))
