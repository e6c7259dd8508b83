"""Deletions of projects, the audit log, and when organizations and projects changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_UUID = sa.Uuid(as_uuid=False)

# REPLACE deletes a row without a delete trigger, so an insert over a known id is refused too.
_APPEND_ONLY = (
    """
    CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
    """,
    """
    CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
    """,
    """
    CREATE TRIGGER audit_log_no_replace BEFORE INSERT ON audit_log
    WHEN EXISTS (SELECT 1 FROM audit_log WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
    """,
)

_APPEND_ONLY_POSTGRES = (
    """
    CREATE FUNCTION nilometer_audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the audit log is append-only'
            USING ERRCODE = 'integrity_constraint_violation';
    END
    $$
    """,
    """
    CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION nilometer_audit_log_is_append_only()
    """,
)


def upgrade() -> None:
    """Add what is new; the version before does not notice."""
    op.add_column("organizations", sa.Column("updated_at", _MOMENT, nullable=True))
    op.add_column("organizations", sa.Column("tombstoned_at", _MOMENT, nullable=True))
    op.add_column("projects", sa.Column("updated_at", _MOMENT, nullable=True))
    _project_deletions()
    _audit_log()


def _project_deletions() -> None:
    op.create_table(
        "project_deletions",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("requested_at", _MOMENT, nullable=False),
        sa.Column("requested_by", sa.String(200), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.String(100), nullable=True),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("blobs", sa.BigInteger(), nullable=False),
        sa.Column("dead_letters", sa.BigInteger(), nullable=False),
        sa.Column("keys", sa.Integer(), nullable=False),
        sa.Column("finished_at", _MOMENT, nullable=True),
        sa.Column("verified_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("project_id", name="pk_project_deletions"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_project_deletions_project_id_projects"
        ),
    )


def _audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("address", sa.String(200), nullable=True),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("organization_id", _UUID, nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=True),
        sa.Column("subject", sa.String(100), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_log_newest", "audit_log", ["organization_id", "id"])
    postgres = op.get_bind().dialect.name == "postgresql"
    for statement in _APPEND_ONLY_POSTGRES if postgres else _APPEND_ONLY:
        op.execute(statement)
