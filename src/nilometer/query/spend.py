"""What budgets spent, from `calls`: each call once, as its best source tells it, at its own time.

Whole days are taken from what is kept of them (`spend_days`), and the rest of a question is
answered in one pass over its calls. Who asks again before a call came, went or was priced again
gets the answer that was made: marks of the days say so, and read four narrow columns.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.spend import Span, Spent
from nilometer.clickhouse.errors import StatementTooCostly
from nilometer.clickhouse.store import Store, StoreRejected
from nilometer.domain import clock
from nilometer.query.reader import Condition, Reader, Select, equal, moment
from nilometer.query.spend_days import SpendDays
from nilometer.query.trace_sql import BEST
from nilometer.query.usage_days import Marks
from nilometer.query.usage_sql import GONE, SKEW

_VALUES = {
    ScopeKind.SERVICE: "lower(ifNull(provider, ''))",
    ScopeKind.MODEL: "ifNull(model, '')",
    ScopeKind.USER: "user_id",
    ScopeKind.JOB: "job_id",
    ScopeKind.ENVIRONMENT: "environment",
}
_MEASURED = ("timestamp", "is_error", "cost_total", "reported_total_cost_usd", "cost_stated")
_COLUMNS = {
    ScopeKind.SERVICE: "provider",
    ScopeKind.MODEL: "model",
    ScopeKind.USER: "user_id",
    ScopeKind.JOB: "job_id",
    ScopeKind.ENVIRONMENT: "environment",
}
"""The column of a scope's value. Only those that are asked for are read: of every row."""
# As `nilometer.usage.groups.known_cost`.
_COST = (
    "coalesce(cost_total, if(cost_stated, reported_total_cost_usd, NULL), "
    "nullIf(reported_total_cost_usd, 0))"
)
_SPANS_A_READ = 40
_MOST_READS = 6
_KEPT = 2000
_EXACT = Context(prec=80)

Piece = tuple[datetime, datetime]
Pieces = Sequence[Piece]
Asked = tuple[int, tuple[Span, ...]]


class CallSpend:
    """Reads spend of projects. Safe between threads."""

    def __init__(self, store: Store) -> None:
        self._reader = Reader(store)
        self._days = SpendDays(store)
        self._kept: OrderedDict[Asked, tuple[str, list[Spent]]] = OrderedDict()
        self._keeping = threading.Lock()

    def of_project(self, project_id: int, organization: Sequence[int] = ()) -> ProjectSpend:
        """The spend that budgets of one project ask for. `organization` are the projects whose
        calls a global budget counts: those of its own organization, and no others."""
        return ProjectSpend(self, project_id, organization)

    def of(self, project_id: int, spans: Sequence[Span]) -> list[Spent]:
        """What one project's calls cost in each span; of a global one, too, that project's."""
        found: list[Spent] = []
        for start in range(0, len(spans), _SPANS_A_READ):
            found += self._known(project_id, tuple(spans[start : start + _SPANS_A_READ]))
        return found

    def _known(self, project_id: int, spans: tuple[Span, ...]) -> list[Spent]:
        # Rows that arrive after them change the marks of the next question, not of this one.
        marks, asked = self._days.marks(project_id, spans), (project_id, spans)
        with self._keeping:
            known = self._kept.get(asked)
        if known is not None and known[0] == marks.digest:
            return known[1]
        found = self._read(project_id, spans, marks) if marks.rows else [Spent()] * len(spans)
        with self._keeping:
            self._kept[asked] = (marks.digest, found)
            self._kept.move_to_end(asked)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def _read(self, project_id: int, spans: Sequence[Span], marks: Marks) -> list[Spent]:
        """By kept days as far as they go, and by the calls of the rest."""
        try:
            kept, shares = self._days.of(project_id, spans, marks)
        except StatementTooCostly:
            return self.of_calls(project_id, spans)
        except StoreRejected as refused:
            if refused.engine_name != GONE:
                raise
            return self.of_calls(project_id, spans)
        left = [(span, each.pieces) for span, each in zip(spans, shares, strict=True)]
        found = kept
        for window in _windows([piece for _, pieces in left for piece in pieces]):
            early = marks.early(_days(window))
            if early:  # else there is no call
                part = [(span, _inside(pieces, window)) for span, pieces in left]
                found = list(map(_sum, found, self._of_pieces(project_id, part, window, early)))
        return found

    def of_calls(self, project_id: int, spans: Sequence[Span]) -> list[Spent]:
        """As `of`, of one read's spans, from the calls themselves."""
        asked = [(span, ((span.start, span.end),)) for span in spans]
        start, end = min(span.start for span in spans), max(span.end for span in spans)
        return self._of_pieces(project_id, asked, (start - SKEW, end + SKEW))

    def _of_pieces(
        self,
        project_id: int,
        asked: Sequence[tuple[Span, Pieces]],
        window: Piece,
        early: Sequence[Condition] = (),
    ) -> list[Spent]:
        """What the calls of each span cost within its pieces of time, which are all in a window."""
        shown: list[str] = []
        bound: dict[str, Any] = {}
        for place, (span, pieces) in enumerate(asked):
            if pieces:
                condition = _within(span.scope, pieces, place)
                bound |= condition.parameters
                shown += _sums(condition.sql, place)
        around = [(", ".join(shown), "")]
        seen = [_times([window], "seen")]
        told = {_COLUMNS[span.scope.kind] for span, _ in asked if span.scope.kind in _COLUMNS}
        columns = ", ".join((*_MEASURED, *sorted(told)))
        select = Select(columns, "calls", seen, BEST, bound, around, early=early)
        [row] = self._reader.rows(project_id, select)
        return [
            _spent(row, place) if pieces else Spent() for place, (_, pieces) in enumerate(asked)
        ]


