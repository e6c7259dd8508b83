"""Recent events of the team can be read."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.integration.production.conftest import RECENT_DAYS

RECENT = f"""
SELECT toString(uuid) AS uuid, event, distinct_id, toString(timestamp) AS at FROM events
WHERE timestamp > now() - INTERVAL {RECENT_DAYS} DAY AND event LIKE '$ai_%'
ORDER BY timestamp DESC LIMIT 20
"""


@pytest.fixture(scope="module")
def recent(api):
    found = api.query(RECENT)
    assert found, f"The project has no AI event of the last {RECENT_DAYS} days."
    return found


def test_recent_events_of_the_team_can_be_queried(recent):
    assert len({UUID(row["uuid"]) for row in recent}) == len(recent)
    assert all(row["event"].startswith("$ai_") and row["distinct_id"] for row in recent)


def test_recent_events_come_latest_first_and_are_recent(recent):
    times = [datetime.fromisoformat(row["at"]).replace(tzinfo=UTC) for row in recent]
    assert times == sorted(times, reverse=True)
    assert times[-1] > datetime.now(UTC) - timedelta(days=RECENT_DAYS + 1)


def test_a_query_that_is_wrong_is_told_so_and_changes_nothing(api):
    with pytest.raises(AssertionError, match="400: "):
        api.query("SELECT no_such_column FROM events")
