"""Cutting JSON of any layout into records: lists, listings, and sequences of objects."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nilometer.importers.chunk import Chunk, Framing, Limits, Position
from nilometer.importers.formats import known
from nilometer.importers.framing import Framer, TooLong
from nilometer.importers.trace_call import Reason, Rejected, reject

# A line that begins with a brace may be a record: what stands before it is then bad.
_OUTSIDE = re.compile(rb'"[^"\\\n]*"|\n(?=\{|\Z)|["{}\[\]]')
_INSIDE = re.compile(rb'["\\]|\n(?=\{|\Z)')


class ValueFramer(Framer):
    """JSON values of any layout: what stands at a depth of `level` open brackets.

    What stands between them and is no value is a record too, so that it is explained. A line that
    is a record by itself is one wherever it stands: what has not ended before it is bad and ends
    there, so that nothing that is cut or out of balance takes the rest with it.
    """

    framing: Framing = "values"

    def __init__(self, source: str, start: Position, limits: Limits, level: int) -> None:
        super().__init__(source, start, limits)
        self._level = level
        self._has_lists = level == 1  # one behind another, and what stands between them
        self._is_ending = False
        # Behind a list's record it is all the same whether the list goes on.
        self._depth = level if start.offset and level == _LISTED else 0
        self._lines = start.lines  # before the buffer
        self._scanned = self._gap = 0
        self._counted = self._newlines = 0
        """Of the buffer's first bytes, and how many newlines are in them."""
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
            self._long = TooLong(self._at, self._lines + 1)
        if self._long is not None:
            self._long.add(self._buffer[: self._scanned])
            self._drop(self._scanned)
            self._begun = 0
        elif self._scanned >= self._limits.chunk:
            yield from self._cut()

    def finish(self) -> Iterator[Chunk]:
        """As `Framer`."""
        self._is_ending = True
        yield from self.feed(b"")
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
            elif found[0] == b"\n":
                if not self._take_line(found.start()):
                    return  # its end is yet to come
            elif found[0] == b"\\":
                if found.end() == len(self._buffer):
                    return  # what it escapes is yet to come
                self._scanned = found.end() + (self._buffer[found.end()] != _NEWLINE)
            else:
                self._scanned = found.end()
                self._take(found[0], found.start())

    def _take_line(self, newline: int) -> bool:
        """Begin anew with a line that is a record by itself. False where it is not whole."""
        if self._in_text or self._depth not in (0, self._level):
            end = self._buffer.find(b"\n", newline + 1)
            is_bounded = len(self._buffer) - newline <= self._limits.line
            if end < 0 and is_bounded and not self._is_ending:
                self._scanned = newline
                return False
            line = self._buffer[newline + 1 : end if end >= 0 else None]
            if known.is_record(bytes(line)):
                self._begin_anew(newline)
        self._scanned = newline + 1
        return True

    def _begin_anew(self, at: int) -> None:
        self._scanned, self._depth, self._in_text = at, 0, False
        self._level = min(max(self._level, 0), 1) if self._has_lists else 0
        if self._begun is not None:
            self._end_record(self._begun)

    def _take(self, token: bytes, start: int) -> None:
        if token == b'"':
            self._in_text = not self._in_text
        elif token in (b"{", b"["):
            self._open(token, start)
        elif token in (b"}", b"]"):
            self._depth = max(0, self._depth - 1)
            if self._level == _LISTED and self._depth < _LISTED:
                self._level = _NONE  # the list has ended; what follows it is about it
            if self._level == _NONE and not self._depth:
                self._level, self._gap = 0, self._scanned  # and here the listing has
            if self._depth == self._level and self._begun is not None:
                self._end_record(self._begun)

    def _open(self, bracket: bytes, start: int) -> None:
        if self._has_lists and not self._depth:
            self._level = int(bracket == b"[")  # else it stands by itself
        if self._depth == self._level and self._begun is None:
            self._add_gap(start)
            self._begun = start
        self._depth += 1

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
        long = TooLong(Position(offset, 0), self._line(begun))
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
        """The line of a place. Places come in their order, so that each byte is counted once."""
        self._newlines += self._buffer.count(b"\n", self._counted, at)
        self._counted = at
        return self._lines + self._newlines + 1

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
        self._counted = self._newlines = 0
        self._buffer = self._buffer[count:]
        self._scanned -= count
        self._gap = max(0, self._gap - count)
        self._begun = None if self._begun is None else self._begun - count
        self._bounds = [(start - count, stop - count, line) for start, stop, line in self._bounds]


_NONE = -1
_LISTED = 2
_NEWLINE = 10
_BETWEEN = b" \t\r\n,[]\xef\xbb\xbf"
