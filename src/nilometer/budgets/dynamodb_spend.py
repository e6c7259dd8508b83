"""What was spent, from the rollups in DynamoDB.

Rollups tell hours apart, in UTC. Where a period begins or ends within an hour, as in zones that are
half an hour off, the metrics of that hour are read one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.spend import Span, Spent
from nilometer.dynamodb import client
from nilometer.dynamodb.reader import Reader
from nilometer.errors import Unavailable
from nilometer.usage.fold import Row
from nilometer.usage.groups import FIELDS, Values, usd
from nilometer.usage.query import UsageQuery

_HOUR = timedelta(hours=1)
_FILTER = {
    ScopeKind.SERVICE: "service",
    ScopeKind.MODEL: "model",
    ScopeKind.USER: "user",
    ScopeKind.JOB: "job",
    ScopeKind.ENVIRONMENT: "environment",
}

Hours = Mapping[datetime, Values]


class DynamoSpend:
    """The port over one table, which is all there is: a budget of the project and a global one are
    of everything in it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def of(self, spans: Sequence[Span]) -> list[Spent]:
        """As the port says; `first_at` is not known here."""
        try:
            hours = {scope: self._hours(scope, spans) for scope in {each.scope for each in spans}}
            return [self._spent(span, hours[span.scope]) for span in spans]
        except Exception as error:
            if not client.is_botocore(error):
                raise
            raise Unavailable(f"DynamoDB: {client.explained(error)}") from None

    def _hours(self, scope: BudgetScope, spans: Sequence[Span]) -> Hours:
        """Every hour that one of the scope's spans has a part of."""
        mine = [each for each in spans if each.scope == scope]
        query = UsageQuery(
            min(each.start for each in mine).astimezone(UTC).date(),
            max(each.end for each in mine).astimezone(UTC).date(),
            _filters(scope),
            levels=(),
            group_by=("day", "hour"),
        )
        groups = self._reader.groups(query).combined
        return {
            datetime.fromisoformat(f"{day}T{hour}:00:00+00:00"): group.values
            for (day, hour), group in groups.items()
        }

    def _spent(self, span: Span, hours: Hours) -> Spent:
        total = [0] * len(FIELDS)
        for hour, values in hours.items():
            if span.start <= hour and hour + _HOUR <= span.end:
                _add(total, values)
            elif hour < span.end and span.start < hour + _HOUR:
                for part in self._part(span, hour):
                    _add(total, part.values)
        return Spent(
            cost=usd(total[FIELDS.index("cost")]),
            calls=total[FIELDS.index("calls")],
            unpriced=total[FIELDS.index("unpriced")],
        )

    def _part(self, span: Span, hour: datetime) -> Iterable[Row]:
        """The metrics of an hour that are within the span."""
        first, last = max(span.start, hour), min(span.end, hour + _HOUR)
        return self._reader.rows(first, last, _filters(span.scope))


def _filters(scope: BudgetScope) -> dict[str, str]:
    name = _FILTER.get(scope.kind)
    return {} if name is None else {name: scope.value}


def _add(total: Values, values: Values) -> None:
    for place, value in enumerate(values):
        total[place] += value
