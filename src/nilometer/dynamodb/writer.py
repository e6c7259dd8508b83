"""Writes metrics and what they add to the rollups, together or not at all.

A transaction puts each metric on the condition that it is not there, and each rollup on the
condition that it is as the writer last saw it. What stands against it is found from the reasons of
its refusal: a metric that is stored already is left out, a rollup that another writer replaced is
read again, and the rest is tried again.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.dynamodb import client, rollups, schema
from nilometer.dynamodb.rollups import Cells, Place
from nilometer.dynamodb.schema import Item
from nilometer.errors import InvalidInput
from nilometer.usage.fold import Row
from nilometer.usage.groups import dimensions_of, latencies_of, values_of

MAX_ACTIONS = 100
"""Of a transaction, a limit of DynamoDB's."""
MAX_TRANSACTION_BYTES = 3_000_000
MAX_ATTEMPTS = 10
_LONGEST_PAUSE = 0.5
_KEPT_DOCUMENTS = 512
_NOT_THERE = "attribute_not_exists(PK)"


@dataclass(frozen=True, slots=True)
class Entry:
    """A metric with its item and its row."""

    metric: AIUsageMetric
    item: Item
    row: Row

    @property
    def size(self) -> int:
        """About how many bytes its item has."""
        return len(self.item["details"]["S"]) + 1500


@dataclass(frozen=True, slots=True)
class Refused:
    """A metric that was not stored, and why; `permanent` as in the sink's port."""

    metric: AIUsageMetric
    reason: str
    permanent: bool


@dataclass(slots=True)
class _Document:
    """A rollup's newest document as it is stored; version 0 is not stored yet."""

    number: int
    version: int
    size: int
    cells: Cells


def entry(metric: AIUsageMetric, expires_at: int | None) -> Entry:
    """What is written of a metric. Raises InvalidInput."""
    found = Row(dimensions_of(metric), values_of(metric), latencies_of(metric))
    return Entry(metric, schema.item(metric, expires_at=expires_at), found)


