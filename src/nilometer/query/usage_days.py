"""What the calls of a day add up to, kept until one of them changes.

A kept day says by a `mark` of which rows it was made, and is read only while the rows have that
mark: what is added up of kept days is what is added up of the calls. So nothing has to be told of
a change, and none can be missed: an insert, a new price, a row that is gone and even a second copy
of a row give its day another mark. The mark is taken before the rows are read; a day that changes
in between has newer sums than its mark says, and the next reader makes it anew.

Sources of one call may give it times of two days (`SKEW`), so a day's mark is also of the day
before it and the one after.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from nilometer.clickhouse.store import Store
from nilometer.domain import clock
from nilometer.query.reader import Condition, Reader, Select, moment
from nilometer.query.trace_sql import BEST
from nilometer.query.usage_sql import (
    BUCKET,
    CELL_SUMS,
    DIMENSIONS,
    SKEW,
    SUMS,
    Cells,
    between,
    columns_of,
    key,
)
from nilometer.usage.plan import BASE, LISTED, SCOPES

FORM = 1
"""Of what is kept. Of another form, a day is made anew."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "days": BASE,
    "hours": ("hour", *BASE),
    **{name: (name, *LISTED) for name in SCOPES},
}
"""The kinds of sums of a day, and what their cells are told apart by."""

MAX_CELLS = 50_000
"""Of one kind of a day. Where there are more, none is kept, and the calls are read."""
ROWS_AT_ONCE = 300_000
"""Of `calls`, about: the days of so many are made by one statement."""

_ONE_DAY = timedelta(days=1)
_LAST = date(2299, 12, 31)  # of the engine's calendar
_DAY = "toDate32(timestamp, 'UTC')"
# Four narrow columns of every row. A projection of the table would have these sums at once, and
# took as much processor time again of every insert and merge.
_MARK = (
    f"{_DAY} AS day, count() AS calls, min(accepted_at) AS oldest, max(accepted_at) AS newest, "
    "sum(cityHash64(event_uuid, revision)) AS hash"
)
_CHANGED = """
SELECT DISTINCT project_id FROM calls WHERE accepted_at >= {since:DateTime64(6, 'UTC')}
ORDER BY project_id
"""
_LOCKS = 64

# Which of these a kind's cells are grouped by tells the kind.
_TELLING = ("hour", "model", *SCOPES)
_ARRAYS = {
    "hour": "key_hour",
    "service": "key_service",
    "model": "key_model",
    "operation": "key_operation",
    "environment": "key_environment",
    "status": "key_status",
    "value": "key_value",
    **{name: f"sum_{place}" for place, name in enumerate(CELL_SUMS)},
}
_ZEROS = (*("0", "toUInt128(0)", *["0"] * 3, *["toUInt128(0)"] * 2, "toDecimal256(0, 18)"),)
# A cell, as `_making` has them.
_NO_CALLS = ", ".join(
    [
        *("kind", "made_day", *(f"'' AS {key(name)}" for name in DIMENSIONS if name != "day")),
        *("'' AS key_value", *(f"{zero} AS sum_{n}" for n, zero in enumerate(_ZEROS))),
        "(emptyArrayUInt64(), emptyArrayUInt64()) AS distribution",
    ]
)
_COLUMNS = (
    *("project_id", "kind", "day", "build", "built_at", "mark", "whole", "cells"),
    *(*_ARRAYS, "latencies", "latency_counts"),
)


@dataclass(frozen=True, slots=True)
class Marks:
    """The state of some days: of each, how many rows of calls there are, and its mark."""

    rows: Mapping[date, int]
    marks: Mapping[date, str]
    accepted: Mapping[date, tuple[datetime, datetime]]
    """When the rows of a day and its neighbours were: none of them earlier or later."""

    def early(self, days: Iterable[date]) -> list[Condition]:
        """What the rows that may matter to these days have in common."""
        spans = [self.accepted[day] for day in days if day in self.accepted]
        if not spans:
            return []
        first, last = min(span[0] for span in spans), max(span[1] for span in spans)
        return [
            moment("accepted_at >=", "accepted_first", clock.to_micros(first)),
            moment("accepted_at <=", "accepted_last", clock.to_micros(last)),
        ]

    @property
    def digest(self) -> str:
        """All of the marks, as one."""
        return _digest(sorted(self.marks.items()))

    @property
    def used(self) -> list[date]:
        """The days that have a call."""
        return sorted(self.marks)


