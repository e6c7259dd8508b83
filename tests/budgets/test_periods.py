"""Periods of a calendar: whole local days, without a gap, whatever the clocks do."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.budgets.periods import Period, before, bounds, zone
from nilometer.errors import InvalidInput
from tests.budgets.making import utc

# Midnight is skipped in Cairo and twice there in Havana; half hours; a day that never was in Apia;
# clocks that went back from 00:01 to 23:01 of the day before in St. John's.
ZONES = (
    *("UTC", "Europe/Berlin", "Africa/Cairo", "America/Havana", "Asia/Kolkata"),
    *("Pacific/Apia", "America/St_Johns", "Australia/Lord_Howe", "America/New_York"),
)
moments = st.integers(788_918_400, 2_051_222_400).map(lambda at: datetime.fromtimestamp(at, UTC))


@given(st.sampled_from(list(Period)), st.sampled_from(ZONES), moments)
def test_every_moment_is_in_exactly_one_period_and_periods_leave_no_gap(period, name, moment):
    place = ZoneInfo(name)
    found = bounds(period, place, moment)
    assert found.start <= moment < found.end
    assert bounds(period, place, found.start) == found
    assert bounds(period, place, found.end - timedelta(microseconds=1)) == found
    assert bounds(period, place, found.end).start == found.end
    assert before(period, place, found).end == found.start


@pytest.mark.parametrize(
    ("period", "moment", "start", "end", "name"),
    [
        (Period.DAY, utc(2026, 2, 28, 23), utc(2026, 2, 28), utc(2026, 3, 1), "2026-02-28"),
        (Period.WEEK, utc(2027, 1, 1), utc(2026, 12, 28), utc(2027, 1, 4), "2026-W53"),
        (Period.MONTH, utc(2024, 2, 29, 12), utc(2024, 2, 1), utc(2024, 3, 1), "2024-02"),
        (Period.QUARTER, utc(2026, 11, 21), utc(2026, 10, 1), utc(2027, 1, 1), "2026-Q4"),
        (Period.YEAR, utc(2026, 12, 31, 23, 59), utc(2026, 1, 1), utc(2027, 1, 1), "2026"),
    ],
)
def test_periods_are_those_of_the_calendar(period, moment, start, end, name):
    found = bounds(period, zone("UTC"), moment)
    assert (found.start, found.end, found.name) == (start, end, name)


@pytest.mark.parametrize(
    ("place", "day", "hours"),
    [
        ("Europe/Berlin", utc(2026, 3, 29, 12), 23),
        ("Europe/Berlin", utc(2026, 10, 25, 12), 25),
        ("Africa/Cairo", utc(2026, 4, 24, 12), 23),  # midnight is skipped
        ("America/Havana", utc(2026, 11, 1, 12), 25),  # midnight comes twice
        ("Asia/Kolkata", utc(2026, 6, 1, 12), 24),
    ],
)
def test_a_day_on_which_the_clocks_change_has_the_hours_that_it_has(place, day, hours):
    found = bounds(Period.DAY, zone(place), day)
    assert found.end - found.start == timedelta(hours=hours)


def test_a_month_in_a_zone_begins_there_and_not_in_utc():
    found = bounds(Period.MONTH, zone("America/New_York"), utc(2026, 11, 1, 3))
    assert (found.name, found.end) == ("2026-10", utc(2026, 11, 1, 4))


def test_a_day_that_has_begun_does_not_end_when_the_clocks_show_the_day_before_again():
    # St. John's went from 00:01 of the 29th back to 23:01 of the 28th.
    place = zone("America/St_Johns")
    for minute, hour in ((30, 2), (0, 3), (29, 3)):
        assert bounds(Period.DAY, place, utc(2006, 10, 29, hour, minute)).name == "2006-10-29"


@pytest.mark.parametrize(
    "name", ["", "Nowhere/City", "../UTC", "/etc/passwd", "Europe", "localtime", "x" * 65, "a\0b"]
)
def test_what_is_no_time_zone_is_refused(name):
    with pytest.raises(InvalidInput) as refused:
        zone(name)
    assert refused.value.attr == "time_zone"
