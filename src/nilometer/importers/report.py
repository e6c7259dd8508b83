"""What the calls of a store cost: the report of `nilometer report`, from one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from nilometer.errors import InvalidInput, NotFound
from nilometer.importers.store.connection import translated
from nilometer.importers.store.store import TraceStore
from nilometer.usage import latency
from nilometer.usage.groups import atto, usd
from nilometer.usage.report import making
from nilometer.usage.report.making import Levels, Wanted
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
    that end before they begin."""
    with translated(store.path):
        _add_functions(store.database)
        filters = dict(asked.filters or {})
        first, last = _days(store.database, filters)
        period = Period(asked.start or first, asked.end or last)
        if period.days < 1:
            raise InvalidInput(f"{period.start} is after {period.end}", attr="from")
        wanted = Wanted(period, asked.tables, filters, compare=False)
        return making.assembled(_name(store.path), wanted, _Read(store.database, period, filters))


def _name(path: Path) -> str:
    return f"sqlite://{path.name}"


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

    def groups(self, levels: Levels) -> dict[Levels, Figures]:
        """By the values of levels."""
        return self._figures(levels)

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
