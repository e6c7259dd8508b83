"""The blobs of one store, packs among them, copied to another under the same keys.

What the target has of a day is listed first, so that a day that is there already costs a listing
and a read of the source. An object is compared by size and by the MD5 that most storages tell of
it; where they tell something else, it is read back.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence

from nilometer import failpoints
from nilometer.blobs.codec import EncodedObject, ObjectMetadata
from nilometer.blobs.keys import Day, ObjectName
from nilometer.blobs.moving import as_stored, taken_apart
from nilometer.blobs.store import BlobStore, StoredObject
from nilometer.blobs.types import BlobNotFound
from nilometer.domain import clock
from nilometer.migrate_data.report import Comparison, Progress, Tally

PART = "blobs"

_AT_ONCE = 16
_BYTES_AT_ONCE = 64 << 20

_Listing = Mapping[str, StoredObject]


class Objects:
    """The objects of two stores. Blocks; raises BlobsUnavailable."""

    def __init__(self, source: BlobStore, target: BlobStore) -> None:
        self._source = source
        self._target = target

    def count(self) -> int:
        """How many objects the source has whose retention has not ended."""
        return sum(len(page) for day in self._days() for page in self._source.list_objects(day))

    def strangers(self) -> bool:
        """Whether the target has an object of a deployment."""
        return any(
            page for day in self._target.list_days() for page in self._target.list_objects(day)
        )

    def move(self, progress: Progress) -> int:
        """Copy what the target lacks, or has otherwise; how many objects that were."""
        moved = 0
        for day in self._days():
            there = self._listing(day)
            for group in _groups(self._source.list_objects(day)):
                moved += asyncio.run(self._move(group, there))
                failpoints.hit("moved_objects")
                progress.advance(len(group))
        return moved

    def compare(self) -> Iterator[Comparison]:
        """Every object of the source beside the target's, told by project."""
        found: dict[int, tuple[Tally, Tally]] = {}
        for day in self._days():
            ours, theirs = found.setdefault(day.project_id, (Tally(), Tally()))
            there = self._listing(day)
            for group in _groups(self._source.list_objects(day)):
                for wanted, has in asyncio.run(self._digests(group, there)):
                    ours.add(wanted)
                    if has is not None:
                        theirs.add(has)
        for project in sorted(found):
            ours, theirs = found[project]
            yield Comparison(PART, "objects", project, ours, theirs)

    def _days(self) -> Iterator[Day]:
        """The days whose objects are still to be kept."""
        now = clock.now()
        for day in self._source.list_days():
            if day.expires_at(self._source.default_retention_days) > now:
                yield day

    def _listing(self, day: Day) -> _Listing:
        return {item.name.file: item for page in self._target.list_objects(day) for item in page}

    async def _move(self, group: Sequence[StoredObject], there: _Listing) -> int:
        return sum(await asyncio.gather(*(self._move_one(each.name, there) for each in group)))

    async def _move_one(self, name: ObjectName, there: _Listing) -> bool:
        metadata, encoded = await self._object(name)
        stored = as_stored(self._target.scheme, metadata, encoded)
        if await self._has(name, there, stored):
            return False
        await self._target.put_object(name, metadata, encoded)
        return True

    async def _digests(
        self, group: Sequence[StoredObject], there: _Listing
    ) -> list[tuple[int, int | None]]:
        return await asyncio.gather(*(self._digest_pair(each.name, there) for each in group))

    async def _digest_pair(self, name: ObjectName, there: _Listing) -> tuple[int, int | None]:
        """The hash of an object's name and bytes as they should be, and as they are."""
        metadata, encoded = await self._object(name)
        stored = as_stored(self._target.scheme, metadata, encoded)
        wanted = _digest(name, stored)
        if name.file not in there:
            return wanted, None
        if _is_told(there[name.file], stored):
            return wanted, wanted
        try:
            return wanted, _digest(name, [await self._target.read_object(name)])
        except BlobNotFound:
            return wanted, None

    async def _object(self, name: ObjectName) -> tuple[ObjectMetadata, EncodedObject]:
        return taken_apart(name, await self._source.read_object(name))

    async def _has(self, name: ObjectName, there: _Listing, stored: Sequence[bytes]) -> bool:
        known = there.get(name.file)
        if known is None or known.size != sum(map(len, stored)):
            return False
        if _is_told(known, stored):
            return True
        return await self._target.read_object(name) == b"".join(stored)


def _groups(pages: Iterator[Sequence[StoredObject]]) -> Iterator[list[StoredObject]]:
    """The objects, as many as may be in memory at once."""
    group: list[StoredObject] = []
    size = 0
    for page in pages:
        for each in page:
            group.append(each)
            size += each.size
            if len(group) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
                yield group
                group, size = [], 0
    if group:
        yield group


def _is_told(known: StoredObject, stored: Sequence[bytes]) -> bool:
    """Whether the storage itself says that it has these bytes."""
    digest = hashlib.md5(usedforsecurity=False)
    for each in stored:
        digest.update(each)
    return known.tag.strip('"') == digest.hexdigest() and known.size == sum(map(len, stored))


def _digest(name: ObjectName, stored: Sequence[bytes]) -> int:
    digest = hashlib.blake2b(name.key.encode(), digest_size=8)
    for each in stored:
        digest.update(each)
    return int.from_bytes(digest.digest())
