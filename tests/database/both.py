"""A database of either kind, for tests whose outcome must not depend on which it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from tests.database import servers
from tests.database.migrated import migrated

KINDS = ("sqlite", "postgresql")


def somebody_waits(database: Database) -> bool:
    """Whether a transaction waits for the lock of another; of SQLite it cannot be seen, and is
    taken to be so."""
    if database.path is not None:
        return True
    query = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with database.read(EVERY_ROW) as session:
        return bool(session.scalar(query))


@contextmanager
def opened(request: pytest.FixtureRequest, directory: Path) -> Iterator[Database]:
    """An empty, migrated database of the kind that the fixture's parameter names."""
    if request.param == "sqlite":
        with closing(migrated(directory / "nilometer.db")) as database:
            yield database
        return
    with servers.migrated(request.getfixturevalue("postgres")) as database:
        yield database
