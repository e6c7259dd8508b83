"""One project of ours between two of others, and the queries on it."""

from collections.abc import Iterator

import pytest

from nilometer.clickhouse.sandbox import Connection
from nilometer.clickhouse.store import Store
from nilometer.query.sql import limits
from nilometer.query.sql.queries import SqlQueries
from tests.projects import new_project_id
from tests.query_sql.tenants import fill_ours, fill_theirs


@pytest.fixture(scope="package")
def ours(store: Store) -> int:
    """Our project; others' rows lie before and after its in every table."""
    before, project_id, after = new_project_id(), new_project_id(), new_project_id()
    fill_ours(store, project_id)
    fill_theirs(store, before)
    fill_theirs(store, after)
    return project_id


@pytest.fixture(scope="package")
def queries(store: Store) -> SqlQueries:
    return SqlQueries(store)


@pytest.fixture
def connection(store: Store) -> Iterator[Connection]:
    """Where queries run, with the engine's own errors; it stays open after one. The store's own
    handles do not, and each takes longer to make than hundreds of queries."""
    settings = limits.settings(new_project_id(), seconds=60, result_bytes=1 << 24)
    # A function that may not be called is not told from a name that means none.
    with store.sandbox(settings | {"allow_introspection_functions": 1}) as sandbox:
        yield sandbox._connection
