"""Packed values of events, put back where their URLs stand: what a reader sees is what was sent.

What cannot be put back leaves the URL, and its outcome says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nilometer.blobs.store import BlobStore
from nilometer.blobs.types import BlobContent
from nilometer.domain import packed
from nilometer.domain.packed import PackedValue
from nilometer.query.events import Event
from nilometer.query.hydration import Budget, Outcome, read_all

# How long the storage may take over the values of one answer.
MAX_SECONDS = 10.0
_READS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An event with what could be put back, and each packed property's outcome by name."""

    event: Event
    outcomes: Mapping[str, Outcome]


async def unpack(events: Sequence[Event], blobs: BlobStore, budget: Budget) -> list[Unpacked]:
    """Put the packed values of these events back, each as its exact text. Takes what it used from
    the budget; values that no longer fit are left out, in the order of the events. Never raises
    over a value, and takes a few seconds at most: the rest of an event is worth reading while the
    storage is down."""
    reads = _Reads(blobs, budget)
    wanted = [reads.text(event, value) for event in events for value in event.packed]
    found = iter(await asyncio.gather(*wanted))
    return [await _put_back(event, [next(found) for _ in event.packed]) for event in events]


class _Reads:
    """The reads of one answer. After one that finds the storage down, no other is begun."""

    def __init__(self, blobs: BlobStore, budget: Budget) -> None:
        self._blobs = blobs
        self._budget = budget
        self._room = asyncio.Semaphore(_READS_AT_ONCE)
        self._deadline = asyncio.get_running_loop().time() + MAX_SECONDS
        self._down = False

    async def text(self, event: Event, value: PackedValue) -> str | Outcome:
        """The value's JSON text, or why there is none."""
        if not self._budget.take(value.size):
            return Outcome.TOO_LARGE
        async with self._room:
            content = Outcome.UNAVAILABLE if self._down else await self._content(event, value)
        if content is Outcome.UNAVAILABLE:
            self._down = True
        return content if isinstance(content, Outcome) else content.data.decode()

    async def _content(self, event: Event, value: PackedValue) -> BlobContent | Outcome:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await read_all(event.project_id, value.url, self._blobs, value.size)
        except TimeoutError:
            return Outcome.UNAVAILABLE


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
