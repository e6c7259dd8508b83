"""Compressed bodies, undone block by block: never more than one block in memory beside the input.

Each decoder is for one body. What it makes of it is bounded by its reader (`request_body`), who
counts the blocks; so a bomb costs what the limit allows and no more.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import zstandard

from nilometer.capture.refusals import DecodingFault

INFLATED_BLOCK = 256 * 1024  # about half a millisecond of work between two turns of the loop
MAX_ZSTD_WINDOW = 8 * 1024 * 1024
"""What RFC 8878 advises decoders to support, and so what a zstd frame may make us allocate."""

_MAX_MEMBERS = 1024
_GZIP = 16 + zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f\x8b\x08"


class Decoder(Protocol):
    """Undoes one body's encoding."""

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """The decoded bytes of the next chunk, in blocks of at most 256 KiB. Raises
        DecodingFault."""
        ...

    def finish(self) -> None:
        """The body has ended: raises DecodingFault for one that was cut."""
        ...


class Gunzip:
    """gzip (RFC 1952), of one or more members."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._members = 1

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Blocks of at most 256 KiB."""
        while chunk:
            if self._member.eof:
                self._next_member()
            block = self._inflate(chunk)
            chunk = self._member.unconsumed_tail or self._member.unused_data
            if block:
                yield block
        while block := self._inflate(b""):  # zlib may hold output back after taking all input
            yield block

    def finish(self) -> None:
        """Refuse a stream that was cut."""
        if not self._member.eof:
            raise _fault("gzip", "the compressed data is truncated")

    def _inflate(self, data: bytes) -> bytes:
        if self._member.eof:
            return b""
        try:
            return self._member.decompress(data, INFLATED_BLOCK)
        except zlib.error as error:
            raise _fault("gzip", str(error)) from None

    def _next_member(self) -> None:
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise _fault("gzip", f"more than {_MAX_MEMBERS} members")
        self._member = zlib.decompressobj(_GZIP)


class Inflate:
    """HTTP's `deflate`: one zlib stream (RFC 1950)."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Blocks of at most 256 KiB."""
        while True:
            if self._stream.eof and chunk:
                raise _fault("deflate", "there is data after its end")
            try:
                block = self._stream.decompress(chunk, INFLATED_BLOCK)
            except zlib.error as error:
                raise _fault("deflate", str(error)) from None
            chunk = self._stream.unconsumed_tail or self._stream.unused_data
            if block:
                yield block
            elif not chunk:
                return

    def finish(self) -> None:
        """Refuse a stream that was cut."""
        if not self._stream.eof:
            raise _fault("deflate", "the compressed data is truncated")


class Unzstd:
    """Zstandard (RFC 8878): one frame, with a window of at most 8 MiB.

    The library gives out what an input holds at once, so it is fed little enough at a time: a
    kilobyte can hold eight blocks of 128 KiB.
    """

    _FED = 1024

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW).decompressobj()

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Blocks of at most 256 KiB."""
        for start in range(0, len(chunk), self._FED):
            if self._frame.eof:
                raise _fault("zstd", "there is data after its end")
            try:
                made = self._frame.decompress(chunk[start : start + self._FED])
            except zstandard.ZstdError as error:
                raise _fault("zstd", str(error)) from None
            for block in range(0, len(made), INFLATED_BLOCK):
                yield made[block : block + INFLATED_BLOCK]
        if self._frame.unused_data:
            raise _fault("zstd", "there is data after its end")

    def finish(self) -> None:
        """Refuse a frame that was cut."""
        if not self._frame.eof:
            raise _fault("zstd", "the compressed data is truncated")


class GunzipIfGzip:
    """Undoes gzip where the first bytes say so, and passes anything else on as it is: clients of
    the original service forget the header that would tell."""

    def __init__(self) -> None:
        self._first = b""
        self._decoder: Gunzip | None = None
        self._decided = False

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """Blocks of at most 256 KiB when it is gzip, else the chunks."""
        if not self._decided:
            self._first += chunk
            if len(self._first) < len(_GZIP_MAGIC) and _GZIP_MAGIC.startswith(self._first):
                return
            self._decided = True
            self._decoder = Gunzip() if self._first.startswith(_GZIP_MAGIC) else None
            chunk, self._first = self._first, b""
        if self._decoder is None:
            yield chunk
        else:
            yield from self._decoder.decode(chunk)

    def finish(self) -> None:
        """Refuse a gzip stream that was cut."""
        if self._decoder is not None:
            self._decoder.finish()
        elif not self._decided:
            raise _fault("gzip", "the compressed data is truncated")


DECODERS: Mapping[bytes, Callable[[], Decoder]] = {
    b"gzip": Gunzip,
    b"x-gzip": Gunzip,
    b"deflate": Inflate,
    b"zstd": Unzstd,
}
"""By the lower-case value of `Content-Encoding`."""


def decoder_for(content_encoding: bytes) -> Decoder | None:
    """The decoder that a `Content-Encoding` header names, None for none. Raises DecodingFault."""
    encoding = content_encoding.strip().lower()
    if encoding in (b"", b"identity"):
        return None
    decoder = DECODERS.get(encoding)
    if decoder is None:
        raise DecodingFault(
            "Unsupported content-encoding: use gzip, deflate or zstd", code="unsupported_encoding"
        )
    return decoder()


def _fault(encoding: str, reason: str) -> DecodingFault:
    return DecodingFault(
        f"Failed to decompress {encoding} body: {reason}", code=f"invalid_{encoding}"
    )
