"""Writes metrics and what they add to the rollups, together or not at all.

A transaction puts each metric, with the marker of its id where that was given, on the condition
that they are not there, and what they add as one addition, whose number is on the condition that it
is the day's next. What stands against it is found from the reasons of its refusal: a metric that is
stored already, or whose id is, is left out, a number that another writer took is read again, and
the rest is tried again. Additions are folded into the rollups when there are many.

Transactions are small, so that one is a request of milliseconds. What folding writes is shared by
hundreds of metrics.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.dynamodb import client, rollups, schema
from nilometer.dynamodb.folding import Folder
from nilometer.dynamodb.rollups import Addition
from nilometer.dynamodb.schema import Item
from nilometer.errors import InvalidInput
from nilometer.usage.fold import Row
from nilometer.usage.groups import dimensions_of, latencies_of, values_of

_LOG = logging.getLogger(__name__)

MAX_METRICS = 12
"""Of a transaction: with what they add, a request that DynamoDB Local does in under 10 ms. With as
many markers, and each of another day, it has 48 actions of the 100 that there may be."""
FOLD_AT = 32
"""So many additions to a day are folded."""
MAX_TRANSACTION_BYTES = 3_000_000
MAX_ATTEMPTS = 10
_LONGEST_PAUSE = 0.5
_KEPT_DAYS = 64
_NOT_THERE = "attribute_not_exists(PK)"
_INVALID = frozenset({"ValidationError", "ItemCollectionSizeLimitExceeded"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A metric with its item, its marker where it has one, and its row."""

    metric: AIUsageMetric
    item: Item
    row: Row
    marker: Item | None = None

    @property
    def items(self) -> list[Item]:
        """What is put of it."""
        return [self.item] if self.marker is None else [self.item, self.marker]

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
class _Day:
    """What a writer knows of a day: the number of the lane's last addition, how many are not
    folded, and at how many they are to be."""

    number: int
    waiting: int
    fold_at: int


def entry(metric: AIUsageMetric, expires_at: int | None) -> Entry:
    """What is written of a metric. Raises InvalidInput."""
    found = Row(dimensions_of(metric), values_of(metric), latencies_of(metric))
    item = schema.item(metric, expires_at=expires_at)
    return Entry(metric, item, found, schema.marker(metric, expires_at=expires_at))


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
        self._folder = Folder(dynamodb, table, lane)
        self._days: dict[str, _Day] = {}
        self._left: set[str] = set()

    def write(self, entries: Iterable[Entry]) -> list[Refused]:
        """Store these metrics, a transaction after the other; those that could not be. Raises
        botocore's errors of the network when the last attempt ended in one: any of the metrics may
        be stored."""
        refused: list[Refused] = []
        for chunk in _chunks(entries):
            refused += self._chunk(chunk)
            self._fold()
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
        """One transaction. The actions are those of each metric in their order, then those of each
        of their days."""
        items = [item for each in entries for item in each.items]
        actions = [self._put(item, {"ConditionExpression": _NOT_THERE}) for item in items]
        for day, rows in _by_day(entries).items():
            number = self._day(day).number
            addition = Addition(self._lane, day, number + 1, rows)
            actions.append(self._put(rollups.addition_item(addition), {}))
            actions.append(self._numbered(day, number))
        self._dynamodb.transact_write_items(TransactItems=actions)
        for day in _by_day(entries):
            known = self._days[day]
            known.number += 1
            known.waiting += 1

    def _numbered(self, day: str, seen: int) -> dict[str, Any]:
        """The next number is taken; whoever kept what the day adds up to is to read it again."""
        return {
            "Update": {
                "TableName": self._table,
                "Key": rollups.version_key(day, self._lane),
                "UpdateExpression": "SET #type = :type ADD version :one",
                "ConditionExpression": "version = :seen" if seen else _NOT_THERE,
                "ExpressionAttributeNames": {"#type": "TYPE"},
                "ExpressionAttributeValues": {
                    ":one": {"N": "1"},
                    ":type": {"S": rollups.VERSION_TYPE},
                    **({":seen": {"N": str(seen)}} if seen else {}),
                },
            }
        }

    def _fold(self) -> None:
        """Fold the days that have many additions. What is in the way is only told: the metrics are
        stored, and their additions count as they are."""
        for day, known in self._days.items():
            if known.waiting >= known.fold_at:
                done = self._folded(day)
                known.fold_at = FOLD_AT if done else known.waiting + FOLD_AT
                known.waiting = 0 if done else known.waiting
        while self._left:
            self._folded(self._left.pop())

    def _folded(self, day: str) -> bool:
        try:
            return self._folder.fold(day)
        except Exception as error:
            if not client.is_botocore(error):
                raise
            _LOG.debug("additions could not be folded", exc_info=error)
            return False

    def _put(self, item: Item, options: dict[str, Any]) -> dict[str, Any]:
        return {"Put": {"TableName": self._table, "Item": item, **options}}

    def _sorted_out(
        self, entries: Sequence[Entry], reasons: Sequence[str]
    ) -> tuple[list[Entry], str, list[Refused]]:
        """What to try again after a refusal, why one should wait before that ("": at once), and
        what is refused for good."""
        left: list[Entry] = []
        bad: list[Refused] = []
        told = iter(reasons)
        for each in entries:
            own = list(islice(told, len(each.items)))
            if invalid := _INVALID.intersection(own):
                bad.append(Refused(each.metric, min(invalid), permanent=True))
            elif "ConditionalCheckFailed" not in own:
                left.append(each)
        wait = ""
        for day, reason in zip(_by_day(entries), islice(told, 1, None, 2), strict=False):
            if reason == "ConditionalCheckFailed":
                self._days.pop(day, None)
                wait = "NumberTaken"
        waits = [reason for reason in reasons if reason in client.THROTTLED]
        return left, waits[0] if waits else wait, bad

    def _day(self, day: str) -> _Day:
        """What is known of a day, or as it is stored."""
        known = self._days.get(day)
        if known is None:
            waiting = self._folder.waiting()
            self._left |= waiting.keys() - {day}  # whoever added to other days may be gone
            while len(self._days) >= _KEPT_DAYS:
                self._days.pop(next(iter(self._days)))
            known = self._days[day] = _Day(self._number(day), waiting.get(day, 0), FOLD_AT)
        return known

    def _number(self, day: str) -> int:
        """The number of the lane's last addition to the day."""
        key = rollups.version_key(day, self._lane)
        found = self._dynamodb.query(
            TableName=self._table,
            KeyConditionExpression="PK = :key AND SK = :sort",
            ExpressionAttributeValues={":key": key["PK"], ":sort": key["SK"]},
            ConsistentRead=True,
        )["Items"]
        return int(found[0]["version"]["N"]) if found else 0


def _by_day(entries: Iterable[Entry]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for each in entries:
        found.setdefault(each.row.dimensions["day"], []).append(each.row)
    return found


def _chunks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """The metrics in runs that a transaction holds."""
    chunk: list[Entry] = []
    size = 0
    for each in entries:
        if chunk and (len(chunk) == MAX_METRICS or size + each.size > MAX_TRANSACTION_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(each)
        size += each.size
    if chunk:
        yield chunk


def _pause(attempt: int) -> float:
    """Full jitter, so that writers which met do not meet again."""
    return random.uniform(0, min(_LONGEST_PAUSE, 0.01 * 2**attempt))  # noqa: S311


def refused_at_once(metric: AIUsageMetric, error: InvalidInput) -> Refused:
    """A metric that no item can hold."""
    return Refused(metric, error.code, permanent=True)
