"""Whether a project keeps OpenTelemetry's spans that are not of AI."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new; the version before does not notice. Null is true."""
    op.add_column("projects", sa.Column("keep_other_spans", sa.Boolean(), nullable=True))
