"""Usage from the table: DynamoDB's host of the aggregation contract.

Rollups answer what they can, in a time that does not depend on how many metrics there are; the
rest is read metric by metric from the narrowest index, up to a bound. Items of the original tracker
are in no rollup and are always read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.dynamodb import rollups, schema
from nilometer.dynamodb.plan import Plan, Source
from nilometer.dynamodb.rollups import Cells
from nilometer.dynamodb.schema import Item
from nilometer.errors import InvalidInput
from nilometer.usage import fold
from nilometer.usage.fold import Row
from nilometer.usage.groups import Groups
from nilometer.usage.query import UsageQuery

MAX_READ = 200_000
"""Metrics that one question may read one by one."""
_AT_ONCE = 8


class Reader:
    """Reads of one table. Safe to use from several threads; `close` it."""

    def __init__(self, dynamodb: Any, table: str, *, max_read: int = MAX_READ) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._max_read = max_read
        self._threads = ThreadPoolExecutor(_AT_ONCE, "nilometer-dynamodb-reader")

    def close(self) -> None:
        """End its threads."""
        self._threads.shutdown()

    def metrics(
        self, start: date, end: date, filters: Mapping[str, str] | None = None
    ) -> Iterator[AIUsageMetric]:
        """The metrics of these days (both included, UTC) within the filters, of any scope, by
        partition; the original tracker's items, which have less, are left out."""
        query = UsageQuery(start, end, filters or {})
        for item in self._items(query):
            if fold.matches(query, schema.row(item).dimensions):
                yield schema.metric(item)

    def groups(self, query: UsageQuery) -> Groups:
        """What the query asks for. Raises InvalidInput with the code `too_many_calls` where no
        rollup answers it and it is of more metrics than may be read."""
        rows = _Rows(query, self)
        plan = Plan.of(query)
        groups = Groups(levels={name: {} for name in query.levels})
        fold.summarise(groups, rows.of(plan.summary))
        for name, source in plan.levels.items():
            fold.level(groups, name, rows.of(source))
        if plan.combined is not None:
            fold.combine(groups, query.group_by, rows.of(plan.combined))
        return groups

    def rollup(self, partitions: Sequence[str], query: UsageQuery) -> Iterator[tuple[str, Cells]]:
        """The documents of these partitions, all lanes, with the day of each."""
        first, last = rollups.sort_key(query.start.isoformat(), 0), query.end.isoformat()
        asked = [
            {
                "KeyConditionExpression": "PK = :key AND SK BETWEEN :first AND :last",
                "ExpressionAttributeValues": {
                    ":key": {"S": rollups.lane_key(partition, lane)},
                    ":first": {"S": first},
                    ":last": {"S": f"DAY#{last}#~"},
                },
                "ConsistentRead": True,
            }
            for partition in partitions
            for lane in range(rollups.LANES)
        ]
        for item in self._each(asked):
            yield item["SK"]["S"][4:14], rollups.unpack(item["cells"]["B"])

    def single(self, query: UsageQuery) -> list[Row]:
        """The metrics of the query, one by one."""
        found: list[Row] = []
        for item in self._items(query):
            found.append(schema.row(item))
            if len(found) > self._max_read:
                raise InvalidInput(
                    "This question is not answered by rollups, and it is of more than "
                    f"{self._max_read} calls; ask for fewer days, levels or filters at once.",
                    code="too_many_calls",
                )
        return found

    def original(self, query: UsageQuery) -> list[Row]:
        """The original tracker's metrics of the query's days."""
        after = query.end + timedelta(days=1)
        asked = {
            "IndexName": "GSI2",
            "KeyConditionExpression": "GSI2PK = :key AND GSI2SK BETWEEN :first AND :last",
            "ExpressionAttributeValues": {
                ":key": {"S": schema.LEGACY_COST},
                ":first": {"S": f"COST#{query.start}"},
                ":last": {"S": f"COST#{after}"},
            },
        }
        days = frozenset(query.days)
        rows = map(schema.row, self._pages(asked))
        return [row for row in rows if row.dimensions["day"] in days]

    def _items(self, query: UsageQuery) -> Iterator[Item]:
        index, partitions = schema.partitions(query.filters, query.days)
        name = f"{index}PK" if index else "PK"
        options = {"IndexName": index} if index else {"ConsistentRead": True}
        return self._each(
            [
                {
                    **options,
                    "KeyConditionExpression": f"{name} = :key",
                    "ExpressionAttributeValues": {":key": {"S": partition}},
                }
                for partition in partitions
            ]
        )

    def _each(self, asked: Sequence[Mapping[str, Any]]) -> Iterator[Item]:
        """The items of several queries, several at once, in their order."""
        read: Callable[[Mapping[str, Any]], list[Item]] = lambda each: list(self._pages(each))  # noqa: E731
        for start in range(0, len(asked), _AT_ONCE * 4):
            for items in self._threads.map(read, asked[start : start + _AT_ONCE * 4]):
                yield from items

    def _pages(self, asked: Mapping[str, Any]) -> Iterator[Item]:
        """The items of a query, to its last page."""
        start: dict[str, Any] = {}
        while True:
            answer = self._dynamodb.query(TableName=self._table, **asked, **start)
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


