"""Rollups: what the metrics of a day add up to, in few items.

A rollup is of everything, of one value of a scope (a user, a job …), or a directory of a scope: its
values, without what each consists of. It is one document, packed.

Metrics come with an *addition* each: what those of one transaction add to the rollups of their day,
put by the transaction that stores them, so that a metric that is stored already adds nothing. The
additions of a day and lane are numbered without a gap, which the day's version is the counter of.
Now and then they are folded (`folding`): each document that they concern is replaced by one that
says through which number it has them, and then they are deleted. Who reads takes the additions
first, the documents after, and adds to each document the additions of a higher number: every one
counts once, whatever was folded meanwhile.

Writers have a `lane` of eight each, so that two rarely meet, and the documents of everything and of
a directory are cut in two by a hash. A document that has grown to `MAX_BYTES` is followed by
another one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from nilometer.dynamodb.schema import Item, key_part
from nilometer.usage.fold import Row
from nilometer.usage.plan import BASE, LISTED, SCOPES

TYPE = "AIUsageRollup"
VERSION = 1
LANES = 8
CHUNKS = 2
MAX_BYTES = 200_000
"""Packed. The next metrics of the day go to a new document."""

ADDITION_TYPE = "AIUsageAddition"
VERSION_TYPE = "AIUsageVersion"
VERSIONS = "AI_USAGE_VERSIONS"
"""The partition of the days' versions."""

_FORM = 1
_DIGITS = 9
"""Of an addition's number."""

Cell = tuple[str, ...]
Sums = list[int]


class Place(NamedTuple):
    """Where a rollup is: its partition without the lane, and its day."""

    partition: str
    day: str


@dataclass(slots=True)
class Cells:
    """Sums and latencies by cell, and sums by cell and hour (of no directory)."""

    days: dict[Cell, tuple[Sums, dict[int, int]]] = field(
        default_factory=dict[Cell, tuple[Sums, dict[int, int]]]
    )
    hours: dict[Cell, Sums] = field(default_factory=dict[Cell, Sums])

    def add(self, cell: Cell, hour: str | None, row: Row) -> None:
        """Add a row to its cell, and to its hour's."""
        found = self.days.setdefault(cell, ([0] * len(row.values), {}))
        _add(found[0], row.values)
        for least, count in row.latencies.items():
            found[1][least] = found[1].get(least, 0) + count
        if hour is not None:
            _add(self.hours.setdefault((*cell, hour), [0] * len(row.values)), row.values)

    def plus(self, other: Cells) -> Cells:
        """Both together; neither is changed."""
        days, hours = dict(self.days), dict(self.hours)
        for cell, (values, latencies) in other.days.items():
            mine, counts = days.get(cell, ([0] * len(values), {}))
            merged = dict(counts)
            for least, count in latencies.items():
                merged[least] = merged.get(least, 0) + count
            days[cell] = ([a + b for a, b in zip(mine, values, strict=True)], merged)
        for cell, values in other.hours.items():
            mine = hours.get(cell, [0] * len(values))
            hours[cell] = [a + b for a, b in zip(mine, values, strict=True)]
        return Cells(days, hours)


def _add(mine: Sums, values: Sums) -> None:
    for place, value in enumerate(values):
        mine[place] += value


def whole(service: str, model: str) -> str:
    """The partition of everything that has a call of this model."""
    return f"AI_USAGE_ROLLUP#ALL#{_chunk(f'{service}#{model}')}"


def directory(scope: str, value: str) -> str:
    """The partition of the scope's directory that has this value."""
    return f"AI_USAGE_ROLLUP#BY_{scope.upper()}#{_chunk(value)}"


def of_value(scope: str, value: str) -> str:
    """The partition of what has this value of the scope."""
    return f"AI_USAGE_ROLLUP#{scope.upper()}#{key_part(value)}"


def wholes() -> list[str]:
    """Every partition of everything."""
    return [f"AI_USAGE_ROLLUP#ALL#{chunk}" for chunk in range(CHUNKS)]


def directories(scope: str) -> list[str]:
    """Every partition of a scope's directory."""
    return [f"AI_USAGE_ROLLUP#BY_{scope.upper()}#{chunk}" for chunk in range(CHUNKS)]


def places(row: Row) -> Iterable[tuple[Place, Cell, str | None]]:
    """Every rollup that a metric is part of, its cell there, and its hour where it counts."""
    found = row.dimensions
    base = tuple([found[name] for name in BASE])
    return _places(base, found["day"], found["hour"], tuple([found[name] for name in SCOPES]))


