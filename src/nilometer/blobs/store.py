"""The blob store: durable puts, range reads scoped to a project, listings for the sweeper."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import perf_counter
from urllib.parse import unquote, urlsplit

from nilometer import failpoints
from nilometer.blobs import codec, keys, packs
from nilometer.blobs.backend import PAGE, Backend, Limits
from nilometer.blobs.codec import EncodedObject, EncodedPart, ObjectMetadata
from nilometer.blobs.keys import DEFAULT_RETENTION_DAYS, Day, ObjectName
from nilometer.blobs.local import MAX_WAITING_BYTES, LocalFiles
from nilometer.blobs.packs import PackValue
from nilometer.blobs.reader import OpenPart, open_part
from nilometer.blobs.s3 import S3Objects
from nilometer.blobs.s3_options import S3Options
from nilometer.blobs.types import (
    BlobContent,
    BlobExpired,
    BlobNotFound,
    BlobPart,
    BlobsUnavailable,
    StoredBlob,
)
from nilometer.domain import clock
from nilometer.domain.ai_record import BlobReference
from nilometer.errors import ConfigurationError
from nilometer.observability import metrics

MAX_READ_BYTES = 256 * 1024 * 1024
_WHOLE = 1 << 40


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a listing. `modified` is when it was uploaded, by the storage's clock; `size`
    and `tag` as in `Listed`."""

    name: ObjectName
    modified: datetime
    size: int = 0
    tag: str = ""


def open_store(
    url: str,
    *,
    bucket: str,
    s3_endpoint: str | None = None,
    s3_options: S3Options | None = None,
    default_retention_days: int = DEFAULT_RETENTION_DAYS,
    max_read_bytes: int = MAX_READ_BYTES,
    max_waiting_bytes: int = MAX_WAITING_BYTES,
    disk_reserve: int = 0,
    max_put_bytes: int = 0,
    limits: Limits | None = None,
    failed: Callable[[int], None] = lambda _: None,
) -> BlobStore:
    """The store at `file:///directory` or `s3://bucket`. Raises ConfigurationError.

    `bucket` is the bucket name in the URLs of a `file://` store, and in an `s3://` store that of
    events from before their blobs were moved there; an `s3://` URL names its own bucket, and what
    else it wants is in `s3_options`.
    `default_retention_days` is the retention that the prefix `llma/` stands for. It belongs to the
    stored data, like the layout: a deployment that changes it changes when what it already holds
    under `llma/` is deleted. A project's other retention is written into the prefix instead.
    `max_waiting_bytes` bounds what the puts to a directory hold while its disk hangs; over it they
    are refused at once. `disk_reserve` is what they leave free on it, and `max_put_bytes` the
    largest that is to be expected: the probe fails when there is no room for it.
    """
    limits = limits or Limits()
    moved_from = None
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc:
        backend: Backend = LocalFiles(
            Path(unquote(parts.path)),
            max_waiting_bytes=max_waiting_bytes,
            disk_reserve=disk_reserve,
            max_put_bytes=max_put_bytes,
        )
    elif parts.scheme == "s3" and parts.netloc and parts.path in ("", "/"):
        bucket, moved_from = parts.netloc, (LocalFiles.scheme, bucket)
        backend = S3Objects(bucket, endpoint=s3_endpoint, limits=limits, options=s3_options)
    else:
        raise ConfigurationError(
            "blobs are kept at file:///directory or s3://bucket", attr="blobs_url"
        )
    return BlobStore(
        backend,
        bucket=bucket,
        default_retention_days=default_retention_days,
        max_read_bytes=max_read_bytes,
        limits=limits,
        moved_from=moved_from,
        failed=failed,
    )


