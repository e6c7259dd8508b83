"""Gzip in bounded memory: compress a blob's chunks, and decode what may be a bomb."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from nilometer.blobs.types import BlobUndecodable

MIN_COMPRESS_BYTES = 1024
"""Smaller parts stay as they are: gzip's own 18 bytes and the header eat most of the gain."""

DECODED_CHUNK_BYTES = 256 * 1024
MAX_GZIP_MEMBERS = 10_000
"""bgzip needs 4,096 for 256 MiB; millions of empty ones are an attack on the processor."""

_GZIP = 16 + zlib.MAX_WBITS
LEVEL = 6  # 8 kB of chat text: 142 µs and 56 %, against 113 µs and 57.5 % at level 1
_ENCODINGS = frozenset({"gzip", "x-gzip"})  # the same thing (RFC 9110, section 8.4.1.3)


def is_gzip(content_encoding: str | None) -> bool:
    """Whether a part with this content encoding is decoded on reading."""
    return content_encoding is not None and content_encoding.strip().lower() in _ENCODINGS


def is_compressible(content_type: str) -> bool:
    """Whether the type is text or JSON, by its name without parameters."""
    name = content_type.partition(";")[0].strip().lower()
    return name.startswith("text/") or name == "application/json"


def compress(chunks: Sequence[bytes], level: int = LEVEL) -> list[bytes] | None:
    """The chunks as one gzip member, or None when that would not be smaller."""
    budget = sum(len(chunk) for chunk in chunks)
    compressor = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
    result: list[bytes] = []
    for chunk in chunks:
        result.append(compressor.compress(chunk))
        budget -= len(result[-1])
        if budget <= 0:
            return None
    result.append(compressor.flush())
    return result if len(result[-1]) < budget else None


class GzipDecoder:
    """Decodes a gzip stream piece by piece, never more than asked for at once.

    A stream may have several members, and zeros after the last one, as `gzip -d` takes it.
    """

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._input = b""
        self._members = 0
        self._inside = False  # a member has begun and not ended

    def feed(self, data: bytes) -> None:
        """Give it the next piece of the stream, of some 64 KiB: what is left over is copied."""
        self._input += data

    def read(self, size: int = DECODED_CHUNK_BYTES) -> bytes:
        """Up to `size` decoded bytes; none when it needs more input or is at the end.

        A few bytes may wait inside for the next input; a member's checksum, its last eight bytes,
        always brings them out. Raises BlobUndecodable.
        """
        while self._input:
            if not self._inside and not self._begin_member():
                break
            decoded = self._decode(size)
            if decoded:
                return decoded
        return b""

    def finish(self) -> None:
        """Say that there is no more input. Raises BlobUndecodable if the stream is cut short."""
        if self._inside or self._members == 0:
            raise BlobUndecodable("the blob's gzip stream, as the client sent it, is cut short")

    def _begin_member(self) -> bool:
        if self._members:
            self._input = self._input.lstrip(b"\0")
        if not self._input:
            return False
        if self._members == MAX_GZIP_MEMBERS:
            raise BlobUndecodable(f"the blob has more than {MAX_GZIP_MEMBERS} gzip members")
        self._member = zlib.decompressobj(_GZIP)
        self._members += 1
        self._inside = True
        return True

    def _decode(self, size: int) -> bytes:
        try:
            decoded = self._member.decompress(self._input, size)
        except zlib.error:
            raise BlobUndecodable("the blob is not in the gzip that its client declared") from None
        self._inside = not self._member.eof
        self._input = self._member.unconsumed_tail if self._inside else self._member.unused_data
        return decoded
