"""What a day adds up to by each level, kept by who read it until a metric is added to the day.

A month of rollups is hundreds of documents; of kept days it is thirty a scope. A kept day says by a
`mark` which versions of the day's rollups it was made of, and is used only while the day has them.
The versions are read before the rollups: a day that changes in between has newer sums than its mark
says, and the next reader makes it anew. Whoever may not write reads the rollups each time.
"""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nilometer.dynamodb.schema import Item
from nilometer.usage import fold, latency
from nilometer.usage.dimensions import NAMED_IN
from nilometer.usage.fold import Row
from nilometer.usage.groups import FIELDS, Group, Groups
from nilometer.usage.plan import BASE

_LOG = logging.getLogger(__name__)

TYPE = "AIUsageKeptDay"
MAX_BYTES = 380_000
"""Packed. A day with more is not kept."""
FORM = 2
"""Of a document. Of another form, a day is made anew."""

MOST = 2**23
"""Calls of one bucket of a kept day: a year of them is still one digit."""

_DIGIT = 4
"""Bytes of a count."""
_NONE: Mapping[int, int] = {}
_NOTHING = [0] * len(FIELDS)

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


def pack(groups: Groups) -> bytes | None:
    """The document of a day's groups; None where a count is too large for it."""
    blob = bytearray()
    try:
        head = [
            _packed("", groups.summary, blob),
            {
                name: [_packed(key, group, blob) for key, group in found.items()]
                for name, found in groups.levels.items()
            },
        ]
    except OverflowError:
        return None
    text = json.dumps(head, separators=(",", ":")).encode()
    return zlib.compress(len(text).to_bytes(4, "little") + text + blob, 1)


@dataclass(frozen=True, slots=True)
class Opened:
    """A kept day's document, read: the packed groups, and their distributions."""

    whole: Sequence[Any]
    levels: Mapping[str, Sequence[Sequence[Any]]]
    blob: memoryview


def add(groups: Groups, days: Iterable[Opened], names: Sequence[str], *, summary: bool) -> None:
    """Add the groups of these levels of each day, and its summary."""
    sums = _Sums()
    for day in days:
        if summary:
            sums.add(groups.summary, day.whole, day.blob)
        for name in names:
            found = groups.levels.setdefault(name, {})
            for each in day.levels[name]:
                group = found.get(each[0])
                if group is None:
                    group = found[each[0]] = Group(names={n: set() for n in NAMED_IN.get(name, ())})
                sums.add(group, each, day.blob)
    sums.finish()


def merge(groups: Groups, day: Groups, names: Iterable[str], *, summary: bool) -> None:
    """As `add`, of what was just made."""
    if summary:
        groups.summary.add(day.summary.values, day.summary.latencies)
    for name in names:
        found = groups.levels.setdefault(name, {})
        for key, made in day.levels[name].items():
            group = found.setdefault(key, Group(names={n: set() for n in made.names}))
            group.add(made.values, made.latencies)
            for each, values in made.names.items():
                group.names[each] |= values


class _Sums:
    """Distributions added up: each is one number, whose digits are the counts of the buckets, so
    that adding two is one addition (a month of 200 users in a tenth of the time)."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[Group, int]] = {}

    def add(self, group: Group, packed: Sequence[Any], blob: memoryview) -> None:
        """Add a packed group to another one."""
        _, values, first, start, size, names = packed
        group.add(values, _NONE)
        for name, found in names.items():
            group.names[name].update(found)
        if size:
            number = int.from_bytes(blob[start : start + size], "little") << 8 * _DIGIT * first
            self._found[id(group)] = group, number + self._found.get(id(group), (group, 0))[1]

    def finish(self) -> None:
        """Give each group what was added up for it."""
        for group, number in self._found.values():
            digits = number.to_bytes(_DIGIT * (latency.place(latency.MAX_MICROS) + 2), "little")
            counts = enumerate(memoryview(digits).cast("I"))
            group.add(_NOTHING, {latency.at(place): count for place, count in counts if count})


def _packed(key: str, group: Group, blob: bytearray) -> list[Any]:
    """A group; its distribution goes into the blob, from its first bucket to its last."""
    counts = {latency.place(least): count for least, count in group.latencies.items()}
    first, start = min(counts, default=0), len(blob)
    if max(counts.values(), default=0) > MOST:
        raise OverflowError
    if counts:
        digits = [counts.get(place, 0) for place in range(first, max(counts) + 1)]
        blob += struct.pack(f"<{len(digits)}I", *digits)
    names = {name: sorted(found) for name, found in group.names.items()}
    return [key, group.values, first, start, len(blob) - start, names]


def kept_of(item: Item, marks: Mapping[str, str], scope: str) -> tuple[str, Opened] | None:
    """The day of an item of this scope that still holds. One that cannot be read does not: it is
    made anew as if it were old."""
    day = item["SK"]["S"][4:]
    if marks.get(day) != item.get("mark", {}).get("S"):
        return None
    try:
        opened = _opened(item["document"]["B"])
    except (KeyError, TypeError, ValueError, zlib.error):
        opened = None
    if opened is None or not all(name in opened.levels for name in levels_of(scope)):
        _LOG.warning("the kept day %s cannot be read, and is made anew", day)
        return None
    return day, opened


def _opened(document: bytes) -> Opened:
    plain = memoryview(zlib.decompress(document))
    start = 4 + int.from_bytes(plain[:4], "little")
    whole, levels = json.loads(bytes(plain[4:start]))
    return Opened(whole, levels, plain[start:])
