from contextlib import closing

import pytest

from tests.database.migrated import migrated
from tests.incidents.handling import PACK, Handling


@pytest.fixture
def bare(tmp_path):
    """The chain of a project without a pack."""
    with closing(migrated(tmp_path / "nilometer.db")) as database:
        yield Handling(database)


@pytest.fixture
def handling(bare):
    """The chain with a pack, whose playbook comments and calls a tool."""
    bare.use(PACK)
    return bare
