"""Time zones, where functions take one: only as a name in quotes.

The engine opens what a zone's name leads to, and `file:` or a path leads anywhere, into a pipe too,
from which a read never returns. So at these places stands nothing that could become another text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlglot import exp

from nilometer.query.sql.refusal import Refusal
from nilometer.query.sql.tree import Node

# Relative, and below the directory of zones: no colon, no dots.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}", re.ASCII)

# Names in the directory that are no zones of their own: what the host is set to.
_OF_THE_HOST = frozenset({"localtime", "posixrules"})

# From which argument on the engine takes a zone; found by trying each function that may be called
# (a test tries them again).
_AFTER_ONE = (
    "DATE UUIDv7ToDateTime fromUnixTimestamp64Micro fromUnixTimestamp64Milli now64 "
    "parseDateTimeBestEffort parseDateTimeBestEffortOrNull parseDateTime64BestEffort "
    "parseDateTime64BestEffortOrNull timeSlot toDate toDate32 toDateTime toDateTime64 toDayOfMonth "
    "toDayOfWeek toDayOfYear toDaysInMonth toHour toISOWeek toISOYear toLastDayOfMonth "
    "toLastDayOfWeek toMillisecond toMinute toMonday toMonth toQuarter toSecond toStartOfDay "
    "toStartOfFifteenMinutes toStartOfFiveMinutes toStartOfHour toStartOfMinute toStartOfMonth "
    "toStartOfQuarter toStartOfSecond toStartOfTenMinutes toStartOfWeek toStartOfYear toString "
    "toTimeZone toTimezone toUnixTimestamp toWeek toYYYYMM toYYYYMMDD toYYYYMMDDhhmmss toYear"
)
_AFTER_TWO = (
    "addDays addHours addMilliseconds addMinutes addMonths addQuarters addSeconds addWeeks "
    "addYears dateName dateTrunc date_trunc formatDateTime fromUnixTimestamp parseDateTime "
    "parseDateTimeOrNull subtractDays subtractHours subtractMinutes subtractMonths "
    "subtractQuarters subtractSeconds subtractWeeks subtractYears toStartOfInterval"
)
_FROM = {
    **dict.fromkeys(_AFTER_ONE.split(), 1),
    **dict.fromkeys(_AFTER_TWO.split(), 2),
    **dict.fromkeys(("age", "dateDiff", "date_diff"), 3),
    "makeDateTime": 6,
    "now": 0,
}
_OF_TEXT = ("OrNull", "OrZero")
_NEVER = 1000
# What gives a time, whatever is in it, and so no zone: the origin of an interval.
_MOMENTS = frozenset({"todate", "todate32", "todatetime", "todatetime64", "now", "today"})


def check(name: str, arguments: Sequence[Node]) -> None:
    """Raises Refusal when a zone of this call may be anything but a name in quotes."""
    for argument in arguments[first(name) :]:
        if not _harmless(argument):
            raise Refusal(
                f"A time zone in {name} is written as its name in quotes: 'Europe/Berlin'.", name
            )


def first(name: str) -> int:
    """From which argument on, counted from 0, a function of this name may take a zone."""
    of_text = name.startswith("to") and name.endswith(_OF_TEXT)
    return _FROM.get(name, 1 if of_text else _NEVER)


def harmless(zone: str) -> bool:
    """Whether the name leads to nothing but a zone."""
    return _NAME.fullmatch(zone) is not None and zone.rpartition("/")[2] not in _OF_THE_HOST


def _harmless(argument: Node) -> bool:
    if isinstance(argument, exp.Literal):
        return not argument.is_string or harmless(argument.name)
    return isinstance(argument, exp.Anonymous) and argument.name.lower() in _MOMENTS
