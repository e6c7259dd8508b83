"""What a file holds, decompressed by what its first bytes are, within bounds."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol, Self

from nilometer.importers import sniffing
from nilometer.importers.chunk import Limits
from nilometer.importers.trace_call import Reason

_WINDOW = 1 << 27  # zstd's own bound without --long=31, and 128 MiB of memory
_PIECE = 256 * 1024
_ZSTD_PIECE = 1024
"""zstd's reader gives all that it is fed makes, which is 32 MiB of this at the most."""


class Broken(Exception):
    """The rest of a file cannot be had. `detail` is a sentence."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Content:
    """The bytes that a file holds. `read` counts the file's, `given` the content's."""

    def __init__(self, raw: BinaryIO, limits: Limits) -> None:
        self._raw = raw
        self._limits = limits
        self._ahead = b""
        self.read = self.given = 0
        self._take_ahead()
        self._kind = sniffing.compression(self._ahead)
        self._unpacked = self._unpack()

    def head(self) -> bytes:
        """The first bytes, which `pieces` gives too. Raises Broken."""
        if not self._kind:
            return self._ahead
        first, rest = b"", self._unpacked
        try:
            while len(first) < sniffing.HEAD and (more := next(self._unpacked, b"")):
                first += more
        except Broken as error:
            if not first:
                raise
            rest = _broken(error)
        self._unpacked = _joined(first, rest)
        return first[: sniffing.HEAD]

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """All from an offset, in pieces of about `Limits.chunk`. Raises Broken."""
        if start and not self._kind and self._raw.seekable():
            self._raw.seek(start)
            self._ahead, self.read, self.given = b"", start, start
        waiting, most = bytearray(), min(self._limits.chunk, self._limits.line)
        try:
            for piece in self._unpacked:
                self.given += len(piece)
                waiting += self._from(start, piece)
                broken = self._too_much() if self._kind else None
                while len(waiting) >= most:
                    yield bytes(waiting[:most])
                    del waiting[:most]
                if broken:
                    raise broken
                if waiting and not self._raw.seekable():
                    yield bytes(waiting)
                    waiting.clear()
        except Broken:
            if waiting:
                yield bytes(waiting)
            raise
        if waiting:
            yield bytes(waiting)

    def _from(self, start: int, piece: bytes) -> bytes:
        """Of the last piece, what is not before an offset."""
        return piece[max(0, len(piece) - max(0, self.given - start)) :]

    def _take_ahead(self) -> None:
        """The first bytes, as many as are looked at; a pipe may give them a few at a time."""
        while len(self._ahead) < sniffing.HEAD and (more := self._raw.read(sniffing.HEAD)):
            self._ahead += more
            if not self._raw.seekable() and b"\n" in self._ahead:
                return  # what is shown as it comes is not waited for

    def _unpack(self) -> Iterator[bytes]:
        if self._kind == "gzip":
            return self._gzip()
        return self._zstd() if self._kind else self._plain()

    def _plain(self) -> Iterator[bytes]:
        while piece := self._more(_PIECE):
            yield piece

    def _gzip(self) -> Iterator[bytes]:
        """All members, one after the other; zeros behind the last are padding."""
        packed = self._more(_PIECE)
        while packed:
            member = zlib.decompressobj(31)
            while not member.eof:
                before = member.copy()
                try:
                    piece = member.decompress(packed, _PIECE)
                except zlib.error:
                    yield from _until_damage(before, packed)
                    raise _damaged("gzip") from None
                packed = member.unconsumed_tail
                if piece:
                    yield piece
                elif not packed and not member.eof and not (packed := self._more(_PIECE)):
                    raise _cut("gzip")
            packed = (member.unused_data or self._more(_PIECE)).lstrip(b"\0")

    def _zstd(self) -> Iterator[bytes]:
        # Only files that need it load it.
        import zstandard

        packed = self._more(_ZSTD_PIECE)
        decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        while packed:
            frame = decompressor.decompressobj()
            while not frame.eof:
                try:
                    piece = frame.decompress(packed)
                except zstandard.ZstdError:
                    raise _damaged("zstd") from None
                if piece:
                    yield piece
                if not frame.eof and not (packed := self._more(_ZSTD_PIECE)):
                    raise _cut("zstd")
            packed = frame.unused_data or self._more(_ZSTD_PIECE)

    def _more(self, most: int) -> bytes:
        """The file's next bytes."""
        piece = self._ahead[:most]
        self._ahead = self._ahead[most:]
        piece = piece or self._raw.read(most) or b""
        self.read += len(piece)
        return piece

    def _too_much(self) -> Broken | None:
        limits, reason = self._limits, Reason.TOO_MUCH_DECOMPRESSED
        if self.given > limits.decompressed:
            detail = f"the file unpacks to more than {limits.decompressed:,} bytes"
            return Broken(reason, detail)
        if self.given > limits.ratio_floor and self.given > limits.ratio * self.read:
            return Broken(reason, f"the file unpacks to more than {limits.ratio:,} times its size")
        return None


class _Gunzip(Protocol):
    """What `zlib.decompressobj` gives, whose type has no public name."""

    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...
    def copy(self) -> Self: ...


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _broken(error: Broken) -> Iterator[bytes]:
    """What is left of content that ends here."""
    raise error
    yield b""


def _until_damage(member: _Gunzip, packed: bytes) -> Iterator[bytes]:
    """What can be unpacked before an error, which zlib raises in place of all that it was asked
    for: less and less is asked for."""
    most = _PIECE // 2
    while most:
        before = member.copy()
        try:
            piece = member.decompress(packed, most)
        except zlib.error:
            member, most = before, most // 2
            continue
        packed = member.unconsumed_tail
        if not piece:
            return
        yield piece


def _damaged(kind: str) -> Broken:
    return Broken(Reason.DAMAGED_COMPRESSION, f"from here on the {kind} data are damaged")


def _cut(kind: str) -> Broken:
    return Broken(Reason.DAMAGED_COMPRESSION, f"the {kind} data end in their middle")
