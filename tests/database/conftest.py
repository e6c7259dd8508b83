from contextlib import closing

import pytest

from tests.database.migrated import migrated


@pytest.fixture
def database(tmp_path):
    with closing(migrated(tmp_path / "nilometer.db")) as database:
        yield database