class _Rows:
    """The rows of each source of a query, read once."""

    def __init__(self, query: UsageQuery, reader: Reader) -> None:
        self._query = query
        self._reader = reader
        self._documents: dict[str, list[tuple[str, Cells]]] = {}
        self._known: dict[Source, list[Row]] = {}
        self._original = [
            row for row in reader.original(query) if fold.matches(query, row.dimensions)
        ]

    def of(self, source: Source) -> list[Row]:
        """The rows within the query's filters."""
        if source not in self._known:
            rows = self._read(source)
            within = [row for row in rows if fold.matches(self._query, row.dimensions)]
            self._known[source] = within + self._original
        return self._known[source]

    def _read(self, source: Source) -> Iterable[Row]:
        if source.kind == "single":
            return self._reader.single(self._query)
        scope = source.scope
        if source.kind == "directory":
            documents = self._of_partitions(rollups.directories(scope))
            return _listed(scope, documents)
        fixed = {scope: self._query.filters[scope]} if scope else {}
        partitions = [rollups.of_value(scope, fixed[scope])] if scope else self._wholes()
        documents = self._of_partitions(partitions)
        return _hours(documents, fixed) if source.kind == "hours" else _days(documents, fixed)

    def _wholes(self) -> list[str]:
        filters = self._query.filters
        if "service" in filters and "model" in filters:
            return [rollups.whole(filters["service"], filters["model"])]
        return rollups.wholes()

    def _of_partitions(self, partitions: list[str]) -> list[tuple[str, Cells]]:
        name = " ".join(partitions)
        if name not in self._documents:
            self._documents[name] = list(self._reader.rollup(partitions, self._query))
        return self._documents[name]


def _days(documents: Iterable[tuple[str, Cells]], fixed: Mapping[str, str]) -> Iterator[Row]:
    for day, cells in documents:
        for cell, (values, latencies) in cells.days.items():
            dimensions = dict(zip(rollups.BASE, cell, strict=True))
            yield Row({**dimensions, **fixed, "day": day}, values, latencies)


def _hours(documents: Iterable[tuple[str, Cells]], fixed: Mapping[str, str]) -> Iterator[Row]:
    names = (*rollups.BASE, "hour")
    for day, cells in documents:
        for cell, values in cells.hours.items():
            dimensions = dict(zip(names, cell, strict=True))
            yield Row({**dimensions, **fixed, "day": day}, values, {})


def _listed(scope: str, documents: Iterable[tuple[str, Cells]]) -> Iterator[Row]:
    names = (scope, *rollups.LISTED)
    for day, cells in documents:
        for cell, (values, latencies) in cells.days.items():
            dimensions = dict(zip(names, cell, strict=True))
            yield Row({**dimensions, "day": day}, values, latencies)
