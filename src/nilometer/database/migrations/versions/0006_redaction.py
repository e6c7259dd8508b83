"""What a project keeps out of everything that is stored."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new; the version before does not notice. Null is no rules."""
    op.add_column("projects", sa.Column("redaction", sa.JSON(none_as_null=True), nullable=True))
