"""Row-level security on PostgreSQL: a second fence behind the statements' own conditions.

A transaction says whose rows it touches (`nilometer.rows`, see `nilometer.database.fence`); one
that says nothing sees none. The owner of the tables is fenced too; only a superuser, or a role with
BYPASSRLS, is not. SQLite has no such thing.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# The first word of the setting is the kind of the scope, the second the id.
_FUNCTIONS = (
    """
    CREATE FUNCTION nilometer_rows_kind() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN split_part(current_setting('nilometer.rows', true), ' ', 1)
    """,
    """
    CREATE FUNCTION nilometer_rows_id() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN split_part(current_setting('nilometer.rows', true), ' ', 2)
    """,
)
_OPERATOR = "nilometer_rows_kind() = 'operator'"
_ORGANIZATION = "nilometer_rows_kind() = 'organization' AND {column}::text = nilometer_rows_id()"
_PROJECT = "nilometer_rows_kind() = 'project' AND {column}::text = nilometer_rows_id()"
_OF_ORGANIZATION = (
    "nilometer_rows_kind() = 'organization' AND project_id IN "
    "(SELECT id FROM projects WHERE organization_id::text = nilometer_rows_id())"
)

# The column of the organization and that of the project; None where there is none.
_OWNED = {
    "organizations": ("id", None),
    "projects": ("organization_id", "id"),
    "api_keys": ("organization_id", "project_id"),
    "audit_log": ("organization_id", "project_id"),
    "project_deletions": (None, "project_id"),
    "price_overrides": (None, "project_id"),
    "dead_letters": (None, "project_id"),
    "rewrites": (None, "project_id"),
}


def upgrade() -> None:
    """Fence every table of tenants; the version before is stopped first (it names no scope)."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for function in _FUNCTIONS:
        op.execute(function)
    for table, columns in _OWNED.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} USING ({_condition(*columns)})")


def _condition(organization: str | None, project: str | None) -> str:
    of_organization = (
        _ORGANIZATION.format(column=organization) if organization else _OF_ORGANIZATION
    )
    conditions = [_OPERATOR, of_organization]
    if project:
        conditions.append(_PROJECT.format(column=project))
    return " OR ".join(f"({condition})" for condition in conditions)
