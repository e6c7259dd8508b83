"""Whose rows a transaction may see and write: said at its start, enforced by the database.

Statements name their project or organization themselves; this is a second fence behind them. On
PostgreSQL it is row-level security (migration 0007): a transaction that named no one's rows finds
none. SQLite has no such thing and does without.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowScope:
    """Whose rows: `text` is what the policies of the database read."""

    text: str


EVERY_ROW = RowScope("operator")
"""The whole deployment's: for what serves every tenant, and for its operator."""


def rows_of_project(project_id: int) -> RowScope:
    """Those of one project."""
    return RowScope(f"project {project_id}")


def rows_of_organization(organization_id: str) -> RowScope:
    """Those of one organization (its UUID text) and its projects."""
    return RowScope(f"organization {organization_id}")
