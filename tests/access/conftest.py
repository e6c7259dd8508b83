from contextlib import closing

import pytest

from nilometer.access.accounts import Accounts
from tests.database.migrated import migrated


@pytest.fixture
def database(tmp_path):
    with closing(migrated(tmp_path / "nilometer.db")) as database:
        yield database


@pytest.fixture
def accounts(database):
    return Accounts(database)


@pytest.fixture
def issued(accounts):
    return accounts.bootstrap(None)
