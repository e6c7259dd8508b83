"""Cutting content into chunks of whole records, in the memory of one record.

A framer is fed pieces of content of any size and gives chunks; a record longer than the bound is
passed as it comes, hashed, and rejected.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256

from nilometer.importers.chunk import Chunk, Framing, Limits, Position
from nilometer.importers.sniffing import (
    MessagePrefix,
    framing,
    message_prefix,
    value_level,
    varint,
)
from nilometer.importers.trace_call import KEPT_BYTES, Reason, Rejected, reject

_LENGTH_BYTES = 4
_LONGEST_VARINT = 10


class Framer(ABC):
    """Makes chunks of the content of one source."""

    framing: Framing

    def __init__(self, source: str, start: Position, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._buffer = bytearray()
        self._at = start
        """Where the buffer begins."""
        self._long: _TooLong | None = None

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


class _TooLong:
    """A record beyond the bound, of which no more is kept than to show it."""

    def __init__(self, start: Position, line: int) -> None:
        self._start = start
        self._line = line
        self._hash = sha256()
        self._kept = b""
        self._size = self._newlines = 0

    def add(self, piece: bytes | bytearray) -> None:
        self._hash.update(piece)
        self._kept += bytes(piece[: max(0, KEPT_BYTES - len(self._kept))])
        self._size += len(piece)
        self._newlines += piece.count(b"\n")

    def end(self) -> Position:
        return Position(self._start.offset + self._size, self._start.lines + self._newlines)

    def rejected(self, bound: int) -> Rejected:
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
        self._long = _TooLong(self._at, self._at.lines + 1)
        self._long.add(self._buffer)
        self._long.add(rest)
        self._buffer.clear()

    def _pass(self, long: _TooLong, piece: bytes) -> bytes | None:
        """What of a piece follows the long line; None while that goes on."""
        newline = piece.find(b"\n")
        long.add(piece if newline < 0 else piece[:newline])
        return None if newline < 0 else piece[newline + 1 :]

    def _ended(self) -> Chunk:
        chunk = self._reject()
        self._at = Position(self._at.offset + 1, self._at.lines + 1)  # its newline
        return chunk


_OUTSIDE = re.compile(rb'"[^"\\]*"|["{}\[\]]')
_INSIDE = re.compile(rb'["\\]')


class ValueFramer(Framer):
    """JSON values of any layout: what stands at a depth of `level` open brackets.

    What stands between them and is no value is a record too, so that it is explained.
    """

    framing: Framing = "values"

    def __init__(self, source: str, start: Position, limits: Limits, level: int) -> None:
        super().__init__(source, start, limits)
        self._level = level
        self._depth = level if start.offset else 0
        self._lines = start.lines  # before the buffer
        self._scanned = self._gap = 0
        self._in_text = False
        self._begun: int | None = None
        self._bounds: list[tuple[int, int, int]] = []
        self._long_end: int | None = None
        self._over: list[Rejected] = []
        """Records that are too long by a little: they ended in the piece that made them so."""

    def feed(self, piece: bytes) -> Iterator[Chunk]:
        """As `Framer`."""
        self._buffer += piece
        self._scan()
        if self._long_end is not None:
            yield self._long_ended(self._long_end)
        if self._begun is not None and len(self._buffer) - self._begun > self._limits.line:
            yield from self._cut()
            self._long = _TooLong(self._at, self._lines + 1)
        if self._long is not None:
            self._long.add(self._buffer[: self._scanned])
            self._drop(self._scanned)
            self._begun = 0
        elif self._scanned >= self._limits.chunk:
            yield from self._cut()

    def finish(self) -> Iterator[Chunk]:
        """As `Framer`."""
        if self._long is not None:
            self._long.add(self._buffer)
            yield self._reject()
        elif self._buffer:
            self._scanned = len(self._buffer)
            yield from self._cut()
            if self._buffer:
                raw = bytes(self._buffer)
                line, offset = self._lines + 1, self._at.offset
                detail = "the source ends inside the record"
                cut = reject(Reason.CUT_SHORT, detail, raw, line, offset)
                yield self._chunk(b"", self._at, rejected=(cut,))

    def _scan(self) -> None:
        while self._scanned < len(self._buffer):
            pattern = _INSIDE if self._in_text else _OUTSIDE
            found = pattern.search(self._buffer, self._scanned)
            if found is None:
                self._scanned = len(self._buffer)
            elif found[0] == b"\\":
                if found.end() == len(self._buffer):
                    return  # what it escapes is yet to come
                self._scanned = found.end() + 1
            else:
                self._scanned = found.end()
                self._take(found[0], found.start())

    def _take(self, token: bytes, start: int) -> None:
        if token == b'"':
            self._in_text = not self._in_text
        elif token in (b"{", b"["):
            if self._depth == self._level and self._begun is None:
                self._add_gap(start)
                self._begun = start
            self._depth += 1
        elif token in (b"}", b"]"):
            self._depth = max(0, self._depth - 1)
            if self._level == 2 and self._depth < 2:
                self._level = _NONE  # the list has ended; what follows it is about it
            if self._depth == self._level and self._begun is not None:
                self._end_record(self._begun)

    def _end_record(self, begun: int) -> None:
        if self._long is None or self._long_end is not None:
            if self._scanned - begun > self._limits.line:
                self._add_long(begun)
            else:
                self._bounds.append((begun, self._scanned, self._line(begun)))
        else:
            self._long_end = self._scanned
        self._begun, self._gap = None, self._scanned

    def _add_long(self, begun: int) -> None:
        offset = self._at.offset + begun
        long = _TooLong(Position(offset, 0), self._line(begun))
        long.add(self._buffer[begun : self._scanned])
        self._over.append(long.rejected(self._limits.line))

    def _add_gap(self, until: int) -> None:
        """What stands before a record and is none of it."""
        gap = self._buffer[self._gap : until]
        if self._level in (0, 1) and gap.strip(_BETWEEN):
            start = self._gap + len(gap) - len(gap.lstrip(_BETWEEN))
            stop = self._gap + len(gap.rstrip(_BETWEEN))
            self._bounds.append((start, stop, self._line(start)))
        self._gap = until

    def _line(self, at: int) -> int:
        return self._lines + self._buffer.count(b"\n", 0, at) + 1

    def _cut(self) -> Iterator[Chunk]:
        """A chunk of the records that are whole, and the buffer from the one that is not."""
        if self._begun is None:
            self._add_gap(self._scanned)
        end = self._scanned if self._begun is None else self._begun
        data, bounds = bytes(self._buffer[:end]), tuple(self._bounds)
        over = tuple(self._over)
        self._bounds, self._over = [], []
        position = self._after(data)
        self._drop(end)
        if bounds or over:
            yield self._chunk(data, position, bounds, over)
        self._at = position

    def _long_ended(self, end: int) -> Chunk:
        long, self._long_end = self._long, None
        if long is not None:
            long.add(self._buffer[:end])
        self._drop(end)
        return self._reject()

    def _drop(self, count: int) -> None:
        """Forget so much of the buffer; the records behind it move."""
        self._lines += self._buffer.count(b"\n", 0, count)
        self._buffer = self._buffer[count:]
        self._scanned -= count
        self._gap = max(0, self._gap - count)
        self._begun = None if self._begun is None else self._begun - count
        self._bounds = [(start - count, stop - count, line) for start, stop, line in self._bounds]


_NONE = -1
_BETWEEN = b" \t\r\n,[]\xef\xbb\xbf"


class MessageFramer(Framer):
    """Protobuf messages: each with its length before it, or one that is all of the content. In
    positions, messages take the lines' place."""

    framing: Framing = "messages"

    def __init__(self, source: str, start: Position, limits: Limits, prefix: MessagePrefix) -> None:
        super().__init__(source, start, limits)
        self._prefix: MessagePrefix = prefix
        self._rest = 0
        """Of a message that is too long: bytes that are yet to come."""

    def feed(self, piece: bytes) -> Iterator[Chunk]:
        """As `Framer`."""
        if self._long is not None and self._prefix:
            passed = piece[: self._rest]
            self._long.add(passed)
            self._rest -= len(passed)
            piece = piece[len(passed) :]
            if self._rest:
                return
            yield self._passed()
        elif self._long is not None:
            self._long.add(piece)
            return
        self._buffer += piece
        yield from self._whole() if self._prefix else self._single()

    def finish(self) -> Iterator[Chunk]:
        """As `Framer`."""
        if self._long is not None:
            yield self._passed()
        elif self._buffer and not self._prefix:
            data = bytes(self._buffer)
            end = Position(self._at.offset + len(data), self._at.lines + 1)
            yield self._chunk(data, end, ((0, len(data), end.lines),))
        elif self._buffer:
            line, offset = self._at.lines + 1, self._at.offset
            detail = "the source ends inside the message"
            cut = reject(Reason.CUT_SHORT, detail, bytes(self._buffer), line, offset)
            yield self._chunk(b"", self._at, rejected=(cut,))

    def _single(self) -> Iterator[Chunk]:
        if len(self._buffer) > self._limits.line:
            self._long = _TooLong(self._at, self._at.lines + 1)
            self._long.add(self._buffer)
            self._buffer.clear()
        yield from ()

    def _whole(self) -> Iterator[Chunk]:
        """The messages that are whole, and the start of one that is too long."""
        bounds: list[tuple[int, int, int]] = []
        at, number = 0, self._at.lines
        while (found := self._length(at)) is not None:
            length, begin = found
            if length > self._limits.line or begin + length > len(self._buffer):
                break
            number += 1
            bounds.append((begin, begin + length, number))
            at = begin + length
        if bounds:
            data = bytes(self._buffer[:at])
            self._buffer = self._buffer[at:]
            yield self._chunk(data, Position(self._at.offset + at, number), tuple(bounds))
        found = self._length(0)
        if found is None or found[0] <= self._limits.line:
            return
        size = sum(found)
        self._long = _TooLong(self._at, number + 1)
        self._long.add(self._buffer[:size])
        self._rest = max(0, size - len(self._buffer))
        self._buffer = self._buffer[size:]
        if not self._rest:
            yield self._passed()
            yield from self._whole()

    def _length(self, at: int) -> tuple[int, int] | None:
        """The length of the message at a place, and where it begins; None while that is cut."""
        if self._prefix == "fixed":
            begin = at + _LENGTH_BYTES
            whole = begin <= len(self._buffer)
            return (int.from_bytes(self._buffer[at:begin], "big"), begin) if whole else None
        length, begin = varint(bytes(self._buffer[at : at + _LONGEST_VARINT]), 0)
        return (length, at + begin) if begin else None

    def _passed(self) -> Chunk:
        number = self._at.lines + 1
        chunk = self._reject()
        self._at = Position(chunk.end.offset, number)
        return replace(chunk, end=self._at)


def framer(source: str, head: bytes, start: Position, limits: Limits) -> Framer:
    """The framer of content that begins with `head`."""
    kind = framing(head)
    if kind == "messages":
        return MessageFramer(source, start, limits, message_prefix(head))
    if kind == "values":
        return ValueFramer(source, start, limits, value_level(head))
    return LineFramer(source, start, limits)