class BlobStore:
    """One bucket of blobs. Its coroutines never block the event loop.

    Reads take the caller's project and answer for another project's blob as for one that does not
    exist. Listings and deletions are for the operator's sweeper and for deleting a project.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        bucket: str,
        default_retention_days: int = DEFAULT_RETENTION_DAYS,
        max_read_bytes: int = MAX_READ_BYTES,
        limits: Limits | None = None,
        moved_from: tuple[str, str] | None = None,
        failed: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`moved_from` is the scheme and bucket of URLs from before the objects were moved here;
        `failed` is told whose put did not succeed, and returns at once."""
        self.scheme = backend.scheme
        self._moved_from = moved_from
        self.bucket = bucket
        self.default_retention_days = default_retention_days
        self._backend = backend
        self._max_read_bytes = max_read_bytes
        self._limits = limits or Limits()
        self._note_failure = failed
        self._stored = metrics.BLOB_UPLOADS.labels("stored")
        self._failed = metrics.BLOB_UPLOADS.labels("failed")
        self._packs_stored = metrics.PACK_UPLOADS.labels("stored")
        self._packs_failed = metrics.PACK_UPLOADS.labels("failed")

    async def put(
        self,
        project_id: int,
        event_id: str,
        accepted_at: int,
        retention_days: int,
        parts: Sequence[BlobPart],
    ) -> tuple[BlobReference, ...]:
        """Store an event's blobs as one object, and return a reference to each, in their order.

        `accepted_at` is microseconds since the epoch. When it returns, every byte is durable; when
        it raises, no reader ever sees any of them. Without parts it stores nothing. Raises
        InvalidInput for an event id, name, type or encoding that cannot be stored, and
        BlobsUnavailable.
        """
        if not parts:
            return ()
        codec.check_parts(parts)
        name = keys.new_object_name(
            project_id, event_id, accepted_at, retention_days, self.default_retention_days
        )
        started = perf_counter()
        try:
            boundary = codec.new_boundary(name.event_id)
            size = sum(part.size for part in parts)
            encoded = await self._put(name, size, lambda: codec.encode(parts, boundary))
        except BlobsUnavailable:
            self._failed.inc()
            self._note_failure(project_id)
            raise
        self._stored.inc()
        metrics.BLOB_UPLOAD_SECONDS.observe(perf_counter() - started)
        return tuple(self._reference(name, part) for part in encoded)

    async def put_pack(
        self,
        project_id: int,
        event_id: str,
        accepted_at: int,
        retention_days: int,
        values: Sequence[PackValue],
        *,
        fresh: bool = False,
    ) -> tuple[BlobReference, ...]:
        """Store values of events of one project, day of acceptance and retention as one object;
        otherwise as `put`. `event_id` is the first event's.

        The same values are the same object, however often they are stored. That is for records
        that wait in the log: the sweeper leaves alone whatever was uploaded since. For any other
        events the object must be `fresh`, or a sweep could take it for the orphan that it was.
        """
        digest, encoded = await asyncio.to_thread(packs.encode, values)
        unique = keys.new_digest() if fresh else digest
        name = keys.pack_name(
            *(project_id, event_id, accepted_at, retention_days, unique),
            self.default_retention_days,
        )
        try:
            await self._put(name, sum(map(len, encoded.buffers)), lambda: encoded)
        except BlobsUnavailable:
            self._packs_failed.inc()
            self._note_failure(project_id)
            raise
        self._packs_stored.inc()
        return tuple(self._at(name, part) for part in encoded.parts)

    async def read(self, project_id: int, url: str) -> StoredBlob:
        """Open one blob of the project, to be streamed decoded.

        A compressed blob is decoded once before this returns, so that a broken or oversized one is
        an error now and not in the middle of an answer. Raises InvalidBlobUrl, BlobNotFound,
        BlobExpired, BlobUndecodable, BlobTooLarge and BlobsUnavailable.
        """
        part = await self._open(project_id, url)
        return StoredBlob(
            name=part.head.name,
            content_type=part.head.content_type,
            content_encoding=part.remaining_encoding,
            size=await part.decoded_size(self._max_read_bytes),
            chunks=part.decoded(self._max_read_bytes),
        )

    async def read_all(self, project_id: int, url: str, *, limit: int) -> BlobContent:
        """Read one blob of the project whole, decoded, at most `limit` bytes.

        Raises what `read` raises; BlobTooLarge before it has held more than the limit.
        """
        part = await self._open(project_id, url)
        chunks = [chunk async for chunk in part.decoded(min(limit, self._max_read_bytes))]
        return BlobContent(
            name=part.head.name,
            content_type=part.head.content_type,
            content_encoding=part.remaining_encoding,
            data=b"".join(chunks),
        )

    async def read_object(self, name: ObjectName) -> bytes:
        """The bytes of a whole object as they are stored, for the operator. Raises BlobNotFound and
        BlobsUnavailable."""
        return (await self._backend.read_range(name.key, 0, _WHOLE))[0]

    async def put_object(
        self, name: ObjectName, metadata: ObjectMetadata, encoded: EncodedObject
    ) -> None:
        """Store an object under its name as another store has it, for the operator. Raises
        BlobsUnavailable."""
        size = sum(map(len, encoded.buffers))
        async with _bounded(self._limits.put):
            await self._backend.put(name.key, metadata, size, lambda: encoded)

    async def probe(self) -> None:
        """Check in a few seconds at most that a put would work. Raises BlobsUnavailable."""
        async with _bounded(self._limits.probe):
            await self._backend.probe()

    async def delete_project(self, project_id: int) -> int:
        """Delete every object of a project, of every retention, and return how many."""
        return await asyncio.to_thread(lambda: sum(self.erase_project(project_id)))

    def erase_project(self, project_id: int) -> Iterator[int]:
        """As `delete_project`, page by page: yields the number deleted after each, and may be left
        off at any of them. Blocks."""
        for top in self._backend.list_folders(""):
            if keys.is_retention_prefix(top):
                project = f"{top}/{project_id}"
                for day in self._days_in(project):
                    yield from self.delete_day(day)
                self._backend.remove_folder(project)

    def list_days(self) -> Iterator[Day]:
        """Every project's days that have objects, for the sweeper. Blocks; call it in a thread."""
        for top in self._backend.list_folders(""):
            if keys.is_retention_prefix(top):
                for project in self._backend.list_folders(top):
                    yield from self._days_in(project)

    def list_objects(self, day: Day) -> Iterator[Sequence[StoredObject]]:
        """The objects of a day in pages; what Nilometer did not write is left out. Blocks."""
        for page in self._backend.list_objects(day.prefix):
            named = ((keys.parse_key(item.key), item) for item in page)
            yield [
                StoredObject(name, item.modified, item.size, item.tag)
                for name, item in named
                if name is not None
            ]

    def delete(self, names: Sequence[ObjectName]) -> int:
        """Delete objects; those already gone are no error. Returns how many were named. Blocks."""
        for start in range(0, len(names), PAGE):
            self._backend.delete([name.key for name in names[start : start + PAGE]])
        return len(names)

    def delete_day(self, day: Day) -> Iterator[int]:
        """Delete every object of a day, and its folder where there are folders. Blocks.

        Yields the number deleted after each page, and may be left off at any of them.
        """
        for page in self.list_objects(day):
            yield self.delete([item.name for item in page])
        self._backend.remove_folder(day.prefix)

    def delete_temporaries(self, before: datetime) -> int:
        """Delete what killed puts left before the instant, and return how many. Blocks."""
        return self._backend.delete_temporaries(before)

    def close(self) -> None:
        """Finish the writes that have begun and release everything. Blocks."""
        self._backend.close()

    async def _put(
        self, name: ObjectName, size: int, encode: Callable[[], EncodedObject]
    ) -> tuple[EncodedPart, ...]:
        metadata = ObjectMetadata(name.day.project_id, name.event_id, clock.now().isoformat())
        async with _bounded(self._limits.put):
            encoded = await self._backend.put(name.key, metadata, size, encode)
        return encoded.parts

    def _reference(self, name: ObjectName, part: EncodedPart) -> BlobReference:
        metrics.BLOB_BYTES.observe(part.size)
        if part.compressed_here:
            metrics.BLOB_COMPRESSION.observe(part.stored_size / part.size)
        return self._at(name, part)

    def _at(self, name: ObjectName, part: EncodedPart) -> BlobReference:
        return BlobReference(
            name=part.name,
            url=keys.blob_url(self.scheme, self.bucket, name, part.start, part.end),
            content_type=part.content_type,
            content_encoding=part.content_encoding,
            size=part.size,
            stored_size=part.stored_size,
            compressed_here=part.compressed_here,
        )

    async def _open(self, project_id: int, url: str) -> OpenPart:
        location = keys.parse_blob_url(url, *self._origin(url))
        day = location.name.day
        if day.project_id != project_id:
            raise BlobNotFound("there is no such blob")
        if day.expires_at(self.default_retention_days) <= clock.now():
            raise BlobExpired("the blob's retention has ended")
        return await open_part(self._backend, location)

    def _origin(self, url: str) -> tuple[str, str]:
        """Where a URL says that its blob is. One that an event got while its deployment kept blobs
        in a directory stays as it is when they are moved: its key is the same here."""
        moved = self._moved_from
        if moved is not None and url.startswith(f"{moved[0]}://{moved[1]}/"):
            return moved
        return self.scheme, self.bucket

    def _days_in(self, project: str) -> Iterator[Day]:
        for folder in self._backend.list_folders(project):
            day = keys.parse_day(folder)
            if day is not None:
                yield day


@asynccontextmanager
async def _bounded(seconds: float) -> AsyncGenerator[None]:
    """The failpoint `blobs` and a time limit, both told as BlobsUnavailable."""
    try:
        failpoints.hit("blobs")
        async with asyncio.timeout(seconds):
            yield
    except failpoints.Fault as fault:
        raise BlobsUnavailable(f"the blob storage does not work: {fault}") from fault
    except TimeoutError as error:
        raise BlobsUnavailable(f"the blob storage did not answer in {seconds:g} s") from error
