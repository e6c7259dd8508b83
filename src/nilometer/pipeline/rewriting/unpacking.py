"""Stored rows of events with their large values in place again, to be mapped."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nilometer.blobs.store import BlobStore
from nilometer.domain import packed
from nilometer.domain.packed import SOURCE, PackedValue
from nilometer.errors import InvalidInput, NotFound

_READS_AT_ONCE = 8

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NotUnpacked:
    """A row of which a value cannot be read any more: it has expired, or its object is gone."""

    row: Mapping[str, Any]


def unpack(rows: Sequence[Row], blobs: BlobStore) -> list[Row | NotUnpacked]:
    """The rows, none of them `packed`. Blocks; raises BlobsUnavailable."""
    values = [packed.from_json(row["packed"]) for row in rows]
    if not any(values):
        return [_whole(row, {}) for row in rows]
    return asyncio.run(_unpack(rows, values, blobs))


async def _unpack(
    rows: Sequence[Row], values: Sequence[Sequence[PackedValue]], blobs: BlobStore
) -> list[Row | NotUnpacked]:
    room = asyncio.Semaphore(_READS_AT_ONCE)

    async def read(project_id: int, value: PackedValue) -> str | None:
        async with room:
            try:
                content = await blobs.read_all(project_id, value.url, limit=value.size)
            except (NotFound, InvalidInput):
                return None
        return content.data.decode()

    async def one(row: Row, values: Sequence[PackedValue]) -> Row | NotUnpacked:
        found = await asyncio.gather(*(read(row["project_id"], value) for value in values))
        texts = {
            value.property: text
            for value, text in zip(values, found, strict=True)
            if text is not None
        }
        return _whole(row, texts) if len(texts) == len(values) else NotUnpacked(row)

    return await asyncio.gather(*map(one, rows, values))


def _whole(row: Row, texts: Mapping[str | None, str]) -> Row:
    properties = {name: text for name, text in texts.items() if name is not None}
    whole = row | {
        "properties": packed.put_back(row["properties"], properties),
        SOURCE: texts.get(None, row[SOURCE]),
    }
    del whole["packed"]
    return whole
