from contextlib import closing

import pytest

from tests.database.both import KINDS, opened
from tests.database.migrated import migrated
from tests.workflows.queues import Queue


@pytest.fixture(params=KINDS)
def queue(request, tmp_path):
    """A queue on each kind of database."""
    with opened(request, tmp_path) as database:
        yield Queue(database)


@pytest.fixture
def sqlite_queue(tmp_path):
    with closing(migrated(tmp_path / "nilometer.db")) as database:
        yield Queue(database)