class Writer:
    """One lane of the rollups. Used by one thread at a time."""

    def __init__(
        self,
        dynamodb: Any,
        table: str,
        lane: int,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._lane = lane
        self._sleep = sleep
        self._documents: OrderedDict[Place, _Document] = OrderedDict()
        self._seen: list[Place] = []

    def write(self, entries: Iterable[Entry]) -> list[Refused]:
        """Store these metrics, a transaction after the other; those that could not be. Raises
        botocore's errors of the network when the last attempt ended in one: any of the metrics may
        be stored."""
        refused: list[Refused] = []
        for chunk in _chunks(entries):
            refused += self._chunk(chunk)
        return refused

    def _chunk(self, entries: Sequence[Entry]) -> list[Refused]:
        left, reason = list(entries), ""
        for attempt in range(MAX_ATTEMPTS):
            if not left:
                return []
            try:
                self._transact(left)
            except Exception as error:
                reason = client.code(error)
                if reason == "TransactionCanceledException":
                    left, reason, bad = self._sorted_out(left, client.reasons(error))
                    if bad:
                        return [*bad, *self._chunk(left)]
                elif reason == "ValidationException":
                    return self._halved(left, reason)
                elif reason not in client.THROTTLED:
                    raise
                if reason:
                    self._sleep(_pause(attempt))
            else:
                return []
        return [Refused(each.metric, reason or "conflict", permanent=False) for each in left]

    def _halved(self, entries: Sequence[Entry], reason: str) -> list[Refused]:
        """Find the metric that makes a transaction invalid."""
        if len(entries) == 1:
            return [Refused(entries[0].metric, reason, permanent=True)]
        middle = len(entries) // 2
        return [*self._chunk(entries[:middle]), *self._chunk(entries[middle:])]

    def _transact(self, entries: Sequence[Entry]) -> None:
        """One transaction. The actions are the metrics' in their order, then the rollups'
        and the versions'."""
        actions = [self._put(each.item, {"ConditionExpression": _NOT_THERE}) for each in entries]
        replaced: dict[Place, _Document] = {}
        self._seen = []
        for place, cells in rollups.added(each.row for each in entries).items():
            stored = self._document(place)
            document, packed = _grown(stored, cells)
            replaced[place] = document
            self._seen.append(place)
            actions.append(self._put(*_replacement(place, document, packed, self._lane)))
        actions += [self._versioned(day) for day in _days(replaced)]
        self._dynamodb.transact_write_items(TransactItems=actions)
        for place, document in replaced.items():
            self._remember(place, document)

    def _versioned(self, day: str) -> dict[str, Any]:
        """Whoever kept what the day adds up to is to read it again."""
        return {
            "Update": {
                "TableName": self._table,
                "Key": rollups.version_key(day, self._lane),
                "UpdateExpression": "SET #type = :type ADD version :one",
                "ExpressionAttributeNames": {"#type": "TYPE"},
                "ExpressionAttributeValues": {
                    ":one": {"N": "1"},
                    ":type": {"S": rollups.VERSION_TYPE},
                },
            }
        }

    def _put(self, item: Item, options: dict[str, Any]) -> dict[str, Any]:
        return {"Put": {"TableName": self._table, "Item": item, **options}}

    def _sorted_out(
        self, entries: Sequence[Entry], reasons: Sequence[str]
    ) -> tuple[list[Entry], str, list[Refused]]:
        """What to try again after a refusal, why one should wait before that ("": at once), and
        what is refused for good."""
        left: list[Entry] = []
        bad: list[Refused] = []
        for each, reason in zip(entries, reasons, strict=False):
            if reason in ("ValidationError", "ItemCollectionSizeLimitExceeded"):
                bad.append(Refused(each.metric, reason, permanent=True))
            elif reason != "ConditionalCheckFailed":
                left.append(each)
        wait = ""
        for place, reason in zip(self._seen, reasons[len(entries) :], strict=False):
            if reason == "ConditionalCheckFailed":
                self._documents.pop(place, None)
                wait = "RollupReplaced"
        waits = [reason for reason in reasons if reason in client.THROTTLED]
        return left, waits[0] if waits else wait, bad

    def _document(self, place: Place) -> _Document:
        """The rollup's newest document, as last seen or as it is stored."""
        known = self._documents.get(place)
        if known is None:
            known = self._read(place)
            self._remember(place, known)
        return known

    def _read(self, place: Place) -> _Document:
        found = self._dynamodb.query(
            TableName=self._table,
            KeyConditionExpression="PK = :key AND begins_with(SK, :day)",
            ExpressionAttributeValues={
                ":key": {"S": rollups.lane_key(place.partition, self._lane)},
                ":day": {"S": f"DAY#{place.day}#"},
            },
            ConsistentRead=True,
            ScanIndexForward=False,
            Limit=1,
        )["Items"]
        if not found:
            return _Document(0, 0, 0, Cells())
        packed = found[0]["cells"]["B"]
        number = int(found[0]["SK"]["S"].rpartition("#")[2])
        return _Document(number, int(found[0]["version"]["N"]), len(packed), rollups.unpack(packed))

    def _remember(self, place: Place, document: _Document) -> None:
        self._documents[place] = document
        self._documents.move_to_end(place)
        if len(self._documents) > _KEPT_DOCUMENTS:
            self._documents.popitem(last=False)


def _grown(stored: _Document, cells: Cells) -> tuple[_Document, bytes]:
    """The document with these cells added, and packed: a new one where it is full."""
    if stored.size > rollups.MAX_BYTES:
        stored = _Document(stored.number + 1, 0, 0, Cells())
    together = stored.cells.plus(cells)
    packed = rollups.pack(together)
    return _Document(stored.number, stored.version + 1, len(packed), together), packed


def _replacement(
    place: Place, document: _Document, packed: bytes, lane: int
) -> tuple[Item, dict[str, Any]]:
    item = rollups.item(
        rollups.lane_key(place.partition, lane),
        rollups.sort_key(place.day, document.number),
        packed,
        document.version,
    )
    if document.version == 1:
        return item, {"ConditionExpression": _NOT_THERE}
    return item, {
        "ConditionExpression": "version = :seen",
        "ExpressionAttributeValues": {":seen": {"N": str(document.version - 1)}},
    }


def _chunks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """The metrics in runs that a transaction holds, with their rollups."""
    chunk: list[Entry] = []
    touched: set[Place] = set()
    size = 0
    for each in entries:
        more = {place for place, _, _ in rollups.places(each.row)}
        both = touched | more
        full = len(chunk) + 1 + len(both) + len(_days(both)) > MAX_ACTIONS
        if chunk and (full or size + each.size > MAX_TRANSACTION_BYTES):
            yield chunk
            chunk, size = [], 0
            touched = set()
        chunk.append(each)
        touched |= more
        size += each.size
    if chunk:
        yield chunk


def _days(places: Iterable[Place]) -> list[str]:
    return sorted({place.day for place in places})


def _pause(attempt: int) -> float:
    """Full jitter, so that writers which met do not meet again."""
    return random.uniform(0, min(_LONGEST_PAUSE, 0.01 * 2**attempt))  # noqa: S311


def refused_at_once(metric: AIUsageMetric, error: InvalidInput) -> Refused:
    """A metric that no item can hold."""
    return Refused(metric, error.code, permanent=True)
