"""Files of results, one a line: handed on as they are, to be read in the background.

What a batch cost stands nowhere else, and one file may have more results than the queue has room
for. So whoever fetches it waits, each in its own way, until the writer has come along; but not for
a writer that does not move.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue

from nilometer.integrations.call import Call, Lines
from nilometer.sdk.observation import Observation, Observed, Seen, size_of

_BLOCK = 100
_BLOCK_BYTES = 256 * 1024
_MOST = 5000
"""Results on their way to the writer at a time, if that is no more than half of what has room."""
_MOST_BYTES = 16 * 1024 * 1024
_LONG = 256 * 1024
"""Bytes of a line that is read at once: what it says of usage is far smaller."""
_LONGEST = 16 * 1024 * 1024
"""Bytes of a line that comes in pieces. A longer one is passed over."""
_PATIENCE = 5.0
_PAUSE = 0.005
_BYTES = 300
"""What a result keeps in memory beside its line, about."""


class Results:
    """The results of one file. What `take` gives are seconds to wait, each before the next is asked
    for; nothing here waits by itself, or raises."""

    def __init__(self, call: Call, lines: Lines) -> None:
        self._call = call
        self._lines = lines
        self._begun = bytearray()
        """A line whose end has not come yet."""
        self._passing = False
        """Whether that one is too long."""
        self._most = min(_MOST, call.tracker.room // 2)
        self._block = max(min(_BLOCK, self._most // 4), 1)
        self._beside = _BYTES + size_of(call.scopes.metadata)
        # Of all queues this is the one that a finalizer may put into, wherever it runs.
        self._gone: SimpleQueue[tuple[int, int]] = SimpleQueue()
        self._away = self._away_bytes = 0
        self._patient = True

    def take(self, data: bytes) -> Iterator[float]:
        """Some bytes of the file, as they came."""
        for block in self._blocks(data):
            yield from self._room()
            self._hand_on(block)

    def end(self) -> None:
        """The file is over, or was left. Its last line may be whole without an end."""
        line = bytes(self._begun).strip()
        self._begun.clear()
        if self._is_result(line) and _is_json(line):
            self._hand_on([line])

    def _blocks(self, data: bytes) -> Iterator[list[bytes]]:
        """Results that go together; now and then none, of many lines that are none."""
        block: list[bytes] = []
        size = 0
        for line in self._ended(data):
            size += len(line)
            if self._is_result(line):
                block.append(line)
            if len(block) == self._block or size > _BLOCK_BYTES:
                yield block
                block, size = [], 0
        yield block

    def _ended(self, data: bytes) -> Iterator[bytes]:
        """The lines that end in these bytes. Each byte is looked at once."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line, start = data[start:end], end + 1
            if self._begun:
                line = bytes(self._begun) + line
                self._begun.clear()
            if not self._passing:
                yield line.strip()
            self._passing = False
        if self._passing or len(self._begun) + len(data) - start > _LONGEST:
            self._passing = True
            self._begun.clear()
        else:
            self._begun += data[start:]

    def _is_result(self, line: bytes) -> bool:
        return line.startswith(b"{") and self._lines.has(line)

    def _room(self) -> Iterator[float]:
        """Gives others their turn, and waits for room while there is hope for it."""
        yield 0.0
        deadline = time.monotonic() + _PATIENCE
        while self._patient and self._is_full():
            self._patient = time.monotonic() < deadline
            yield _PAUSE

    def _is_full(self) -> bool:
        while not self._gone.empty():
            count, size = self._gone.get()
            self._away -= count
            self._away_bytes -= size
        return self._away > 0 and (self._away >= self._most or self._away_bytes >= _MOST_BYTES)

    def _hand_on(self, lines: Sequence[bytes]) -> None:
        if not lines:
            return
        count, size = len(lines), sum(map(len, lines)) + len(lines) * self._beside
        self._away += count
        self._away_bytes += size
        block = _Block(self._call, self._lines, partial(self._gone.put, (count, size)))
        for line in lines:
            self._call.tracker.take(_observed(_Result(line, block)))


class _Block:
    """Results that were handed on together. It tells when none of them is held any more."""

    __slots__ = ("_gone", "call", "ended_at", "lines")

    def __init__(self, call: Call, lines: Lines, gone: Callable[[], None]) -> None:
        self._gone = gone
        self.call = call
        self.lines = lines
        self.ended_at = time.time()

    def __del__(self) -> None:
        self._gone()


class _Result:
    """One line, as the delivery takes it."""

    __slots__ = ("_block", "ended_at", "line", "scopes", "size")

    def __init__(self, line: bytes, block: _Block) -> None:
        self._block = block
        self.line = line
        self.scopes = block.call.scopes
        self.ended_at = block.ended_at
        self.size = _BYTES + len(line)

    @property
    def seen(self) -> Seen:
        """What it says. Raises ValueError for a line that is no JSON, and anything for one that is
        no result."""
        return self._block.lines.read(self._block.call, json.loads(self.line))


def _observed(result: _Result) -> Observed:
    if len(result.line) <= _LONG:
        return result
    try:
        return Observation(result.seen, result.scopes, result.ended_at)
    except Exception:  # noqa: BLE001  (the writer finds, and counts, the same)
        return result


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
