"""What budgets spent, from `calls`: each call once, as its best source tells it, at its own time.

Every question of a project is answered in one pass. Who asks again before a call came, went or was
priced again gets the answer that was made: a mark of the rows says so, and reads three narrow
columns.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Context, Decimal
from typing import Any

from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.spend import Span, Spent
from nilometer.clickhouse.store import Store
from nilometer.domain import clock
from nilometer.query.reader import Condition, Reader, Select, equal, moment
from nilometer.query.trace_sql import BEST

_VALUES = {
    ScopeKind.SERVICE: "lower(ifNull(provider, ''))",
    ScopeKind.MODEL: "ifNull(model, '')",
    ScopeKind.USER: "user_id",
    ScopeKind.JOB: "job_id",
    ScopeKind.ENVIRONMENT: "environment",
}
_COLUMNS = (
    *("timestamp", "is_error", "cost_total", "reported_total_cost_usd"),
    *("provider", "model", "user_id", "job_id", "environment"),
)
# As `nilometer.usage.groups.known_cost`.
_COST = "ifNull(cost_total, nullIf(reported_total_cost_usd, 0))"
_MARK = "count(), max(accepted_at), sum(cityHash64(event_uuid, revision))"
# Two sources of one call give it times that differ by less.
_SKEW = timedelta(days=1)
_SPANS_A_READ = 40
_KEPT = 2000
_EXACT = Context(prec=80)

Mark = tuple[Any, ...]
Asked = tuple[int, tuple[Span, ...]]


class CallSpend:
    """Reads spend of projects. Safe between threads."""

    def __init__(self, store: Store) -> None:
        self._reader = Reader(store)
        self._kept: OrderedDict[Asked, tuple[Mark, list[Spent]]] = OrderedDict()
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
        between = _between(spans)
        # Rows that arrive after it change the mark of the next question, not of this one.
        [row] = self._reader.rows(project_id, Select(_MARK, "calls", between, every_copy=True))
        mark, asked = tuple(row.values()), (project_id, spans)
        with self._keeping:
            known = self._kept.get(asked)
        if known is not None and known[0] == mark:
            return known[1]
        found = self._read(project_id, spans, between) if mark[0] else [Spent()] * len(spans)
        with self._keeping:
            self._kept[asked] = (mark, found)
            self._kept.move_to_end(asked)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def _read(
        self, project_id: int, spans: Sequence[Span], between: Sequence[Condition]
    ) -> list[Spent]:
        shown: list[str] = []
        bound: dict[str, Any] = {}
        for place, span in enumerate(spans):
            condition = _within(span, place)
            bound |= condition.parameters
            shown += _sums(condition.sql, place)
        around = [(", ".join(shown), "")]
        select = Select(", ".join(_COLUMNS), "calls", between, BEST, bound, around)
        [row] = self._reader.rows(project_id, select)
        return [_spent(row, place) for place in range(len(spans))]


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


def _between(spans: Sequence[Span]) -> list[Condition]:
    start = min(span.start for span in spans) - _SKEW
    end = max(span.end for span in spans) + _SKEW
    return [
        moment("timestamp >=", "seen_start", clock.to_micros(start)),
        moment("timestamp <", "seen_end", clock.to_micros(end)),
    ]


def _within(span: Span, place: int) -> Condition:
    conditions = [
        moment("timestamp >=", f"start_{place}", clock.to_micros(span.start)),
        moment("timestamp <", f"end_{place}", clock.to_micros(span.end)),
        *_of_scope(span.scope, place),
    ]
    bound: dict[str, Any] = {}
    for condition in conditions:
        bound |= condition.parameters
    return Condition(" AND ".join(condition.sql for condition in conditions), bound)


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
