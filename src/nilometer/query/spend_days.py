"""What budgets spent on days that are kept (`usage_days`), so that of a month's calls only those of
its last hours are read.

Of each span the whole days from its first one on are taken from their kept sums, up to the first
day that is not kept as its calls are now. What is before and after them, of a period of another
time zone and of today, is left to be read from the calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from nilometer.budgets.budget import ScopeKind
from nilometer.budgets.spend import Span, Spent
from nilometer.clickhouse.store import Store
from nilometer.query.reader import Condition, Reader, Select, equal
from nilometer.query.usage_days import Marks, UsageDays
from nilometer.query.usage_sql import Cells

_KINDS = {ScopeKind.USER: "user", ScopeKind.JOB: "job"}
"""The kind of kept sums that a scope is told apart in; all others are of `days`."""
_EVERYTHING = "days"
_COLUMNS = {
    ScopeKind.SERVICE: "service",
    ScopeKind.MODEL: "model",
    ScopeKind.ENVIRONMENT: "environment",
    ScopeKind.USER: "value",
    ScopeKind.JOB: "value",
}
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Share:
    """A span in two: its whole days that are kept, from `first` to before `end`, none where the two
    are equal; and the pieces of time that are left."""

    first: date
    end: date
    pieces: tuple[tuple[datetime, datetime], ...]

    @property
    def kept(self) -> bool:
        """Whether some of it is."""
        return self.first < self.end


class SpendDays:
    """Reads of kept days for budgets. Safe between threads."""

    def __init__(self, store: Store) -> None:
        self._days = UsageDays(store)
        self._reader = Reader(store)

    def marks(self, project_id: int, spans: Iterable[Span]) -> Marks:
        """What differs when a call that matters to these spans came, went or was priced again.
        Raises the store's errors."""
        found = list(spans)
        first = min(span.start for span in found).astimezone(UTC).date()
        last = max(span.end for span in found).astimezone(UTC).date()
        return self._days.marks(project_id, first - _ONE_DAY, last + _ONE_DAY)

    def of(
        self, project_id: int, spans: Sequence[Span], marks: Marks
    ) -> tuple[list[Spent], list[Share]]:
        """What kept days have of each span, and how it is shared. Raises the store's errors, and
        where a kept day is gone meanwhile an error of `usage_sql.GONE`."""
        kinds = {span: _KINDS.get(span.scope.kind, _EVERYTHING) for span in spans}
        builds = self._days.kept(project_id, marks, frozenset(kinds.values()))
        shares = [_share(span, kinds[span], builds, marks) for span in spans]
        spent = [Spent()] * len(spans)
        for kind in sorted(set(kinds.values())):
            places = [n for n, span in enumerate(spans) if kinds[span] == kind and shares[n].kept]
            if not places:
                continue
            cells = _cells(kind, [shares[n] for n in places], builds)
            select = _select(cells, {n: (spans[n], shares[n]) for n in places})
            [row] = self._reader.rows(project_id, select)
            for n in places:
                spent[n] = _spent(row, n)
        return spent, shares


def _share(span: Span, kind: str, builds: Mapping[tuple[str, date], UUID], marks: Marks) -> Share:
    start, end = span.start.astimezone(UTC), span.end.astimezone(UTC)
    first, last = _day_from(start), end.date()
    cut = first
    if not span.first:
        while cut < last and (cut not in marks.rows or (kind, cut) in builds):
            cut += _ONE_DAY
    if cut <= first:
        return Share(first, first, ((start, end),))
    pieces = ((start, _midnight(first)), (_midnight(cut), end))
    return Share(first, cut, tuple(piece for piece in pieces if piece[0] < piece[1]))


def _day_from(moment: datetime) -> date:
    """The first day that begins at this moment or later."""
    day = moment.date()
    return day if moment == _midnight(day) else day + _ONE_DAY


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _cells(kind: str, shares: Iterable[Share], builds: Mapping[tuple[str, date], UUID]) -> Cells:
    first, end = min(each.first for each in shares), max(each.end for each in shares)
    within = {build for (of, day), build in builds.items() if of == kind and first <= day < end}
    return Cells(kind, tuple(sorted(within)))


def _select(cells: Cells, asked: Mapping[int, tuple[Span, Share]]) -> Select:
    columns = {
        _COLUMNS[span.scope.kind] for span, _ in asked.values() if span.scope.kind in _COLUMNS
    }
    arrays = sorted({*columns, "calls", "unpriced", "cost"})
    shown: list[str] = []
    bound: dict[str, Any] = {}
    for place, (span, share) in asked.items():
        condition = _within(span, share, place)
        bound |= condition.parameters
        shown += [
            f"sumIf(best.cost, {condition.sql}) AS cost_{place}",
            f"sumIf(best.calls, {condition.sql}) AS calls_{place}",
            f"sumIf(best.unpriced, {condition.sql}) AS unpriced_{place}",
        ]
    return Select(
        ", ".join(("day", *arrays)),
        "usage_days",
        [equal("kind", "kind", cells.kind), cells.there],
        parameters=bound,
        around=[(", ".join(shown), "")],
        every_copy=True,
        join=f"ARRAY JOIN {', '.join(arrays)}",
    )


def _within(span: Span, share: Share, place: int) -> Condition:
    names = {f"first_{place}": str(share.first), f"end_{place}": str(share.end)}
    sql = f"best.day >= {{first_{place}:Date32}} AND best.day < {{end_{place}:Date32}}"
    column = _COLUMNS.get(span.scope.kind)
    if column is None:
        return Condition(sql, names)
    one = equal(f"best.{column}", f"value_{place}", span.scope.value)
    return Condition(f"{sql} AND {one.sql}", {**names, **one.parameters})


def _spent(row: Mapping[str, Any], place: int) -> Spent:
    return Spent(
        cost=Decimal(row[f"cost_{place}"]),
        calls=int(row[f"calls_{place}"]),
        unpriced=int(row[f"unpriced_{place}"]),
    )
