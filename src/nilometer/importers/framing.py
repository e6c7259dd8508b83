"""Cutting content into chunks of whole records, in the memory of one record.

A framer is fed pieces of content of any size and gives chunks; a record longer than the bound is
passed as it comes, hashed, and rejected.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256

from nilometer.importers.chunk import Chunk, Framing, Limits, Position
from nilometer.importers.trace_call import KEPT_BYTES, Reason, Rejected


class Framer(ABC):
    """Makes chunks of the content of one source."""

    framing: Framing

    def __init__(self, source: str, start: Position, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._buffer = bytearray()
        self._at = start
        """Where the buffer begins."""
        self._long: TooLong | None = None

    @property
    def position(self) -> Position:
        """Behind the last record that a chunk was made of."""
        return self._at

    def only(self, rejected: Rejected, read: int) -> Chunk:
        """A chunk of nothing but a fault of the source."""
        return replace(self._chunk(b"", self._at, rejected=(rejected,)), read=read)

    @abstractmethod
    def feed(self, piece: bytes) -> Iterator[Chunk]:
        """Chunks of the records that this piece ends."""

    @abstractmethod
    def finish(self) -> Iterator[Chunk]:
        """What is left when the source has ended."""

    def _chunk(
        self,
        data: bytes,
        end: Position,
        bounds: tuple[tuple[int, int, int], ...] = (),
        rejected: tuple[Rejected, ...] = (),
    ) -> Chunk:
        chunk = Chunk(self._source, self.framing, data, self._at, end, bounds, rejected)
        self._at = end
        return chunk

    def _after(self, data: bytes | bytearray) -> Position:
        return Position(self._at.offset + len(data), self._at.lines + data.count(b"\n"))

    def _reject(self) -> Chunk:
        """The chunk of a record that was too long, which has ended."""
        long = self._long
        if long is None:
            raise AssertionError("no record is too long")
        self._long = None
        return self._chunk(b"", long.end(), rejected=(long.rejected(self._limits.line),))


class TooLong:
    """A record beyond the bound, of which no more is kept than to show it."""

    def __init__(self, start: Position, line: int) -> None:
        self._start = start
        self._line = line
        self._hash = sha256()
        self._kept = b""
        self._size = self._newlines = 0

    def add(self, piece: bytes | bytearray) -> None:
        """Take its next bytes."""
        self._hash.update(piece)
        self._kept += bytes(piece[: max(0, KEPT_BYTES - len(self._kept))])
        self._size += len(piece)
        self._newlines += piece.count(b"\n")

    def end(self) -> Position:
        """Where it ends."""
        return Position(self._start.offset + self._size, self._start.lines + self._newlines)

    def rejected(self, bound: int) -> Rejected:
        """What is told of it."""
        return Rejected(
            Reason.LINE_TOO_LONG,
            f"the record has {self._size:,} bytes; at most {bound:,} are read",
            self._line,
            self._start.offset,
            self._kept,
            self._hash.hexdigest(),
            self._size,
        )


class LineFramer(Framer):
    """A record a line."""

    framing: Framing = "lines"

    def feed(self, piece: bytes) -> Iterator[Chunk]:
        """As `Framer`."""
        if self._long is not None:
            rest = self._pass(self._long, piece)
            if rest is None:
                return
            yield self._ended()
            piece = rest
        first = piece.find(b"\n")
        if first >= 0 and len(self._buffer) + first > self._limits.line:
            self._start_long(piece[:first])
            yield self._ended()
            piece = piece[first + 1 :]
        cut = piece.rfind(b"\n") + 1
        if cut:
            data = bytes(self._buffer) + piece[:cut]
            self._buffer = bytearray(piece[cut:])
            yield self._chunk(data, self._after(data))
        else:
            self._buffer += piece
        if len(self._buffer) > self._limits.line:
            self._start_long(b"")

    def finish(self) -> Iterator[Chunk]:
        """As `Framer`. The position stays before a line without an end: it may yet grow."""
        if self._long is not None:
            yield self._reject()
        elif self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            yield self._chunk(data, self._at)

    def _start_long(self, rest: bytes) -> None:
        self._long = TooLong(self._at, self._at.lines + 1)
        self._long.add(self._buffer)
        self._long.add(rest)
        self._buffer.clear()

    def _pass(self, long: TooLong, piece: bytes) -> bytes | None:
        """What of a piece follows the long line; None while that goes on."""
        newline = piece.find(b"\n")
        long.add(piece if newline < 0 else piece[:newline])
        return None if newline < 0 else piece[newline + 1 :]

    def _ended(self) -> Chunk:
        chunk = self._reject()
        self._at = Position(self._at.offset + 1, self._at.lines + 1)  # its newline
        return chunk
