"""Fills a table with what the client library's writers would leave of metrics, in bulk.

A transaction of twelve metrics is milliseconds of DynamoDB Local, so that a million of them take an
hour. Their end is known without them: `left` says, by the functions that writer and folder use
themselves, which rollups, additions and versions a lane has when all is written. `difference`
writes a sample by the product's own writers and tells what of it the bulk has not, or has besides.

`fill` puts every rollup, addition and version, and of the metrics' own items one in so many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.dynamodb import rollups, writer
from nilometer.dynamodb.rollups import Addition, Cells, Place
from nilometer.dynamodb.schema import Item
from nilometer.dynamodb.writer import Entry, Writer, entry
from nilometer.usage.fold import Row
from nilometer.usage.groups import dimensions_of, latencies_of, values_of

_BATCH = 25
"""Items of a BatchWriteItem, which takes no more."""
_PUTTING = 4

Metrics = Callable[[int], AIUsageMetric]


def fill(
    client: Any,
    name: str,
    days: Sequence[date],
    shares: Sequence[range],
    metric: Metrics,
    step: int = 1,
    lanes: int = rollups.LANES,
) -> int:
    """Fill a table with the metrics of these days, of each as many as its share has numbers; every
    `step`th metric has its item. How many items were put."""
    count = 0
    with ThreadPoolExecutor(_PUTTING) as threads:
        for day, share in zip(days, shares, strict=True):
            items = list(_of_day(day, _parts(share, lanes), metric, step, last=day == days[-1]))
            parts = [items[at : at + _BATCH] for at in range(0, len(items), _BATCH)]
            list(threads.map(lambda part: _put(client, name, part), parts))
            count += len(items)
    return count


def difference(
    client: Any,
    names: Sequence[str],
    days: Sequence[date],
    shares: Sequence[range],
    metric: Metrics,
    lanes: int,
) -> tuple[int, list[Item]]:
    """How many items two empty tables have after the first was filled and the second written to,
    and those that are in one of them alone."""
    bulk, written = names
    fill(client, bulk, days, shares, metric, lanes=lanes)
    writers = [Writer(client, written, lane) for lane in range(lanes)]
    for share in shares:
        for by_writer, part in zip(writers, _parts(share, lanes), strict=True):
            refused = by_writer.write(entry(metric(number), None) for number in part)
            assert not refused, refused
    found = [_whole(client, name) for name in names]
    alone = [
        found[0].get(key, found[1].get(key))
        for key in found[0].keys() | found[1].keys()
        if found[0].get(key) != found[1].get(key)
    ]
    return len(found[0]), [item for item in alone if item]


def left(lane: int, day: str, rows: Sequence[Row], *, last: bool) -> Iterator[Item]:
    """What a lane's writer leaves of a day's rows besides their items. It folds additions when they
    are `FOLD_AT`, and those that are left of a day when it begins another one: of the last day they
    stay."""
    size = writer.MAX_METRICS
    additions = [rows[at : at + size] for at in range(0, len(rows), size)]
    folded = len(additions) - (len(additions) % writer.FOLD_AT if last else 0)
    documents: dict[Place, Cells] = {}
    versions: Counter[Place] = Counter()
    through: dict[Place, int] = {}
    for first in range(0, folded, writer.FOLD_AT):
        end = min(first + writer.FOLD_AT, folded)
        touched = _fold(documents, [row for part in additions[first:end] for row in part])
        versions.update(touched)
        through |= dict.fromkeys(touched, end)
    for place, cells in documents.items():
        yield _document(place, lane, cells, versions[place], through[place])
    for number in range(folded, len(additions)):
        yield rollups.addition_item(Addition(lane, day, number + 1, list(additions[number])))
    if additions:
        version = {"TYPE": {"S": rollups.VERSION_TYPE}, "version": {"N": str(len(additions))}}
        yield rollups.version_key(day, lane) | version


def _of_day(
    day: date, parts: Sequence[range], metric: Metrics, step: int, *, last: bool
) -> Iterator[Item]:
    for lane, part in enumerate(parts):
        rows: list[Row] = []
        for number in part:
            made = metric(number)
            if number % step:
                rows.append(Row(dimensions_of(made), values_of(made), latencies_of(made)))
            else:
                found: Entry = entry(made, None)
                rows.append(found.row)
                yield from found.items
        yield from left(lane, day.isoformat(), rows, last=last)


def _parts(share: range, lanes: int) -> list[range]:
    """Each lane's part of a day: neighbours."""
    size = -(-len(share) // lanes)
    return [share[lane * size : (lane + 1) * size] for lane in range(lanes)]


def _fold(documents: dict[Place, Cells], rows: Sequence[Row]) -> set[Place]:
    """Add rows to their documents; which those are."""
    touched: set[Place] = set()
    for row in rows:
        for place, cell, hour in rollups.places(row):
            touched.add(place)
            documents.setdefault(place, Cells()).add(cell, hour, row)
    return touched


def _document(place: Place, lane: int, cells: Cells, version: int, through: int) -> Item:
    packed = rollups.pack(cells)
    if len(packed) > rollups.MAX_BYTES:
        raise ValueError(f"{place} would go on in a second document; measure fewer metrics")
    key = rollups.lane_key(place.partition, lane)
    return rollups.item(key, rollups.sort_key(place.day, 0), packed, version, through)


def _put(client: Any, name: str, items: Sequence[Item]) -> None:
    waiting = {name: [{"PutRequest": {"Item": item}} for item in items]}
    while waiting:
        waiting = client.batch_write_item(RequestItems=waiting)["UnprocessedItems"]


def _whole(client: Any, name: str) -> dict[tuple[str, str], Item]:
    pages = client.get_paginator("scan").paginate(TableName=name)
    return {(item["PK"]["S"], item["SK"]["S"]): item for page in pages for item in page["Items"]}


class Watched:
    """A client of DynamoDB that remembers which partitions were read."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.partitions: set[str] = set()

    def query(self, **asked: Any) -> Any:
        """As the client's."""
        self.partitions.add(asked["ExpressionAttributeValues"][":key"]["S"])
        return self._client.query(**asked)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)
