from contextlib import closing

import pytest

from nilometer.access.accounts import Accounts
from tests.database import servers
from tests.database.migrated import migrated
from tests.services import PostgresService


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """Both databases: what these tests see must not depend on which it is."""
    if request.param == "sqlite":
        with closing(migrated(tmp_path / "nilometer.db")) as database:
            yield database
        return
    postgres: PostgresService = request.getfixturevalue("postgres")
    with servers.migrated(postgres) as database:
        yield database


@pytest.fixture
def accounts(database):
    return Accounts(database)


@pytest.fixture
def issued(accounts):
    return accounts.bootstrap(None)
