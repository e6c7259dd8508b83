"""Usage from the table: DynamoDB's host of the aggregation contract.

Rollups answer what they can, in a time that does not depend on how many metrics there are, and what
their days add up to is kept (`kept`); the rest is read metric by metric from the narrowest index,
up to a bound. Items of the original tracker are in no rollup and are always read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.dynamodb import client, kept, rollups, schema
from nilometer.dynamodb.kept import KeptDay
from nilometer.dynamodb.rollups import Addition, Cells
from nilometer.dynamodb.schema import Item
from nilometer.errors import InvalidInput
from nilometer.usage import fold
from nilometer.usage.fold import Row
from nilometer.usage.groups import Groups
from nilometer.usage.plan import BASE, LISTED, Plan, Source
from nilometer.usage.query import UsageQuery

MAX_READ = 200_000
"""Metrics that one question may read one by one."""
_AT_ONCE = 8


class Reader:
    """Reads of one table. Safe to use from several threads; `close` it."""

    def __init__(
        self, dynamodb: Any, table: str, *, max_read: int = MAX_READ, keeps: bool = True
    ) -> None:
        """`keeps`: what it makes of a day's rollups it keeps in the table."""
        self._dynamodb = dynamodb
        self._table = table
        self._max_read = max_read
        self._keeps = keeps
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
        scopes = {} if query.filters else plan.kept()
        if query.filters:
            fold.summarise(groups, rows.of(plan.summary))
        else:
            self._add_kept(groups, query, scopes)
            fold.summarise(groups, rows.original)
        for name, source in plan.levels.items():
            fold.level(groups, name, rows.original if name in scopes else rows.of(source))
        if plan.combined is not None:
            fold.combine(groups, query.group_by, rows.of(plan.combined))
        return groups

    def _add_kept(self, groups: Groups, query: UsageQuery, scopes: Mapping[str, str]) -> None:
        """The summary and these levels, each of its scope, from kept days; those that are not kept
        are made, and kept for who asks next."""
        wanted: dict[str, list[str]] = {"": []}
        for name, scope in scopes.items():
            wanted.setdefault(scope, []).append(name)
        names = [rollups.VERSIONS, *map(kept.partition, wanted)]
        asked = [_between(name, query.start.isoformat(), query.end.isoformat()) for name in names]
        versions, *found = self._threads.map(self._whole, asked)
        marks = kept.marks(versions)
        for (scope, levels), items in zip(wanted.items(), found, strict=True):
            days = dict(each for item in items if (each := kept.kept_of(item, marks, scope)))
            stale = {day: mark for day, mark in marks.items() if day not in days}
            kept.add(groups, days.values(), levels, summary=not scope)
            for day, made in self._made(scope, stale):
                kept.merge(groups, made, levels, summary=not scope)
                self._keep(scope, day, stale[day], made)

    def _made(self, scope: str, days: Iterable[str]) -> Iterator[tuple[str, Groups]]:
        """What each of these days adds up to, by its rollups."""
        documents: dict[str, list[tuple[str, Cells]]] = {day: [] for day in days}
        if not documents:
            return
        partitions = rollups.directories(scope) if scope else rollups.wholes()
        for day, cells in self._documents(partitions, min(documents), max(documents)):
            if day in documents:
                documents[day].append((day, cells))
        for day, found in documents.items():
            rows = _listed(scope, found) if scope else _days(found, {})
            yield day, kept.made(rows, [] if scope else _hours(found, {}), scope)

    def _keep(self, scope: str, day: str, mark: str, made: Groups) -> None:
        """Best effort: who may not write reads the rollups again."""
        document = kept.pack(made) if self._keeps else None
        if document is None or len(document) > kept.MAX_BYTES:
            return
        item = KeptDay(scope, day, mark, document).item()
        try:
            self._dynamodb.put_item(TableName=self._table, Item=item)
        except Exception as error:
            if not client.is_botocore(error):
                raise
            self._keeps = client.code(error) in client.THROTTLED

    def rollup(self, partitions: Sequence[str], query: UsageQuery) -> Iterator[tuple[str, Cells]]:
        """The documents of these partitions, all lanes, with the day of each."""
        return self._documents(partitions, query.start.isoformat(), query.end.isoformat())

    def _documents(
        self, partitions: Sequence[str], first: str, last: str
    ) -> Iterator[tuple[str, Cells]]:
        additions = self._additions(first, last)  # before the documents (see `rollups`)
        asked = [
            _between(rollups.lane_key(partition, lane), first, last)
            for partition in partitions
            for lane in range(rollups.LANES)
        ]
        through: dict[tuple[str, str], int] = {}
        for item in self._each(asked):
            key, day = item["PK"]["S"], item["SK"]["S"][4:14]
            through[key, day] = max(through.get((key, day), 0), rollups.through(item))
            yield day, rollups.unpack(item["cells"]["B"])
        for each in additions:
            for place, cells in rollups.added(each.rows).items():
                key = rollups.lane_key(place.partition, each.lane)
                if place.partition in partitions and each.number > through.get((key, each.day), 0):
                    yield each.day, cells

    def _additions(self, first: str, last: str) -> list[Addition]:
        """What was added to these days and is not folded, of all lanes."""
        lanes = map(rollups.additions_key, range(rollups.LANES))
        return list(map(rollups.addition, self._each([_between(n, first, last) for n in lanes])))

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
        for start in range(0, len(asked), _AT_ONCE * 4):
            for items in self._threads.map(self._whole, asked[start : start + _AT_ONCE * 4]):
                yield from items

    def _whole(self, asked: Mapping[str, Any]) -> list[Item]:
        return list(self._pages(asked))

    def _pages(self, asked: Mapping[str, Any]) -> Iterator[Item]:
        """The items of a query, to its last page."""
        start: dict[str, Any] = {}
        while True:
            answer = self._dynamodb.query(TableName=self._table, **asked, **start)
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