class UsageDays:
    """The kept days of all projects. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reader = Reader(store)
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def changed_projects(self, since: datetime) -> list[int]:
        """For the operator: the projects that have a call which was accepted since. Raises the
        store's errors."""
        rows = self._store.query(_CHANGED, {"since": since}).rows
        return [project for (project,) in rows]

    def marks(self, project_id: int, start: date, end: date) -> Marks:
        """What differs when a row that matters to one of these days came, went or was priced
        again. Raises the store's errors."""
        condition = Condition(
            f"{_DAY} BETWEEN {{first:Date32}} AND {{last:Date32}}",
            {"first": str(start - _ONE_DAY), "last": str(min(end, _LAST - _ONE_DAY) + _ONE_DAY)},
        )
        select = Select(_MARK, "calls", [condition], f"GROUP BY {_DAY}", every_copy=True)
        found = {row["day"]: row for row in self._reader.rows(project_id, select)}
        days = [day for day in found if start <= day <= end]
        return Marks(
            {day: int(found[day]["calls"]) for day in days},
            {day: _mark(day, found) for day in days},
            {day: _accepted(day, found) for day in days},
        )

    def cells(self, project_id: int, marks: Marks, kinds: Iterable[str]) -> dict[str, Cells] | None:
        """Where to read these kinds of the days of the marks: days that are not kept are made
        first. None where it is less work to read the calls, or one cannot be kept. Raises the
        store's errors."""
        wanted = tuple(kinds)
        found = self._found(project_id, marks)
        stale = _stale(found, marks, wanted)
        if stale:
            if not _worth(stale, marks):
                return None
            found = self.refresh(project_id, marks)
        builds = {kind: [found.get((kind, day)) for day in marks.used] for kind in wanted}
        if not all(each is not None and each[1] for kept in builds.values() for each in kept):
            return None
        return {
            kind: Cells(kind, tuple(each[0] for each in kept if each))
            for kind, kept in builds.items()
        }

    def refresh(self, project_id: int, marks: Marks) -> dict[tuple[str, date], tuple[UUID, bool]]:
        """Make the days that are not kept; the builds of all by kind and day, and whether each is
        whole. Raises the store's errors."""
        with self._locks[project_id % _LOCKS]:
            found = self._found(project_id, marks)
            stale = _stale(found, marks, KINDS)
            for days in _shares(stale, marks):
                self._make(project_id, days, marks)
            return self._found(project_id, marks) if stale else found

    def kept(
        self, project_id: int, marks: Marks, kinds: Iterable[str]
    ) -> dict[tuple[str, date], UUID]:
        """The builds of these kinds that are whole and of the marks, by kind and day; none is
        made. Raises the store's errors."""
        wanted = set(kinds)
        return {
            (kind, day): build
            for (kind, day), (build, whole) in self._found(project_id, marks).items()
            if whole and kind in wanted
        }

    def _found(self, project_id: int, marks: Marks) -> dict[tuple[str, date], tuple[UUID, bool]]:
        """Of each kind and day, a build of these marks."""
        if not marks.used:
            return {}
        days = Condition(
            "day BETWEEN {first:Date32} AND {last:Date32}",
            {"first": str(marks.used[0]), "last": str(marks.used[-1])},
        )
        select = Select("kind, day, mark, build, whole", "usage_days", [days], every_copy=True)
        return {
            (row["kind"], row["day"]): (row["build"], row["whole"])
            for row in self._reader.rows(project_id, select)
            if marks.marks.get(row["day"]) == row["mark"]
        }

    def _make(self, project_id: int, days: Sequence[date], marks: Marks) -> None:
        self._reader.insert(project_id, f"usage_days ({', '.join(_COLUMNS)})", _making(days, marks))


def _mark(day: date, found: Mapping[date, Mapping[str, Any]]) -> str:
    return _digest((FORM, [sorted(row.items()) for row in _near(day, found)]))


def _digest(marked: object) -> str:
    return hashlib.sha256(repr(marked).encode()).hexdigest()[:32]


