"""Calendar periods in a time zone: whole local days, whatever the clocks there do.

A period begins at the first moment of its first local day. Where the clocks skip midnight that is
the moment of the change; where midnight comes twice it is the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from nilometer.errors import InvalidInput

_LONGEST_ZONE = 64
# Whatever the machine that evaluates happens to have.
_NOT_A_PLACE = frozenset({"localtime", "posixrules"})


class Period(StrEnum):
    """How long a budget's amount lasts. A week begins on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Bounds:
    """One period: from `start`, included, to `end`, not included, both UTC. `name` is how people
    call it: `2026-11-21`, `2026-W47`, `2026-11`, `2026-Q4` or `2026`."""

    start: datetime
    end: datetime
    name: str


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name, such as `Europe/Berlin`. Raises InvalidInput."""
    try:
        if len(name) <= _LONGEST_ZONE and name not in _NOT_A_PLACE:
            return ZoneInfo(name)
    # KeyError is that of an unknown name, OSError that of the name of a folder of zones.
    except (ValueError, KeyError, OSError):
        pass
    raise InvalidInput(
        "time_zone is not the name of a time zone, such as UTC or Europe/Berlin.", attr="time_zone"
    )


def bounds(period: Period, time_zone: ZoneInfo, moment: datetime) -> Bounds:
    """The period in which an aware moment is."""
    first = _FIRST_DAY[period](moment.astimezone(time_zone).date())
    found = _bounds(period, time_zone, first)
    # Clocks that go back over midnight show the day before once more, when the next has begun.
    while moment >= found.end:
        first = _NEXT[period](first)
        found = _bounds(period, time_zone, first)
    return found


def before(period: Period, time_zone: ZoneInfo, later: Bounds) -> Bounds:
    """The period that ends where this one starts."""
    return bounds(period, time_zone, later.start - timedelta(microseconds=1))


def _bounds(period: Period, time_zone: ZoneInfo, first: date) -> Bounds:
    end = _NEXT[period](first)
    return Bounds(_begin(first, time_zone), _begin(end, time_zone), _NAME[period](first))


def _begin(day: date, time_zone: ZoneInfo) -> datetime:
    # Of a midnight that is there twice this is the first, and of one that is not there the moment
    # at which the clocks skip it (PEP 495, fold 0).
    return datetime(day.year, day.month, day.day, tzinfo=time_zone).astimezone(UTC)


def _month_after(day: date, months: int) -> date:
    count = day.year * 12 + day.month - 1 + months
    return date(count // 12, count % 12 + 1, 1)


_FIRST_DAY: dict[Period, Callable[[date], date]] = {
    Period.DAY: lambda day: day,
    Period.WEEK: lambda day: day - timedelta(days=day.weekday()),
    Period.MONTH: lambda day: day.replace(day=1),
    Period.QUARTER: lambda day: date(day.year, (day.month - 1) // 3 * 3 + 1, 1),
    Period.YEAR: lambda day: date(day.year, 1, 1),
}
_NEXT: dict[Period, Callable[[date], date]] = {
    Period.DAY: lambda day: day + timedelta(days=1),
    Period.WEEK: lambda day: day + timedelta(days=7),
    Period.MONTH: lambda day: _month_after(day, 1),
    Period.QUARTER: lambda day: _month_after(day, 3),
    Period.YEAR: lambda day: _month_after(day, 12),
}
_NAME: dict[Period, Callable[[date], str]] = {
    Period.DAY: date.isoformat,
    Period.WEEK: lambda day: "{}-W{:02}".format(*day.isocalendar()[:2]),
    Period.MONTH: lambda day: f"{day.year:04}-{day.month:02}",
    Period.QUARTER: lambda day: f"{day.year:04}-Q{(day.month + 2) // 3}",
    Period.YEAR: lambda day: f"{day.year:04}",
}
