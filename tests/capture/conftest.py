"""What the door's tests share: a database of keys, and one door with the default settings."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nilometer.database.engine import Database
from nilometer.database.migrate import migrate
from tests.capture.door import Access, Door, MemoryLog, open_door


@pytest.fixture(scope="session")
def access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    path = tmp_path_factory.mktemp("access") / "nilometer.db"
    with closing(Database(f"sqlite:///{path}")) as database:
        migrate(database)
        access = Access(database)
        access.accounts.bootstrap(None)
        yield access


@pytest.fixture(scope="session")
def shared_door(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(access, tmp_path_factory.mktemp("door")) as door:
        yield door


@pytest.fixture
def door(shared_door: Door) -> Door:
    """The door with default settings; its log is empty."""
    assert isinstance(shared_door.log, MemoryLog)
    shared_door.log.envelopes.clear()
    shared_door.log.error = None
    return shared_door


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path
