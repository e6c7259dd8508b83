"""Usage from the table: DynamoDB's host of the aggregation contract.

Rollups answer what they can, in a time that does not depend on how many metrics there are, and what
their days add up to is kept (`kept`); the rest is read metric by metric from the narrowest index,
up to a bound. Items of the original tracker are in no rollup and are always read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.dynamodb import client, kept, rollups, schema
from nilometer.dynamodb.kept import KeptDay
from nilometer.dynamodb.pages import Asked, Pages
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
        self._pages = Pages(dynamodb, table)

    def close(self) -> None:
        """End its threads."""
        self._pages.close()

    def metrics(
        self,
        start: date,
        end: date,
        filters: Mapping[str, str] | None = None,
        most: int | None = None,
    ) -> Iterator[AIUsageMetric]:
        """The metrics of these days (both included, UTC) within the filters, of any scope, in no
        order; the original tracker's items, which have less, are left out. Raises InvalidInput
        with the code `too_many_calls` where more than `most` are read for it."""
        query = UsageQuery(start, end, filters or {})
        for item in _bounded(self._items(query), most):
            if fold.matches(query, schema.row(item).dimensions):
                yield schema.metric(item)

    def rows(self, first: datetime, end: datetime, filters: Mapping[str, str]) -> Iterator[Row]:
        """What metrics say of usage, one by one: those from a moment to before another one, within
        the filters. Of other moments nothing is read, and of these no details."""
        last = end - timedelta(microseconds=1)
        query = UsageQuery(first.astimezone(UTC).date(), last.astimezone(UTC).date(), filters)
        rows = map(schema.row, self._items(query, (first, end), schema.ROW_ALONE))
        return (row for row in rows if fold.matches(query, row.dimensions))

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
        versions, *found = self._pages.wholes(asked)
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
        for item in self._pages.each(asked):
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
        asked = [_between(name, first, last) for name in lanes]
        return list(map(rollups.addition, self._pages.each(asked)))

    def single(self, query: UsageQuery) -> list[Row]:
        """The metrics of the query, one by one."""
        items = self._items(query, options=schema.ROW_ALONE)
        return list(map(schema.row, _bounded(items, self._max_read)))

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
        rows = map(schema.row, self._pages.items(asked))
        return [row for row in rows if row.dimensions["day"] in days]

    def _items(
        self,
        query: UsageQuery,
        span: tuple[datetime, datetime] | None = None,
        options: Asked | None = None,
    ) -> Iterator[Item]:
        """The items of the partitions that have those of the query, from a moment to before another
        one, or of its days."""
        index, partitions = schema.partitions(query.filters, query.days)
        whole = _midnight(query.start), _midnight(query.end + timedelta(days=1))
        first, last = schema.moments(index, *(span or whole))
        name = index or ""
        condition = f"{name}PK = :key AND {name}SK BETWEEN :first AND :last"
        where = {"IndexName": index} if index else {"ConsistentRead": True}
        return self._pages.each(
            [
                {
                    **where,
                    **(options or {}),
                    "KeyConditionExpression": condition,
                    "ExpressionAttributeValues": {
                        ":key": {"S": partition},
                        ":first": {"S": first},
                        ":last": {"S": last},
                    },
                }
                for partition in partitions
            ]
        )


def _bounded(items: Iterable[Item], most: int | None) -> Iterator[Item]:
    """At most so many."""
    for count, item in enumerate(items):
        if count == most:
            raise InvalidInput(
                "This question is not answered by rollups, and it is of more than "
                f"{most} calls; ask for fewer days, levels or filters at once.",
                code="too_many_calls",
            )
        yield item


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


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
