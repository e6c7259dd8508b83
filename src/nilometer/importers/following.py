"""A file that is still written, read as it grows: over its rotation and its truncation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from nilometer.errors import InvalidInput
from nilometer.importers import sniffing
from nilometer.importers.chunk import Chunk, Limits, Position
from nilometer.importers.framing import LineFramer
from nilometer.importers.reading import Source

_LOOKED_AT = 4096


def follow(
    source: Source,
    wait: Callable[[], bool],
    start: Position | None = None,
    limits: Limits | None = None,
) -> Iterator[Chunk]:
    """The lines of a file, from a position and without end.

    `wait` is called when all has been read: it returns when it is time to look again, True to go
    on, False to end. A line is read when its end is there. A file that was renamed or deleted is
    read to its end, then the one that took its name from its start; one that became shorter, or
    whose first bytes are others, from its start. Raises InvalidInput for what is no plain file.
    """
    path = _plain_file(source)
    limits = limits or Limits()
    file = _File(source.name, path, start or Position(), limits)
    try:
        while True:
            yield from file.more()
            if not wait():
                return
            if file.was_replaced():
                yield from file.more()
                yield from file.rest()
            elif not file.was_rewritten():
                continue
            file.close()
            file = _File(source.name, path, Position(), limits)
    finally:
        file.close()


class _File:
    def __init__(self, name: str, path: Path, start: Position, limits: Limits) -> None:
        self._path, self._limits = path, limits
        self._file: BinaryIO = path.open("rb", buffering=0)
        self._head = self._first(start.offset)
        self._frames = LineFramer(name, start, limits)
        self._offset = self._file.seek(start.offset)

    def more(self) -> Iterator[Chunk]:
        """The lines that have come."""
        while piece := self._file.read(self._limits.chunk):
            self._offset += len(piece)
            for chunk in self._frames.feed(piece):
                yield replace(chunk, read=self._offset)
        if len(self._head) < _LOOKED_AT:
            self._head = self._first(self._offset)

    def rest(self) -> Iterator[Chunk]:
        """A last line that will have no end."""
        yield from self._frames.finish()

    def was_replaced(self) -> bool:
        """Whether another file has the name; not while none has it."""
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def was_rewritten(self) -> bool:
        """Whether the file is shorter than what was read of it, or begins otherwise."""
        size = os.fstat(self._file.fileno()).st_size
        return size < self._offset or self._first(len(self._head)) != self._head

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _first(self, most: int) -> bytes:
        return os.pread(self._file.fileno(), min(most, _LOOKED_AT), 0)


def _plain_file(source: Source) -> Path:
    if source.path is None or not source.path.is_file():
        raise InvalidInput(f"{source.name} is no file that can be followed", code="not_a_file")
    with source.path.open("rb") as file:
        head = file.read(sniffing.HEAD)
    if sniffing.compression(head) or (head and sniffing.framing(head) != "lines"):
        raise InvalidInput(
            f"{source.name} has no lines that could be followed", code="not_followable"
        )
    return source.path
