"""Packed values of events, put back where their URLs stand: what a reader sees is what was sent.

What cannot be put back leaves the URL, and its outcome says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nilometer.blobs.store import BlobStore
from nilometer.domain import packed
from nilometer.domain.packed import PackedValue
from nilometer.query.events import Event
from nilometer.query.hydration import Budget, Outcome, read_all

_READS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An event with what could be put back, and each packed property's outcome by name."""

    event: Event
    outcomes: Mapping[str, Outcome]


async def unpack(events: Sequence[Event], blobs: BlobStore, budget: Budget) -> list[Unpacked]:
    """Put the packed values of these events back, each as its exact text. Takes what it used from
    the budget; values that no longer fit are left out, in the order of the events. Never raises
    over a value."""
    room = asyncio.Semaphore(_READS_AT_ONCE)

    async def text(event: Event, value: PackedValue) -> str | Outcome:
        if not budget.take(value.size):
            return Outcome.TOO_LARGE
        async with room:
            content = await read_all(event.project_id, value.url, blobs, value.size)
        return content if isinstance(content, Outcome) else content.data.decode()

    wanted = [text(event, value) for event in events for value in event.packed]
    found = iter(await asyncio.gather(*wanted))
    return [await _put_back(event, [next(found) for _ in event.packed]) for event in events]


async def _put_back(event: Event, found: Sequence[str | Outcome]) -> Unpacked:
    if not found:
        return Unpacked(event, {})
    names = [value.property or "" for value in event.packed]
    texts = {name: text for name, text in zip(names, found, strict=True) if type(text) is str}
    properties = await asyncio.to_thread(packed.put_back, event.properties, texts)
    outcomes = {
        name: text if isinstance(text, Outcome) else Outcome.INLINED
        for name, text in zip(names, found, strict=True)
    }
    return Unpacked(replace(event, properties=properties), outcomes)
