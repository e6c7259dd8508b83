"""Incidents, their events, approvals, and the idempotency keys of what was raised."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_MONEY = sa.Numeric(38, 18).with_variant(sa.Text(), "sqlite")
# As migration 0007 has them, for a table with a project.
_FENCE = (
    "nilometer_rows_kind() = 'operator'",
    "nilometer_rows_kind() = 'organization' AND project_id IN "
    "(SELECT id FROM projects WHERE organization_id::text = nilometer_rows_id())",
    "nilometer_rows_kind() = 'project' AND project_id::text = nilometer_rows_id()",
)


def upgrade() -> None:
    """Add what is new; the version before does not notice."""
    _add_incidents()
    _add_events()
    _add_approvals()
    _add_acceptances()
    if op.get_bind().dialect.name == "postgresql":
        condition = " OR ".join(f"({each})" for each in _FENCE)
        for table in ("incidents", "incident_events", "approvals", "incident_acceptances"):
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY tenant ON {table} USING ({condition})")


def _add_incidents() -> None:
    op.create_table(
        "incidents",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("severity", sa.String(32), nullable=True),
        sa.Column("exception_type", sa.String(200), nullable=False),
        sa.Column("source_system", sa.String(200), nullable=False),
        sa.Column("stated_type", sa.String(200), nullable=False),
        sa.Column("stated_severity", sa.String(200), nullable=True),
        sa.Column("domain", sa.String(200), nullable=True),
        sa.Column("entity", sa.String(500), nullable=True),
        sa.Column("amount", _MONEY, nullable=True),
        sa.Column("occurred_at", _MOMENT, nullable=False),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("redacted", sa.JSON(), nullable=False),
        sa.Column("raised_by", sa.String(232), nullable=False),
        sa.Column("traceparent", sa.String(100), nullable=True),
        sa.Column("pack", sa.String(200), nullable=True),
        sa.Column("pack_version", sa.Integer(), nullable=True),
        sa.Column("fingerprint", sa.String(64), nullable=True),
        sa.Column("duplicate_of", sa.String(36), nullable=True),
        sa.Column("sla_deadline", _MOMENT, nullable=True),
        sa.Column("sla_next_at", _MOMENT, nullable=True),
        sa.Column("sla_state", sa.String(32), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("rules", sa.JSON(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("allowed_at", _MOMENT, nullable=True),
        sa.Column("playbook", sa.String(200), nullable=True),
        sa.Column("step", sa.String(200), nullable=True),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("waits_until", _MOMENT, nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(200), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("touched", sa.Boolean(), nullable=False),
        sa.Column("automatic", sa.Boolean(), nullable=True),
        sa.Column("first_action_at", _MOMENT, nullable=True),
        sa.Column("closed_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_incidents"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_incidents_project_id_projects"
        ),
    )
    # They hold what is looked for again and again, and little else.
    for name, columns, present in (
        ("fingerprint", ["project_id", "fingerprint", "received_at"], "fingerprint"),
        ("sla", ["sla_next_at"], "sla_next_at"),
        ("waiting", ["waits_until"], "waits_until"),
        ("allowed", ["project_id", "allowed_at"], "allowed_at"),
    ):
        op.create_index(
            f"ix_incidents_{name}",
            "incidents",
            columns,
            sqlite_where=sa.text(f"{present} IS NOT NULL"),
            postgresql_where=sa.text(f"{present} IS NOT NULL"),
        )


def _add_events() -> None:
    op.create_table(
        "incident_events",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("incident_id", sa.String(36), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("occurred_at", _MOMENT, nullable=False),
        sa.Column("actor_kind", sa.String(32), nullable=False),
        sa.Column("actor_id", sa.String(200), nullable=False),
        sa.Column("causation_id", sa.String(36), nullable=True),
        sa.Column("correlation_id", sa.String(36), nullable=False),
        sa.Column("traceparent", sa.String(100), nullable=True),
        sa.Column("payload", sa.JSON(), nullable=False),
        # The database says that no two events of an incident have one place in its history.
        sa.PrimaryKeyConstraint("project_id", "incident_id", "sequence", name="pk_incident_events"),
        sa.ForeignKeyConstraint(
            ["project_id", "incident_id"],
            ["incidents.project_id", "incidents.id"],
            name="fk_incident_events_project_id_incident_id_incidents",
        ),
    )


def _add_approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("incident_id", sa.String(36), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("step", sa.String(200), nullable=True),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("rule", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("separate", sa.Boolean(), nullable=False),
        sa.Column("requested_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("decided_at", _MOMENT, nullable=True),
        sa.Column("decided_by", sa.String(232), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_approvals"),
        sa.ForeignKeyConstraint(
            ["project_id", "incident_id"],
            ["incidents.project_id", "incidents.id"],
            name="fk_approvals_project_id_incident_id_incidents",
        ),
    )
    op.create_index("ix_approvals_incident", "approvals", ["project_id", "incident_id"])
    op.create_index(
        "ix_approvals_pending",
        "approvals",
        ["expires_at"],
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )


def _add_acceptances() -> None:
    op.create_table(
        "incident_acceptances",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("key_digest", sa.String(64), nullable=False),
        sa.Column("body_digest", sa.String(64), nullable=False),
        sa.Column("exception_ids", sa.JSON(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "key_digest", name="pk_incident_acceptances"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_incident_acceptances_project_id_projects"
        ),
    )
    op.create_index("ix_incident_acceptances_age", "incident_acceptances", ["created_at"])
