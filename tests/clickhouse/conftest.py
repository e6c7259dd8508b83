"""Each test of the store runs on both of its engines."""

import pytest

from nilometer.clickhouse.store import Store


@pytest.fixture(scope="session", params=["embedded", "network"])
def store(request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue(f"{request.param}_store")
