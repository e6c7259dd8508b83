"""What a day adds up to by each level, kept by who read it until a metric is added to the day.

A month of rollups is hundreds of documents; of kept days it is thirty a scope. A kept day says by a
`mark` which versions of the day's rollups it was made of, and is used only while the day has them.
The versions are read before the rollups: a day that changes in between has newer sums than its mark
says, and the next reader makes it anew. Whoever may not write reads the rollups each time.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nilometer.dynamodb.schema import Item
from nilometer.usage import fold
from nilometer.usage.dimensions import NAMED_IN
from nilometer.usage.fold import Row
from nilometer.usage.groups import Group, Groups
from nilometer.usage.plan import BASE

TYPE = "AIUsageKeptDay"
MAX_BYTES = 380_000
"""Packed. A day with more is not kept."""
FORM = 1
"""Of a document. Of another form, a day is made anew."""

ALL_LEVELS = ("day", "hour", *BASE)
"""The levels of a day of everything; a day of a scope has its own."""


@dataclass(frozen=True, slots=True)
class KeptDay:
    """The packed sums of one day: of everything for the scope "", else of a scope."""

    scope: str
    day: str
    mark: str
    document: bytes

    def item(self) -> Item:
        """As the table has it."""
        return {
            "PK": {"S": partition(self.scope)},
            "SK": {"S": f"DAY#{self.day}"},
            "TYPE": {"S": TYPE},
            "mark": {"S": self.mark},
            "document": {"B": self.document},
        }


def partition(scope: str) -> str:
    """Where the days of a scope are, by their sort key."""
    return f"AI_USAGE_KEPT#{f'BY_{scope.upper()}' if scope else 'ALL'}"


def marks(versions: Iterable[Item]) -> dict[str, str]:
    """The mark of each day, of the items of its versions."""
    found: dict[str, list[str]] = {}
    for each in versions:
        _, day, lane = each["SK"]["S"].split("#")
        found.setdefault(day, []).append(f"{lane}:{each['version']['N']}")
    return {day: " ".join([f"{FORM}", *sorted(lanes)]) for day, lanes in found.items()}


def levels_of(scope: str) -> Sequence[str]:
    """The levels that a kept day has."""
    return (scope,) if scope else ALL_LEVELS


def made(days: Iterable[Row], hours: Iterable[Row], scope: str) -> Groups:
    """What one day's rows add up to; `hours` are those of the hours, of everything alone."""
    groups = Groups()
    rows = list(days)
    fold.summarise(groups, rows)
    for name in levels_of(scope):
        fold.level(groups, name, hours if name == "hour" else rows)
    return groups


def pack(groups: Groups) -> bytes:
    """The document of a day's groups."""
    document = [
        _packed("", groups.summary),
        {
            name: [_packed(key, group) for key, group in found.items()]
            for name, found in groups.levels.items()
        },
    ]
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1)


def add(groups: Groups, document: bytes, names: Iterable[str], *, summary: bool) -> None:
    """Add a document's groups of these levels, and its summary."""
    whole, levels = json.loads(zlib.decompress(document))
    if summary:
        _add(groups.summary, whole)
    for name in names:
        found = groups.levels.setdefault(name, {})
        for each in levels[name]:
            group = found.get(each[0])
            if group is None:
                group = found[each[0]] = Group(names={n: set() for n in NAMED_IN.get(name, ())})
            _add(group, each)


def _packed(key: str, group: Group) -> list[Any]:
    flat = [each for pair in group.latencies.items() for each in pair]
    return [key, group.values, flat, {name: sorted(found) for name, found in group.names.items()}]


def _add(group: Group, packed: Sequence[Any]) -> None:
    _, values, flat, names = packed
    group.add(values, dict(_pairs(flat)))
    for name, found in names.items():
        group.names[name].update(found)


def _pairs(flat: Sequence[int]) -> Iterator[tuple[int, int]]:
    each = iter(flat)
    return zip(each, each, strict=True)


def kept_of(item: Item, marks: Mapping[str, str]) -> tuple[str, bytes] | None:
    """Day and document of an item that still holds."""
    day = item["SK"]["S"][4:]
    return (day, item["document"]["B"]) if marks.get(day) == item["mark"]["S"] else None
