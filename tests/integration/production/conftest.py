"""The clients of one run, and the events that it looks at."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.integration.production.blob_url import Blob, blobs_of
from tests.integration.production.configuration import (
    Configuration,
    NotConfigured,
    from_environment,
)
from tests.integration.production.pace import Pace
from tests.integration.production.read_only_http import ReadOnlyApi
from tests.integration.production.read_only_s3 import ReadOnlyBucket

RECENT_DAYS = 7
SAMPLE = 5
"""Events with blobs whose objects are looked at."""

_WITH_BLOBS = f"""
SELECT toString(uuid) AS uuid, properties FROM events
WHERE timestamp > now() - INTERVAL {RECENT_DAYS} DAY AND properties LIKE '%.multipart?range=%'
ORDER BY timestamp DESC LIMIT {SAMPLE}
"""


@pytest.fixture(scope="session")
def configuration() -> Configuration:
    try:
        return from_environment(os.environ)
    except NotConfigured as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def pace(configuration: Configuration) -> Pace:
    return Pace(configuration.delay)


@pytest.fixture(scope="session")
def api(configuration: Configuration, pace: Pace) -> ReadOnlyApi:
    return ReadOnlyApi(configuration, pace)


@pytest.fixture(scope="session")
def bucket(configuration: Configuration, pace: Pace) -> ReadOnlyBucket:
    return ReadOnlyBucket(configuration, pace)


@pytest.fixture(scope="session")
def blobs(api: ReadOnlyApi) -> list[Blob]:
    """The blobs of the latest events that have any."""
    found: list[Blob] = [blob for row in _rows(api) for blob in blobs_of(row)]
    assert found, f"No event of the last {RECENT_DAYS} days has a blob; send one, then ask again."
    return found


def _rows(api: ReadOnlyApi) -> list[dict[str, Any]]:
    return api.query(_WITH_BLOBS)
