"""When a retention ends."""

from datetime import UTC, date, datetime, timedelta

from nilometer.blobs.keys import new_object_name
from nilometer.domain import clock
from nilometer.domain.retention import expires_at

EVENT = "123e4567-e89b-12d3-a456-426614174000"


def test_what_is_kept_for_some_days_is_kept_through_the_last_of_them() -> None:
    assert expires_at(date(2026, 2, 3), 1) == datetime(2026, 2, 5, tzinfo=UTC)
    assert expires_at(date(2026, 2, 3), 30) == datetime(2026, 3, 6, tzinfo=UTC)


def test_a_retention_past_the_last_year_has_an_end() -> None:
    assert expires_at(date(9999, 1, 1), 36500).year == 9999


def test_the_key_of_a_blob_expires_as_its_event_does_whatever_the_time_of_day() -> None:
    midnight = datetime(2026, 2, 3, tzinfo=UTC)
    for moment in (midnight, midnight + timedelta(days=1, microseconds=-1)):
        for days in (7, 30):
            name = new_object_name(1, EVENT, clock.to_micros(moment), days)
            assert name.day.expires_at(30) == expires_at(moment.date(), days)
