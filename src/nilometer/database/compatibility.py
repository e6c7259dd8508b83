"""Which releases can work on the tables of a database, said by its migrations.

A migration that only adds says nothing: any release goes on. One that drops what an older release
used has `min_compatible`: the revision of the release that stopped to use it. A process that does
not know that revision refuses to start. So a rolling upgrade may go one release at a time, and one
that skips the release in between is told so instead of failing at its first statement.
"""

from __future__ import annotations

from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, Integer, String, Table, inspect, select

from nilometer.database.engine import Base

TABLE = Table(
    "schema_compatibility",
    Base.metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("min_compatible", String(32), nullable=False),
)
_ONLY = 1


def note(connection: Connection, script: ScriptDirectory) -> None:
    """Write down what the migrations that were run ask of a process; within their transaction."""
    if not inspect(connection).has_table(TABLE.name):
        return
    revision = MigrationContext.configure(connection).get_current_revision() or "base"
    asked = [
        getattr(each.module, "min_compatible", "")
        for each in script.iterate_revisions(revision, "base")
    ]
    needed, known = max(asked, default=""), needed_revision(connection)
    if needed > known:
        connection.execute(TABLE.delete())
        connection.execute(TABLE.insert().values(id=_ONLY, min_compatible=needed))


def needed_revision(connection: Connection) -> str:
    """The revision that a process must know; empty for any process."""
    if not inspect(connection).has_table(TABLE.name):
        return ""
    return connection.execute(select(TABLE.c.min_compatible)).scalar() or ""
