"""What the calls of a store cost: the report of `nilometer report`, from one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from nilometer.errors import InvalidInput, NotFound
from nilometer.importers.store.connection import translated
from nilometer.importers.store.store import TraceStore
from nilometer.usage import latency
from nilometer.usage.groups import atto, usd
from nilometer.usage.report import making
from nilometer.usage.report.making import Grouped, Levels, Wanted
from nilometer.usage.report.report import Figures, Period, Report

LEVELS: Mapping[str, str] = {
    "developer": "developer_id",
    "repository": "repo_slug",
    "model": "model",
    "session": "session_id",
    "day": "event_date",
    "hour": "substr(timestamp, 12, 2)",
    "service": "provider",
    "operation": "operation",
    "status": "status",
    "source": "source",
}
"""What a table may be by, and a report narrowed to, and the column that has it."""

ALIASES = {"repo": "repository", "provider": "service"}
MAX_COMBINED = 4
MAX_DAYS = 1098
"""Three years. One record with a clock of its own makes no report of a century."""

_KNOWN = "coalesce(cost_usd, CASE WHEN cost_reported_usd + 0 <> 0 THEN cost_reported_usd END)"
"""As `usage.groups.known_cost` says."""
_SUMS = f"""
count(*), exact_sum({_KNOWN}), coalesce(sum(status = 'error'), 0),
coalesce(sum(status <> 'error' AND {_KNOWN} IS NULL), 0), count({_KNOWN}),
coalesce(sum(total_tokens), 0)"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is to be of: a table for each combination of levels, the days (None: from the
    first call, to the last), and only calls with these values."""

    tables: tuple[Levels, ...]
    start: date | None = None
    end: date | None = None
    filters: Mapping[str, str] | None = None


def levels_of(text: str) -> Levels:
    """The levels of a comma list. Raises InvalidInput."""
    given = dict.fromkeys(name for each in text.split(",") if (name := each.strip()))
    names = tuple(ALIASES.get(name, name) for name in given)
    if not names or len(names) > MAX_COMBINED or not {*names} <= {*LEVELS}:
        raise InvalidInput(
            f"a table is by 1 to {MAX_COMBINED} of repo, {', '.join(LEVELS)}", attr="by"
        )
    return names


def make(store: TraceStore, asked: Asked) -> Report:
    """The report. Raises NotFound where the store has no call of these days, InvalidInput for days
    that end before they begin or are too many."""
    with translated(store.path):
        _add_functions(store.database)
        filters = dict(asked.filters or {})
        period, notes = _period(store.database, asked, filters)
        wanted = Wanted(period, asked.tables, filters, compare=False)
        read = _Read(store.database, period, filters)
        report = making.assembled(_name(store.path), wanted, read)
        return replace(report, notes=(*report.notes, *notes))


def _name(path: Path) -> str:
    return f"sqlite://{path.name}"


def _period(
    database: sqlite3.Connection, asked: Asked, filters: Mapping[str, str]
) -> tuple[Period, Sequence[str]]:
    """The days that were asked for, or all that have calls; if these are too many, those that have
    the most calls, and a note that says so."""
    first, last = _days(database, filters)
    period = Period(asked.start or first, asked.end or last)
    if period.days < 1:
        raise InvalidInput(f"{period.start} is after {period.end}", attr="from")
    if period.days <= MAX_DAYS:
        return period, ()
    if asked.start and asked.end:
        raise InvalidInput(f"a report is of at most {MAX_DAYS:,} days", attr="from")
    counts = _calls_by_day(database, period, filters)
    days = _fullest(counts, asked.start, asked.end)
    outside = sum(counts.values()) - sum(counts[day] for day in counts if _is_in(day, days))
    return days, (
        f"{outside:,} calls of {period.start} to {period.end} lie outside: a report is of at most "
        f"{MAX_DAYS:,} days.",
    )


def _fullest(counts: Mapping[date, int], start: date | None, end: date | None) -> Period:
    """Of the periods of MAX_DAYS that begin with a call, the first that has the most calls."""
    most = timedelta(days=MAX_DAYS - 1)
    if start:
        return Period(start, start + most)
    if end:
        return Period(end - most, end)
    days, best, behind, calls = sorted(counts), (0, 0), 0, 0
    for place, day in enumerate(days):
        while behind < len(days) and days[behind] - day <= most:
            calls += counts[days[behind]]
            behind += 1
        best = max(best, (calls, -place))
        calls -= counts[day]
    first = days[-best[1]]
    return Period(first, max(day for day in days if day - first <= most))


def _calls_by_day(
    database: sqlite3.Connection, period: Period, filters: Mapping[str, str]
) -> dict[date, int]:
    where, values = _narrowed(filters)
    rows = database.execute(
        f"SELECT event_date, count(*) FROM sessions WHERE {where}"  # noqa: S608  (our own names)
        " AND event_date BETWEEN ? AND ? GROUP BY event_date",
        (*values, period.start.isoformat(), period.end.isoformat()),
    )
    return {date.fromisoformat(day): count for day, count in rows}


def _is_in(day: date, period: Period) -> bool:
    return period.start <= day <= period.end


def _days(database: sqlite3.Connection, filters: Mapping[str, str]) -> tuple[date, date]:
    where, values = _narrowed(filters)
    first, last = database.execute(
        f"SELECT min(event_date), max(event_date) FROM sessions WHERE {where}",  # noqa: S608
        values,
    ).fetchone()
    if first is None:
        raise NotFound("there are no such calls in the database")
    return date.fromisoformat(first), date.fromisoformat(last)


def _narrowed(filters: Mapping[str, str]) -> tuple[str, list[str]]:
    """A condition, of our own names and marks alone, and the values."""
    parts = [f"{LEVELS[name]} = ?" for name in filters]
    return " AND ".join(["1", *parts]), list(filters.values())


class _Read:
    """The calls of a period."""

    def __init__(
        self, database: sqlite3.Connection, period: Period, filters: Mapping[str, str]
    ) -> None:
        self.period = period
        self._database = database
        where, values = _narrowed(filters)
        self._where = f"{where} AND event_date BETWEEN ? AND ?"
        self._values = [*values, period.start.isoformat(), period.end.isoformat()]

    def total(self) -> Figures:
        """Everything."""
        return self._figures(()).get((), Figures())

    def grouped(self, levels: Levels) -> Grouped:
        """By the values of levels."""
        return Grouped(self.total(), self._figures(levels))

    def _figures(self, levels: Levels) -> dict[Levels, Figures]:
        latencies: dict[Levels, dict[int, int]] = {}
        for *key, bucket, count in self._rows(levels, "latency_bucket(latency_ms), count(*)", 1):
            if bucket is not None:
                latencies.setdefault(tuple(key), {})[bucket] = count
        size = len(levels)
        return {
            (key := tuple(row[:size])): _of(row[size:], latencies.get(key, {}))
            for row in self._rows(levels, _SUMS, 0)
        }

    def _rows(self, levels: Levels, measured: str, more: int) -> Iterable[tuple[Any, ...]]:
        """Rows by the levels, and by so many of the columns that are measured."""
        names = [LEVELS[name] for name in levels]
        having = [f"coalesce({name}, '') <> ''" for name in names]
        places = ", ".join(str(place + 1) for place in range(len(names) + more))
        return self._database.execute(
            f"SELECT {', '.join([*names, measured])} FROM sessions"  # noqa: S608  (our own names)
            f" WHERE {' AND '.join([self._where, *having])}"
            f"{f' GROUP BY {places}' if places else ''}",
            self._values,
        ).fetchall()


def _of(row: tuple[Any, ...], latencies: Mapping[int, int]) -> Figures:
    calls, cost, errors, unpriced, priced, tokens = row
    found = latency.percentiles(latencies) if latencies else []
    return Figures(
        cost=None if unpriced and not priced else usd(int(cost or 0)),
        calls=calls,
        requests=calls,
        errors=errors,
        unpriced=unpriced,
        tokens=tokens,
        p50=latency.middle(found[0]) if found else None,
        p95=latency.middle(found[2]) if found else None,
    )


class _ExactSum:
    """Sums decimal texts in units of 10^-18: SQLite's own sum is of floats."""

    def __init__(self) -> None:
        self._sum = 0

    def step(self, amount: str | None) -> None:
        """Add an amount."""
        if amount is not None:
            self._sum += atto(Decimal(amount))

    def finalize(self) -> str:
        """The sum: too large for an integer of SQLite."""
        return str(self._sum)


def _bucket(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else latency.bucket(milliseconds / 1000)


def _add_functions(database: sqlite3.Connection) -> None:
    add: Callable[..., None] = database.create_aggregate  # its stub wants a class of its own
    add("exact_sum", 1, _ExactSum)
    database.create_function("latency_bucket", 1, _bucket, deterministic=True)