def _between(partition: str, first: str, last: str) -> dict[str, Any]:
    """The query of the items of a partition by the day."""
    return {
        "KeyConditionExpression": "PK = :key AND SK BETWEEN :first AND :last",
        "ExpressionAttributeValues": {
            ":key": {"S": partition},
            ":first": {"S": f"DAY#{first}"},
            ":last": {"S": f"DAY#{last}#~"},
        },
        "ConsistentRead": True,
    }


class _Rows:
    """The rows of each source of a query, read once."""

    def __init__(self, query: UsageQuery, reader: Reader) -> None:
        self._query = query
        self._reader = reader
        self._documents: dict[str, list[tuple[str, Cells]]] = {}
        self._known: dict[Source, list[Row]] = {}
        self.original = [
            row for row in reader.original(query) if fold.matches(query, row.dimensions)
        ]

    def of(self, source: Source) -> list[Row]:
        """The rows within the query's filters."""
        if source not in self._known:
            rows = self._read(source)
            within = [row for row in rows if fold.matches(self._query, row.dimensions)]
            self._known[source] = within + self.original
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
            dimensions = dict(zip(BASE, cell, strict=True))
            yield Row({**dimensions, **fixed, "day": day}, values, latencies)


def _hours(documents: Iterable[tuple[str, Cells]], fixed: Mapping[str, str]) -> Iterator[Row]:
    names = (*BASE, "hour")
    for day, cells in documents:
        for cell, values in cells.hours.items():
            dimensions = dict(zip(names, cell, strict=True))
            yield Row({**dimensions, **fixed, "day": day}, values, {})


def _listed(scope: str, documents: Iterable[tuple[str, Cells]]) -> Iterator[Row]:
    names = (scope, *LISTED)
    for day, cells in documents:
        for cell, (values, latencies) in cells.days.items():
            dimensions = dict(zip(names, cell, strict=True))
            yield Row({**dimensions, "day": day}, values, latencies)
