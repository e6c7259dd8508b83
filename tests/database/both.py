"""A database of either kind, for tests whose outcome must not depend on which it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from nilometer.database.engine import Database
from tests.database import servers
from tests.database.migrated import migrated

KINDS = ("sqlite", "postgresql")


@contextmanager
def opened(request: pytest.FixtureRequest, directory: Path) -> Iterator[Database]:
    """An empty, migrated database of the kind that the fixture's parameter names."""
    if request.param == "sqlite":
        with closing(migrated(directory / "nilometer.db")) as database:
            yield database
        return
    with servers.migrated(request.getfixturevalue("postgres")) as database:
        yield database