def _accepted(day: date, found: Mapping[date, Mapping[str, Any]]) -> tuple[datetime, datetime]:
    near = _near(day, found)
    return min(row["oldest"] for row in near), max(row["newest"] for row in near)


def _near(day: date, found: Mapping[date, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A day with its neighbours."""
    return [found[each] for each in (day - _ONE_DAY, day, day + _ONE_DAY) if each in found]


def _stale(
    found: Mapping[tuple[str, date], object], marks: Marks, kinds: Iterable[str]
) -> list[date]:
    wanted = tuple(kinds)
    return [day for day in marks.used if any((kind, day) not in found for kind in wanted)]


def _worth(stale: Sequence[date], marks: Marks) -> bool:
    """Whether making these days is less than reading all."""
    return 3 * sum(marks.rows[day] for day in stale) <= sum(marks.rows.values())


def _shares(stale: Sequence[date], marks: Marks) -> Iterator[list[date]]:
    """The days by as many as are made at once."""
    share: list[date] = []
    rows = 0
    for day in stale:
        if share and rows + marks.rows[day] > ROWS_AT_ONCE:
            yield share
            share, rows = [], 0
        share.append(day)
        rows += marks.rows[day]
    if share:
        yield share


def _making(days: Sequence[date], marks: Marks) -> Select:
    """The rows of these days, of every kind: their calls, grouped by what each kind's cells are
    told apart by, and the cells of a kind and day side by side.

    Every row has a cell without calls, so that a kind and day of none is kept too."""
    sets = ", ".join(f"({', '.join(['made_day', *map(key, cells)])})" for cells in KINDS.values())
    kinds = ", ".join(f"'{kind}'" for kind in KINDS)
    telling = ", ".join(map(key, _TELLING))
    masks = ", ".join(str(_mask(cells)) for cells in KINDS.values())
    value = f"concat({', '.join(map(key, SCOPES))})"
    cells = [
        f"transform(grouping({telling}), [{masks}], [{kinds}], '') AS kind",
        f"{_DAY} AS made_day",
        *(f"{DIMENSIONS[name]} AS {key(name)}" for name in DIMENSIONS if name != "day"),
        f"{value} AS key_value",
        *(f"{sql} AS sum_{place}" for place, sql in enumerate(SUMS)),
        f"sumMapIf([{BUCKET}], [toUInt64(1)], latency IS NOT NULL) AS distribution",
    ]
    scopes = ", ".join(f"'{name}'" for name in SCOPES)
    within = (
        f"WHERE {_DAY} IN {{days:Array(Date32)}} GROUP BY GROUPING SETS ({sets}) "  # noqa: S608
        f"HAVING kind NOT IN ({scopes}) OR key_value != '' UNION ALL SELECT {_NO_CALLS} "
        f"FROM (SELECT arrayJoin([{kinds}]) AS kind, "
        "arrayJoin({days:Array(Date32)}) AS made_day)"
    )
    kept = [
        "{project_id:Int64} AS project_id",
        "kind",
        "made_day AS day",
        "generateUUIDv4() AS build",
        "now64(6, 'UTC') AS built_at",
        "{marks:Array(String)}[indexOf({days:Array(Date32)}, made_day)] AS mark",
        f"count() <= {MAX_CELLS} AS whole",
        "toUInt32(if(whole, count(), 0)) AS cells",
    ]
    kept += [f"if(whole, groupArray({column}), []) AS {name}" for name, column in _ARRAYS.items()]
    has = "whole AND kind != 'hours'"
    kept += [
        f"if({has}, groupArray(distribution.{place}), []) AS {name}"
        for place, name in ((1, "latencies"), (2, "latency_counts"))
    ]
    return Select(
        ", ".join(columns_of(DIMENSIONS)),
        "calls",
        between(min(days), max(days), SKEW, "seen_"),
        BEST,
        {"days": [str(day) for day in days], "marks": [marks.marks[day] for day in days]},
        [(", ".join(cells), within), (", ".join(kept), "GROUP BY kind, made_day")],
        early=marks.early(days),
    )


def _mask(cells: Sequence[str]) -> int:
    """`grouping` of a kind: a one for each that it is not grouped by, the last one's the least."""
    return sum(1 << place for place, name in enumerate(reversed(_TELLING)) if name not in cells)