class ProjectSpend:
    """The port `nilometer.budgets.spend.Spend`, for the budgets of one project."""

    def __init__(self, calls: CallSpend, project_id: int, organization: Sequence[int]) -> None:
        self._calls = calls
        self._project_id = project_id
        self._organization = organization

    def of(self, spans: Sequence[Span]) -> list[Spent]:
        """As the port says. Raises the store's errors."""
        own = [span for span in spans if span.scope.kind is not ScopeKind.GLOBAL]
        everyones = [span for span in spans if span.scope.kind is ScopeKind.GLOBAL]
        found = dict(zip(own, self._calls.of(self._project_id, own), strict=True))
        found |= dict(zip(everyones, self._of_all(everyones), strict=True))
        return [found[span] for span in spans]

    def _of_all(self, spans: Sequence[Span]) -> list[Spent]:
        total = [Spent()] * len(spans)
        if spans:
            for project_id in self._organization:
                total = list(map(_sum, total, self._calls.of(project_id, spans)))
        return total


def _windows(pieces: Pieces) -> list[Piece]:
    """When the rows are that may matter to these pieces of time: with those of a call that another
    source gives another time. Each window is read for itself, where there are few."""
    windows: list[Piece] = []
    for start, end in sorted((start - SKEW, end + SKEW) for start, end in pieces):
        if windows and start <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(end, windows[-1][1]))
        else:
            windows.append((start, end))
    if len(windows) <= _MOST_READS:
        return windows
    return [(windows[0][0], windows[-1][1])]


def _inside(pieces: Pieces, window: Piece) -> Pieces:
    return tuple(each for each in pieces if window[0] <= each[0] and each[1] <= window[1])


def _days(window: Piece) -> list[date]:
    first, last = (moment.astimezone(UTC).date() for moment in window)
    return [first + timedelta(days=each) for each in range((last - first).days + 1)]


def _within(scope: BudgetScope, pieces: Pieces, place: int) -> Condition:
    conditions = [_times(pieces, f"of_{place}"), *_of_scope(scope, place)]
    bound: dict[str, Any] = {}
    for condition in conditions:
        bound |= condition.parameters
    return Condition(" AND ".join(condition.sql for condition in conditions), bound)


def _times(pieces: Pieces, name: str) -> Condition:
    """A time within one of these pieces."""
    sql: list[str] = []
    bound: dict[str, Any] = {}
    for number, (start, end) in enumerate(pieces):
        first = moment("timestamp >=", f"{name}_start_{number}", clock.to_micros(start))
        last = moment("timestamp <", f"{name}_end_{number}", clock.to_micros(end))
        sql.append(f"{first.sql} AND {last.sql}")
        bound |= {**first.parameters, **last.parameters}
    return Condition(f"({' OR '.join(f'({each})' for each in sql)})", bound)


def _of_scope(scope: BudgetScope, place: int) -> list[Condition]:
    value = _VALUES.get(scope.kind)
    return [] if value is None else [equal(value, f"value_{place}", scope.value)]


def _sums(condition: str, place: int) -> list[str]:
    return [
        f"sumIf(toDecimal256(ifNull({_COST}, 0), 18), {condition}) AS cost_{place}",
        f"countIf({condition}) AS calls_{place}",
        f"countIf({condition} AND {_COST} IS NULL AND NOT is_error) AS unpriced_{place}",
        f"toUnixTimestamp64Micro(minIf(timestamp, {condition})) AS first_{place}",
    ]


def _spent(row: dict[str, Any], place: int) -> Spent:
    calls = int(row[f"calls_{place}"])
    return Spent(
        cost=Decimal(row[f"cost_{place}"]),
        calls=calls,
        unpriced=int(row[f"unpriced_{place}"]),
        first_at=clock.from_micros(row[f"first_{place}"]) if calls else None,
    )


def _sum(one: Spent, other: Spent) -> Spent:
    return Spent(
        cost=_EXACT.add(one.cost, other.cost),
        calls=one.calls + other.calls,
        unpriced=one.unpriced + other.unpriced,
        first_at=_earlier(one.first_at, other.first_at),
    )


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((each for each in (one, other) if each is not None), default=None)
