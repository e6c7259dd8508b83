"""Folds a lane's additions into its rollups.

Each document is replaced by itself, on the condition that it is as it was last seen, and says
through which addition it has them. Additions are deleted when every document that they concern has
them. Whatever stops this in the middle, the next one goes on where it stopped: a document is given
only the additions that it does not have.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nilometer.dynamodb import client, rollups
from nilometer.dynamodb.rollups import Addition, Cells, Place
from nilometer.dynamodb.schema import Item
from nilometer.sdk.turns import in_turns

_LOG = logging.getLogger(__name__)

MAX_ACTIONS = 12
"""Of a transaction. They need not go together: it is one request for many."""
MAX_TRANSACTION_BYTES = 3_000_000
MAX_ADDITIONS = 64
"""Folded at once."""
MAX_ATTEMPTS = 5
_KEPT_DOCUMENTS = 512


@dataclass(slots=True)
class _Document:
    """A rollup's newest document as it is stored; version 0 is not stored yet."""

    number: int
    version: int
    through: int
    size: int
    cells: Cells

    def grown(self, cells: Cells, through: int) -> tuple[_Document, bytes]:
        """With these cells added, and packed: a new one where it is full."""
        old = self
        if old.size > rollups.MAX_BYTES:
            old = _Document(old.number + 1, 0, 0, 0, Cells())
        together = old.cells.plus(cells)
        packed = rollups.pack(together)
        return _Document(old.number, old.version + 1, through, len(packed), together), packed


class Folder:
    """Of one lane. Used by one thread at a time."""

    def __init__(self, dynamodb: Any, table: str, lane: int) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._lane = lane
        self._documents: OrderedDict[Place, _Document] = OrderedDict()

    def waiting(self) -> dict[str, int]:
        """How many additions of each day are not folded."""
        found: dict[str, int] = {}
        for item in self._items({"ProjectionExpression": "SK"}):
            day = item["SK"]["S"].split("#")[1]
            found[day] = found.get(day, 0) + 1
        return found

    def fold(self, day: str) -> bool:
        """Fold what there is of a day; False where something was in the way: then what is left
        waits for the next time. Raises botocore's errors."""
        for _ in range(MAX_ATTEMPTS):
            additions = list(map(rollups.addition, in_turns(self._items({}, day))))
            parts = range(0, len(additions), MAX_ADDITIONS)
            if all(self._fold(additions[at : at + MAX_ADDITIONS]) for at in parts):
                return True
        return False

    def _fold(self, additions: Sequence[Addition]) -> bool:
        """These, which are all of the lowest numbers of a day; False where another one was faster
        with a document."""
        changes = list(self._changes(additions))
        for part in _parts(changes):
            if not self._replace(part):
                return False
        for at in range(0, len(additions), MAX_ACTIONS):
            self._delete(additions[at : at + MAX_ACTIONS])
        return True

    def _changes(self, additions: Sequence[Addition]) -> Iterator[tuple[Place, _Document, bytes]]:
        """The documents that do not have these additions yet, with them."""
        found: dict[Place, dict[int, Cells]] = {}
        for each in in_turns(additions):
            for place, cells in rollups.added(each.rows).items():
                found.setdefault(place, {})[each.number] = cells
        for place, numbered in in_turns(found.items()):
            stored = self._document(place)
            missing = [cells for number, cells in numbered.items() if number > stored.through]
            if missing:
                yield place, *stored.grown(rollups.together(missing), additions[-1].number)

    def _replace(self, changes: Sequence[tuple[Place, _Document, bytes]]) -> bool:
        actions = [self._replacement(*each) for each in changes]
        try:
            self._dynamodb.transact_write_items(TransactItems=actions)
        except Exception as error:
            if client.code(error) != "TransactionCanceledException":
                raise
            for place, _, _ in changes:
                self._documents.pop(place, None)
            return False
        for place, document, _ in changes:
            self._remember(place, document)
        return True

    def _replacement(self, place: Place, document: _Document, packed: bytes) -> dict[str, Any]:
        item = rollups.item(
            rollups.lane_key(place.partition, self._lane),
            rollups.sort_key(place.day, document.number),
            packed,
            document.version,
            document.through,
        )
        put: dict[str, Any] = {"TableName": self._table, "Item": item}
        if document.version == 1:
            return {"Put": put | {"ConditionExpression": "attribute_not_exists(PK)"}}
        seen = {":seen": {"N": str(document.version - 1)}}
        condition = {"ConditionExpression": "version = :seen", "ExpressionAttributeValues": seen}
        return {"Put": put | condition}

    def _delete(self, additions: Iterable[Addition]) -> None:
        actions = [
            {"Delete": {"TableName": self._table, "Key": rollups.addition_key(each)}}
            for each in additions
        ]
        try:
            self._dynamodb.transact_write_items(TransactItems=actions)
        except Exception as error:
            if client.code(error) != "TransactionCanceledException":
                raise
            _LOG.debug("additions that were folded are left to the next fold")

    def _document(self, place: Place) -> _Document:
        """The rollup's newest document, as last seen or as it is stored."""
        known = self._documents.get(place)
        if known is None:
            known = self._read(place)
            self._remember(place, known)
        return known

    def _read(self, place: Place) -> _Document:
        partition = rollups.lane_key(place.partition, self._lane)
        options = {"ScanIndexForward": False, "Limit": 1}
        found = self._query(partition, place.day, options)["Items"]
        if not found:
            return _Document(0, 0, 0, 0, Cells())
        packed = found[0]["cells"]["B"]
        return _Document(
            int(found[0]["SK"]["S"].rpartition("#")[2]),
            int(found[0]["version"]["N"]),
            rollups.through(found[0]),
            len(packed),
            rollups.unpack(packed),
        )

    def _remember(self, place: Place, document: _Document) -> None:
        self._documents[place] = document
        self._documents.move_to_end(place)
        if len(self._documents) > _KEPT_DOCUMENTS:
            self._documents.popitem(last=False)

    def _items(self, options: dict[str, Any], day: str = "") -> Iterator[Item]:
        """The lane's additions, of a day or of all, in their order."""
        start: dict[str, Any] = {}
        while True:
            answer = self._query(rollups.additions_key(self._lane), day, options | start)
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def _query(self, partition: str, day: str, options: dict[str, Any]) -> Any:
        return self._dynamodb.query(
            TableName=self._table,
            KeyConditionExpression="PK = :key AND begins_with(SK, :day)",
            ExpressionAttributeValues={
                ":key": {"S": partition},
                ":day": {"S": f"DAY#{day}#" if day else "DAY#"},
            },
            ConsistentRead=True,
            **options,
        )


def _parts(
    changes: Iterable[tuple[Place, _Document, bytes]],
) -> Iterator[list[tuple[Place, _Document, bytes]]]:
    """In runs that a transaction holds."""
    part: list[tuple[Place, _Document, bytes]] = []
    size = 0
    for each in changes:
        more = len(each[2]) * 4 // 3 + 500
        if part and (len(part) == MAX_ACTIONS or size + more > MAX_TRANSACTION_BYTES):
            yield part
            part, size = [], 0
        part.append(each)
        size += more
    if part:
        yield part
