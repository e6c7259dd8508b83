import pytest

from nilometer.access.accounts import Accounts
from tests.database.both import KINDS, opened


@pytest.fixture(params=KINDS)
def database(request, tmp_path):
    with opened(request, tmp_path) as database:
        yield database


@pytest.fixture
def accounts(database):
    return Accounts(database)


@pytest.fixture
def issued(accounts):
    return accounts.bootstrap(None)
