"""Takes large values out of the rows of new events and keeps them in blob storage.

Whatever follows from an event's values (columns, usage, cost) has been read by then. One object
holds the values of all events of a batch that are of one project, retention and day of acceptance:
a prefix of the storage is then all of a project, and all that expires on one day. An object is
durable before any row names it; one that no row came to name is an orphan, for the sweeper.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, cast

import orjson

from nilometer import failpoints
from nilometer.blobs.packs import PackValue
from nilometer.blobs.store import BlobStore
from nilometer.domain import clock, packed, retention
from nilometer.domain.ai_record import BlobReference
from nilometer.domain.json_text import InvalidJson
from nilometer.domain.packed import SOURCE, Member, PackedValue
from nilometer.observability import metrics
from nilometer.pipeline.event_rows import Rows

SLICE_BYTES = 32 << 20
"""Rows are packed so many bytes at a time, and no object is larger (but for one row that is)."""

_PUTS_AT_ONCE = 4

Row = dict[str, Any]
Pack = Callable[[Sequence[Rows]], list[bytes]]
"""The lines of the table `events` for these rows. Raises BlobsUnavailable."""


def unpacked(batch: Sequence[Rows]) -> list[bytes]:
    """Every row with all it has."""
    return [rows.event for rows in batch]


def once(pack: Pack) -> Pack:
    """As `pack`, each row once however often it is asked for: a batch that the store rejects is
    written again in parts."""
    lines: dict[int, bytes] = {}

    def packed_once(batch: Sequence[Rows]) -> list[bytes]:
        new = [rows for rows in batch if id(rows) not in lines]
        lines.update(zip(map(id, new), pack(new), strict=True))
        return [lines[id(rows)] for rows in batch]

    return packed_once


class Packer:
    """Packs values of more than `above` bytes of JSON text; none when that is 0."""

    def __init__(self, blobs: BlobStore, *, above: int) -> None:
        self._blobs = blobs
        self._above = above
        self._received = metrics.PACKED_BYTES.labels("received")
        self._stored = metrics.PACKED_BYTES.labels("stored")

    def lines(self, batch: Sequence[Rows]) -> list[bytes]:
        """The lines of the table `events`. Their values are durable when it returns. Raises
        BlobsUnavailable."""
        lines = unpacked(batch)
        large = [place for place, line in enumerate(lines) if 0 < self._above < len(line)]
        for places in _slices(large, [len(lines[place]) for place in large]):
            rows = [cast("Row", orjson.loads(lines[place])) for place in places]
            for place, row, found in zip(places, rows, self._packed(rows), strict=True):
                if found is not row:
                    lines[place] = orjson.dumps(found)
        return lines

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """As `lines`, of rows of the table `events` by column name, whose records do not wait in
        the log: they get packs of their own each time."""
        if not self._above:
            return list(rows)
        made: list[Row] = []
        for places in _slices(range(len(rows)), [_length(row) for row in rows]):
            made += self._packed([rows[place] for place in places], fresh=True)
        return made

    def _packed(self, rows: Sequence[Row], *, fresh: bool = False) -> list[Row]:
        found = [_Large.of(row, self._above) for row in rows]
        packs: dict[tuple[int, str, int], list[_Large]] = {}
        for large in found:
            if large is not None:
                packs.setdefault(large.belongs, []).append(large)
        if not packs:
            return list(rows)
        stored = asyncio.run(self._put(list(packs.values()), fresh=fresh))
        failpoints.hit("after_pack_put")
        values: dict[int, Sequence[BlobReference]] = {}
        for pack, references in zip(packs.values(), stored, strict=True):
            given = iter(references)
            for large in pack:
                values[id(large)] = list(islice(given, large.count))
        return [
            row if large is None else large.row_with(values[id(large)])
            for row, large in zip(rows, found, strict=True)
        ]

    async def _put(
        self, packs: Sequence[Sequence[_Large]], *, fresh: bool
    ) -> list[tuple[BlobReference, ...]]:
        room = asyncio.Semaphore(_PUTS_AT_ONCE)

        async def put(pack: Sequence[_Large]) -> tuple[BlobReference, ...]:
            first, values = pack[0], [value for large in pack for value in large.values()]
            async with room:
                references = await self._blobs.put_pack(
                    *(first.row["project_id"], str(first.row["uuid"])),
                    *(first.accepted_at, first.retention_days, values),
                    fresh=fresh,
                )
            self._received.inc(sum(reference.size for reference in references))
            self._stored.inc(sum(reference.stored_size for reference in references))
            return references

        return await asyncio.gather(*map(put, packs))


@dataclass(frozen=True, slots=True)
class _Large:
    """A row with values to pack: members of its properties, and perhaps its source."""

    row: Row
    members: Sequence[Member]
    source: bool

    @classmethod
    def of(cls, row: Row, above: int) -> _Large | None:
        try:
            members = packed.large_members(row["properties"], above)
        except InvalidJson:  # what no reader can take apart stays whole
            members = []
        source = packed.is_large(row.get(SOURCE) or "", above)
        return cls(row, members, source) if members or source else None

    @property
    def accepted_at(self) -> int:
        """Microseconds."""
        return clock.to_micros(_moment(self.row["accepted_at"]))

    @property
    def retention_days(self) -> int:
        return retention.days(
            _moment(self.row["accepted_at"]).date(), _moment(self.row["expires_at"])
        )

    @property
    def belongs(self) -> tuple[int, str, int]:
        day = _moment(self.row["accepted_at"]).date().isoformat()
        return self.row["project_id"], day, self.retention_days

    @property
    def count(self) -> int:
        """How many values."""
        return len(self.members) + self.source

    def values(self) -> Iterator[PackValue]:
        text = self.row["properties"]
        for member in self.members:
            yield PackValue(member.name, text[member.start : member.end].encode())
        if self.source:
            yield PackValue(SOURCE, self.row[SOURCE].encode())

    def row_with(self, references: Sequence[BlobReference]) -> Row:
        """The row with URLs in place of the values, which are kept at these references."""
        names = [*(member.name for member in self.members), *([None] if self.source else [])]
        kept = [
            PackedValue(name, reference.url, reference.size, reference.stored_size)
            for name, reference in zip(names, references, strict=True)
        ]
        urls = [(member, value.url) for member, value in zip(self.members, kept, strict=False)]
        row = self.row | {
            "properties": packed.without(self.row["properties"], urls),
            "packed": packed.to_json(kept),
        }
        return row | {SOURCE: packed.string(kept[-1].url)} if self.source else row


def _moment(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def _length(row: Row) -> int:
    return len(row["properties"]) + len(row.get(SOURCE) or "")


def _slices(places: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """The places in groups of at most `SLICE_BYTES` together, and at least one each."""
    group: list[int] = []
    total = 0
    for place, size in zip(places, sizes, strict=True):
        if group and total + size > SLICE_BYTES:
            yield group
            group, total = [], 0
        group.append(place)
        total += size
    if group:
        yield group
