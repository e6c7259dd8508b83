"""What is asked: a range of days, filters, levels; parsed from the parameters of a request.

Every host parses with this, so that all refuse the same things with the same codes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from nilometer.domain.metric_rules import MAX_NAME_CHARS
from nilometer.errors import InvalidInput
from nilometer.usage import cursors
from nilometer.usage.dimensions import DIMENSIONS, FILTERS, STATUSES

MAX_DAYS = 366
"""The longest range, both ends included."""
DEFAULT_DAYS = 30
DEFAULT_LEVELS = ("day",)
DEFAULT_LIMIT = 1000
MAX_LIMIT = 10_000
MAX_COMBINED = 4

PARAMETERS = (
    *("start_date", "end_date", "aggregation", "group_by", "limit", "cursor"),
    *FILTERS,
)

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EARLIEST = date(1970, 1, 1)
_LATEST = date(2299, 12, 31)


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Days `start` to `end`, both included, UTC. `levels` are aggregated each for itself, and
    `group_by` together; of its groups, in the order of their keys, `limit` come after `after`."""

    start: date
    end: date
    filters: Mapping[str, str] = field(default_factory=dict[str, str])
    levels: tuple[str, ...] = DEFAULT_LEVELS
    group_by: tuple[str, ...] = ()
    limit: int = DEFAULT_LIMIT
    after: tuple[str, ...] | None = None

    @property
    def days(self) -> list[str]:
        """Every day of the range, `YYYY-MM-DD`."""
        count = (self.end - self.start).days + 1
        return [(self.start + timedelta(days=n)).isoformat() for n in range(count)]

    def subject(self) -> list[Any]:
        """What a cursor belongs to: everything but the place in the list."""
        return [
            self.start.isoformat(),
            self.end.isoformat(),
            sorted(self.filters.items()),
            list(self.group_by),
        ]


def parse(parameters: Mapping[str, Sequence[str]], *, today: date) -> UsageQuery:
    """The query of a request's parameters, each with the values that were sent; `today` is UTC's.

    Raises InvalidInput with one of the codes `unknown_parameter`, `repeated_parameter`,
    `invalid_date`, `reversed_range`, `range_too_long`, `unknown_aggregation`, `invalid_group_by`,
    `invalid_filter`, `invalid_status`, `invalid_limit` and `invalid_cursor`; `attr` names the
    parameter.
    """
    given = _single(parameters)
    start, end = _range(given, today)
    query = UsageQuery(
        start=start,
        end=end,
        filters={name: _filter(name, given[name]) for name in FILTERS if name in given},
        levels=_levels(given),
        group_by=_group_by(given),
        limit=_limit(given),
    )
    if "cursor" not in given:
        return query
    return UsageQuery(
        **{name: getattr(query, name) for name in query.__slots__ if name != "after"},
        after=cursors.decode(given["cursor"], query.subject(), len(query.group_by)),
    )


def _single(parameters: Mapping[str, Sequence[str]]) -> dict[str, str]:
    for name, values in parameters.items():
        if name not in PARAMETERS:
            raise InvalidInput(
                f"There is no such parameter; known are {', '.join(PARAMETERS)}.",
                code="unknown_parameter",
                attr=name[:64],
            )
        if len(values) > 1:
            raise InvalidInput(
                f"{name} is there {len(values)} times.", code="repeated_parameter", attr=name
            )
    return {name: values[0] for name, values in parameters.items() if values}


def _range(given: Mapping[str, str], today: date) -> tuple[date, date]:
    end = _date("end_date", given["end_date"]) if "end_date" in given else None
    start = _date("start_date", given["start_date"]) if "start_date" in given else None
    if start is None:
        start = today - timedelta(days=DEFAULT_DAYS)
    end = end or today
    if start > end:
        raise InvalidInput(
            f"start_date {start} is after end_date {end}.", code="reversed_range", attr="start_date"
        )
    if (end - start).days >= MAX_DAYS:
        raise InvalidInput(
            f"The range is longer than {MAX_DAYS} days.", code="range_too_long", attr="start_date"
        )
    return start, end


def _date(name: str, text: str) -> date:
    try:
        found = date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None or not _EARLIEST <= found <= _LATEST:
        raise InvalidInput(
            f"{name} is not a date such as 2025-07-01, from {_EARLIEST} to {_LATEST}.",
            code="invalid_date",
            attr=name,
        )
    return found


def _levels(given: Mapping[str, str]) -> tuple[str, ...]:
    if "aggregation" not in given:
        return DEFAULT_LEVELS
    return _names(given["aggregation"], "aggregation", "unknown_aggregation")


def _group_by(given: Mapping[str, str]) -> tuple[str, ...]:
    names = _names(given.get("group_by", ""), "group_by", "invalid_group_by")
    if len(names) > MAX_COMBINED:
        raise InvalidInput(
            f"group_by takes at most {MAX_COMBINED} levels.",
            code="invalid_group_by",
            attr="group_by",
        )
    return names


def _names(text: str, attr: str, code: str) -> tuple[str, ...]:
    """The levels of a comma list, each once, in the order in which they are named."""
    names = dict.fromkeys(name for each in text.split(",") if (name := each.strip()))
    if not names.keys() <= set(DIMENSIONS):
        raise InvalidInput(f"{attr} is a list of {', '.join(DIMENSIONS)}.", code=code, attr=attr)
    return tuple(names)


def _filter(name: str, value: str) -> str:
    text = value.strip().lower() if name in ("service", "status") else value
    if not text or len(text) > MAX_NAME_CHARS or "\0" in text:
        raise InvalidInput(
            f"{name} is a text of 1 to {MAX_NAME_CHARS} characters.",
            code="invalid_filter",
            attr=name,
        )
    if name == "status" and text not in STATUSES:
        raise InvalidInput("status is success or error.", code="invalid_status", attr="status")
    return text


def _limit(given: Mapping[str, str]) -> int:
    text = given.get("limit", str(DEFAULT_LIMIT))
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
    if not 1 <= number <= MAX_LIMIT:
        raise InvalidInput(
            f"limit is a whole number from 1 to {MAX_LIMIT}.", code="invalid_limit", attr="limit"
        )
    return number
