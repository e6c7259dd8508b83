"""Reading one part of an object, in pieces and in bounded memory.

Each piece is a request of its own, read to its end at once: nothing stays open while a slow client
takes its time, and nothing leaks when it goes away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from nilometer.blobs.backend import Backend
from nilometer.blobs.codec import PartHead, parse_head
from nilometer.blobs.compression import GzipDecoder, is_gzip
from nilometer.blobs.keys import BlobLocation
from nilometer.blobs.types import BlobNotFound, BlobTooLarge

PIECE_BYTES = 1024 * 1024
_SLICE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A part whose headers were read. `first` is the body's beginning, from the same request."""

    backend: Backend
    location: BlobLocation
    head: PartHead
    first: bytes

    @property
    def stored_size(self) -> int:
        """Bytes of the body as stored."""
        return self.location.size - self.head.length

    @property
    def remaining_encoding(self) -> str | None:
        """The content encoding that `decoded` leaves on the bytes."""
        encoding = self.head.content_encoding
        return None if is_gzip(encoding) else encoding

    async def stored(self) -> AsyncIterator[bytes]:
        """The body as stored."""
        if self.first:
            yield self.first
        position = self.location.start + self.head.length + len(self.first)
        while position <= self.location.end:
            stop = min(position + PIECE_BYTES, self.location.end + 1)
            piece, _ = await self.backend.read_range(self.location.name.key, position, stop)
            if len(piece) != stop - position:
                raise BlobNotFound("there is no such blob")
            yield piece
            position = stop

    async def decoded(self, limit: int) -> AsyncIterator[bytes]:
        """The body as its client meant it, up to `limit` bytes.

        Raises BlobTooLarge when it is longer and BlobUndecodable when it is broken.
        """
        chunks = self._gunzipped() if is_gzip(self.head.content_encoding) else self.stored()
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise BlobTooLarge(f"the blob has more than {limit} bytes when decoded")
            yield chunk

    async def decoded_size(self, limit: int) -> int:
        """How many bytes `decoded` yields; reads a compressed body once, to be sure of it.

        Raises as `decoded` does: a client is told so before the answer has begun.
        """
        if is_gzip(self.head.content_encoding):
            return sum([len(chunk) async for chunk in self.decoded(limit)])
        if self.stored_size > limit:
            raise BlobTooLarge(f"the blob has more than {limit} bytes")
        return self.stored_size

    async def _gunzipped(self) -> AsyncIterator[bytes]:
        decoder = GzipDecoder()
        async for piece in self.stored():
            for offset in range(0, len(piece), _SLICE_BYTES):
                decoder.feed(piece[offset : offset + _SLICE_BYTES])
                while chunk := await asyncio.to_thread(decoder.read):
                    yield chunk
        decoder.finish()


async def open_part(backend: Backend, location: BlobLocation) -> OpenPart:
    """Read a part's headers. Raises BlobNotFound when that range of bytes is no part."""
    stop = min(location.end + 1, location.start + PIECE_BYTES)
    data, object_size = await backend.read_range(location.name.key, location.start, stop)
    head = parse_head(data)
    if head is None or location.end >= object_size:
        raise BlobNotFound("there is no such blob")
    return OpenPart(backend, location, head, data[head.length :])