@lru_cache(maxsize=4096)  # metrics come in runs of the same, and each is asked for several times
def _places(
    base: Cell, day: str, hour: str, values: Cell
) -> tuple[tuple[Place, Cell, str | None], ...]:
    found = dict(zip(BASE, base, strict=True))
    together: list[tuple[Place, Cell, str | None]] = [
        (Place(whole(found["service"], found["model"]), day), base, hour)
    ]
    for scope, value in zip(SCOPES, values, strict=True):
        if value:
            listed = (value, *(found[name] for name in LISTED))
            together.append((Place(directory(scope, value), day), listed, None))
            together.append((Place(of_value(scope, value), day), base, hour))
    return tuple(together)


def together(several: Iterable[Cells]) -> Cells:
    """All of these added up."""
    found = Cells()
    for each in several:
        found = found.plus(each)
    return found


def added(rows: Iterable[Row]) -> dict[Place, Cells]:
    """What these metrics add to each rollup."""
    found: dict[Place, Cells] = {}
    for row in rows:
        for place, cell, hour in places(row):
            found.setdefault(place, Cells()).add(cell, hour, row)
    return found


class Addition(NamedTuple):
    """What one transaction added to a day: its number, from 1, and the rows."""

    lane: int
    day: str
    number: int
    rows: list[Row]


_DIMENSIONS = (*BASE, "hour", *SCOPES)


def additions_key(lane: int) -> str:
    """The partition of a lane's additions that are not folded."""
    return f"AI_USAGE_ADDITIONS#{lane}"


def addition_key(addition: Addition) -> Item:
    """The primary key of its item."""
    return {
        "PK": {"S": additions_key(addition.lane)},
        "SK": {"S": sort_key(addition.day, addition.number, _DIGITS)},
    }


def addition_item(addition: Addition) -> Item:
    """The item of an addition: its rows, those of the same dimensions as one."""
    sums = Cells()
    for row in addition.rows:
        sums.add(tuple([row.dimensions[name] for name in _DIMENSIONS]), None, row)
    return {
        **addition_key(addition),
        "TYPE": {"S": ADDITION_TYPE},
        "schema_version": {"N": str(VERSION)},
        "cells": {"B": pack(sums)},
    }


def addition(stored: Item) -> Addition:
    """The addition of an item."""
    lane = int(stored["PK"]["S"].rpartition("#")[2])
    _, day, number = stored["SK"]["S"].split("#")
    rows = [
        Row({**dict(zip(_DIMENSIONS, cell, strict=True)), "day": day}, values, latencies)
        for cell, (values, latencies) in unpack(stored["cells"]["B"]).days.items()
    ]
    return Addition(lane, day, int(number), rows)


def version_key(day: str, lane: int) -> Item:
    """The item that counts a lane's additions to a day. A reader knows by it whether what it kept
    of the day still holds (see `kept`)."""
    return {"PK": {"S": VERSIONS}, "SK": {"S": f"DAY#{day}#{lane}"}}


def lane_key(partition: str, lane: int) -> str:
    """The partition key of a writer's lane."""
    return f"{partition}#{lane}"


def sort_key(day: str, number: int, digits: int = 4) -> str:
    """The sort key of a day's document of this number."""
    return f"DAY#{day}#{number:0{digits}}"


def pack(cells: Cells) -> bytes:
    """The document of cells."""
    document = {
        "form": _FORM,
        "days": [
            [*cell, values, [each for pair in sorted(latencies.items()) for each in pair]]
            for cell, (values, latencies) in cells.days.items()
        ],
        "hours": [[*cell, values] for cell, values in cells.hours.items()],
    }
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1)


def unpack(document: bytes) -> Cells:
    """The cells of a document."""
    found: Mapping[str, Any] = json.loads(zlib.decompress(document))
    cells = Cells()
    for *cell, values, flat in found["days"]:
        cells.days[tuple(cell)] = (values, dict(zip(flat[::2], flat[1::2], strict=True)))
    for *cell, values in found["hours"]:
        cells.hours[tuple(cell)] = values
    return cells


def item(key: str, sort: str, cells: bytes, version: int, through: int = 0) -> Item:
    """The item of a packed document, which has the lane's additions through this number."""
    return {
        "PK": {"S": key},
        "SK": {"S": sort},
        "TYPE": {"S": TYPE},
        "schema_version": {"N": str(VERSION)},
        "version": {"N": str(version)},
        "through": {"N": str(through)},
        "cells": {"B": cells},
    }


def through(stored: Item) -> int:
    """Through which of the lane's additions to the day a document has them."""
    return int(stored.get("through", {}).get("N", "0"))


def _chunk(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "replace")) % CHUNKS
