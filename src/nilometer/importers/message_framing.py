"""Cutting dumps of protobuf into messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nilometer.importers.chunk import Chunk, Framing, Limits, Position
from nilometer.importers.framing import Framer, TooLong
from nilometer.importers.sniffing import MessagePrefix, varint
from nilometer.importers.trace_call import Reason, reject

_LENGTH_BYTES = 4
_LONGEST_VARINT = 10


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
            self._long = TooLong(self._at, self._at.lines + 1)
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
        self._long = TooLong(self._at, number + 1)
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
