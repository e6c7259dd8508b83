"""When an event happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.conventions.ai_event import timestamp
from nilometer.conventions.event_time import EARLIEST, LATEST

NOW = datetime(2025, 7, 1, 11, 0, 0, tzinfo=UTC)
HAPPENED, SENT = "2025-07-01T11:59:55Z", "2025-07-01T12:00:05Z"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_a_clock_that_is_an_hour_fast_is_corrected_by_when_it_says_it_sent() -> None:
    assert timestamp(NOW, HAPPENED, SENT, ignore_sent_at=False) == utc("2025-07-01T10:59:50+00:00")


def test_ignoring_sent_at_keeps_the_clients_time() -> None:
    assert timestamp(NOW, HAPPENED, SENT, ignore_sent_at=True) == utc(HAPPENED)


@pytest.mark.parametrize("sent_at", [None, "", "yesterday", 1751371205, 1e300, True, [], {}])
def test_an_absent_or_invalid_sent_at_keeps_the_clients_time(sent_at: object) -> None:
    assert timestamp(NOW, HAPPENED, sent_at, ignore_sent_at=False) == utc(HAPPENED)


@pytest.mark.parametrize(
    "happened", [None, "", "soon", "2025-13-01T00:00:00Z", 1751371195, [], "9" * 5000]
)
def test_without_a_valid_timestamp_an_event_happened_when_it_was_accepted(happened: object) -> None:
    assert timestamp(NOW, happened, SENT, ignore_sent_at=False) == NOW


@pytest.mark.parametrize(
    "text",
    [
        "2025-07-01T11:59:55.250Z",
        "2025-07-01t11:59:55.25z",
        "2025-07-01 11:59:55.250000",
        " 2025-07-01T11:59:55,25Z ",
        "2025-07-01T13:59:55.250+02:00",
        "2025-07-01T06:29:55.250-05:30",
        "20250701T115955.25Z",
        "2025-07-01T11:59:55.2500000001Z",
    ],
)
def test_every_usual_way_to_write_a_time_is_read_and_none_means_utc(text: str) -> None:
    expected = datetime(2025, 7, 1, 11, 59, 55, 250_000, tzinfo=UTC)
    result = timestamp(NOW, text, None, ignore_sent_at=False)
    assert result == expected
    assert result.utcoffset() == timedelta(0)


def test_microseconds_survive() -> None:
    assert (
        timestamp(NOW, "2025-07-01T11:59:55.123456Z", None, ignore_sent_at=False).microsecond
        == 123456
    )


@pytest.mark.parametrize(
    ("happened", "sent_at", "kept"),
    [
        ("0001-01-01T00:00:00+14:00", None, EARLIEST),
        ("9999-12-31T23:59:59-14:00", None, LATEST),
        ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", LATEST),
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", EARLIEST),
        ("1969-12-31T23:59:59.999999Z", None, EARLIEST),
        ("2106-01-01T00:00:00Z", None, LATEST),
        ("1970-01-01T00:00:00Z", None, EARLIEST),
        ("2105-12-31T23:59:59.999999Z", None, LATEST),
    ],
)
def test_a_time_that_the_store_cannot_place_moves_to_the_nearest_end(
    happened: str, sent_at: str | None, kept: datetime
) -> None:
    assert timestamp(NOW, happened, sent_at, ignore_sent_at=False) == kept


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.none())
TIMES = st.datetimes(timezones=st.timezones() | st.just(timezone(timedelta(hours=5)))).map(
    lambda moment: moment.isoformat()
)


@given(ANYTHING | TIMES, ANYTHING | TIMES, st.booleans())
def test_any_client_gets_a_time_in_range(happened: Any, sent_at: Any, ignore: bool) -> None:
    assert EARLIEST <= timestamp(NOW, happened, sent_at, ignore_sent_at=ignore) <= LATEST


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001
    st.timedeltas(timedelta(0), timedelta(days=1)),
    st.timedeltas(timedelta(days=-900), timedelta(days=900)),
)
def test_the_correction_does_not_depend_on_how_wrong_the_clients_clock_is(
    happened: datetime, waited: timedelta, error: timedelta
) -> None:
    wrong = timestamp(
        NOW,
        (happened + error).isoformat(),
        (happened + waited + error).isoformat(),
        ignore_sent_at=False,
    )
    assert wrong == NOW - waited
