"""Moments keep their instant and their order."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import StatementError

from nilometer.access.tables import Organization
from nilometer.database.fence import EVERY_ROW
from nilometer.database.types import UtcDateTime

MOMENTS = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001  (hypothesis adds the zone)
    max_value=datetime(9998, 1, 1),  # noqa: DTZ001
    timezones=st.timezones(),
)
STORED = UtcDateTime().bind_processor(sqlite.dialect())
LOADED = UtcDateTime().result_processor(sqlite.dialect(), None)


@given(MOMENTS)
def test_a_moment_comes_back_as_the_same_instant_in_utc(moment):
    back = LOADED(STORED(moment))
    # Compared in UTC: across zones, Python calls the repeated hour of autumn unequal to itself.
    assert back == moment.astimezone(UTC)
    assert back.tzinfo is UTC


@given(MOMENTS, MOMENTS)
def test_stored_text_sorts_as_time_does(one, other):
    assert (STORED(one) < STORED(other)) == (one.astimezone(UTC) < other.astimezone(UTC))


@given(MOMENTS)
def test_a_server_gets_the_zone_too(moment):
    bound = UtcDateTime().process_bind_param(moment, postgresql.dialect())
    assert bound == moment.astimezone(UTC)
    assert bound.tzinfo is UTC


def test_a_naive_moment_is_refused(database):
    with pytest.raises(StatementError, match="time zone"), database.session(EVERY_ROW) as session:
        session.add(
            Organization(id="0" * 32, name="n", slug="s", created_at=datetime(2026, 1, 1))  # noqa: DTZ001
        )


def test_nothing_stays_nothing():
    assert STORED(None) is None
    assert LOADED(None) is None
