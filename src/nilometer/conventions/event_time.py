"""When an event happened: its client's clock, corrected as the capture contract says (§5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from nilometer.domain import clock

# The store's DateTime64(6) holds more, but its functions by hour and day do not (tried:
# toStartOfHour of the year 2200 is 2106-02-07, toDate of 1950 is in 2020), so rows out of this
# range would be found under a wrong day.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2105, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)

_MAX_CHARS = 64
_FIRST, _LAST = clock.to_micros(EARLIEST), clock.to_micros(LATEST)


def timestamp(now: datetime, timestamp: Any, sent_at: Any, ignore_sent_at: bool) -> datetime:
    """The event's time: `now + (timestamp - sent_at)`, or `timestamp`, or `now`.

    `now` is when the event was accepted, aware. `timestamp` and `sent_at` are what the client
    wrote at the top level of its event; `sent_at` is by the same clock as `timestamp`, so their
    difference is free of that clock's error. Whichever does not parse counts as absent.
    `ignore_sent_at` is true when the property `$ignore_sent_at` is exactly `true`.

    The result is UTC, between 1970-01-01 and the end of 2105; what lies outside is moved to the
    nearer end. Never raises on what a client sent.
    """
    happened, sent = _micros(timestamp), None if ignore_sent_at else _micros(sent_at)
    if happened is None:
        micros = clock.to_micros(now)
    elif sent is None:
        micros = happened
    else:
        micros = clock.to_micros(now) + happened - sent
    return _within(micros)


def bounded(now: datetime, distance: timedelta) -> datetime:
    """The time at a distance from `now`, moved into the same range as `timestamp`."""
    return _within(clock.to_micros(now) + distance // timedelta(microseconds=1))


def from_micros(micros: int) -> datetime:
    """The time of so many microseconds since the epoch, moved into the same range."""
    return _within(micros)


def _within(micros: int) -> datetime:
    return clock.from_micros(min(max(micros, _FIRST), _LAST))


def _micros(value: Any) -> int | None:
    """Microseconds of an ISO 8601 text (RFC 3339 among them); without a zone it is UTC.

    Numbers are refused: seconds and milliseconds look alike.
    """
    if not isinstance(value, str) or len(value) > _MAX_CHARS:
        return None
    try:
        moment = datetime.fromisoformat(value.strip().upper())
    except ValueError:
        return None
    return clock.to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
