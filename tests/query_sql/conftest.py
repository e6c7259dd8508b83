"""One project of ours between two of others, and the queries on it."""

import pytest

from nilometer.clickhouse.store import Store
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
