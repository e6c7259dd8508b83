"""Trace files, as chunks of whole records: any size in constant memory, compressed or not."""

from __future__ import annotations

import glob
import io
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

from nilometer.errors import InvalidInput
from nilometer.importers import sniffing
from nilometer.importers.chunk import Chunk, Limits, Position
from nilometer.importers.content import Broken, Content
from nilometer.importers.framing import Framer, LineFramer
from nilometer.importers.message_framing import MessageFramer
from nilometer.importers.trace_call import Rejected, reject
from nilometer.importers.value_framing import ValueFramer

STDIN = "-"
UNREADABLE = "unreadable_file"
"""The code of InvalidInput for a file that is there and cannot be read."""
SUFFIXES = (".jsonl", ".ndjson", ".json", ".log", ".pb", ".binpb")
"""Of the files that are read in a folder, also with one of PACKED behind."""
PACKED = (".gz", ".zst")


@dataclass(frozen=True, slots=True)
class Source:
    """Something to read. `path` is None for standard input; `size` is in bytes as they lie there,
    None where it is not known."""

    name: str
    path: Path | None
    size: int | None = None

    @property
    def key(self) -> str:
        """A file by where it is, as text: another of the same name elsewhere is another."""
        return self.name if self.path is None else shown(self.path.resolve())

    def open(self) -> BinaryIO:
        """The raw bytes, which a read gives as they come. Raises InvalidInput."""
        try:
            if self.path is None:
                return cast("BinaryIO", io.FileIO(sys.stdin.fileno(), closefd=False))
            return cast("BinaryIO", io.FileIO(self.path))
        except OSError as error:
            raise _unreadable(self.name, error) from None


def sources(patterns: Iterable[str]) -> list[Source]:
    """The files that names, patterns (`**` too) and folders mean, each once: in the order given
    and, within one, of their names. `-` is standard input.

    Of a folder they are those with a suffix of SUFFIXES, at any depth. Raises InvalidInput for a
    name or a pattern that means none.
    """
    found: dict[str, Source] = {}
    for pattern in patterns:
        meant = [Source(STDIN, None)] if pattern == STDIN else list(map(_file, _paths(pattern)))
        if not meant:
            raise InvalidInput(f"no file is meant by {pattern}", code="no_such_file")
        for source in meant:
            found.setdefault(source.key, source)
    return list(found.values())


def read_chunks(
    source: Source, start: Position | None = None, limits: Limits | None = None
) -> Iterator[Chunk]:
    """The records of a source from a position, which must be one that a chunk ended with.

    What is damaged, or unpacks to more than is allowed, ends the source with a rejected record that
    says so; the chunks before it hold. Raises InvalidInput for a file that cannot be read.
    """
    start, limits = start or Position(), limits or Limits()
    with source.open() as raw:
        try:
            content = Content(raw, limits)
            yield from _chunks(source.name, content, start, limits)
        except OSError as error:
            raise _unreadable(source.name, error) from None


def _chunks(name: str, content: Content, start: Position, limits: Limits) -> Iterator[Chunk]:
    head, broken = b"", None
    try:
        head = content.head()
    except Broken as error:
        broken = error
    frames = _framer(name, head, start, limits)
    try:
        for piece in () if broken else content.pieces(start.offset):
            yield from _marked(frames.feed(piece), content)
    except Broken as error:
        broken = error
    yield from _marked(frames.finish(), content)
    if broken is not None:
        yield _damage(frames, broken, content)


def _framer(source: str, head: bytes, start: Position, limits: Limits) -> Framer:
    """The framer of content that begins with `head`."""
    kind = sniffing.framing(head)
    if kind == "messages":
        return MessageFramer(source, start, limits, sniffing.message_prefix(head))
    if kind == "values":
        return ValueFramer(source, start, limits, sniffing.value_level(head))
    return LineFramer(source, start, limits)


def _marked(chunks: Iterable[Chunk], content: Content) -> Iterator[Chunk]:
    for chunk in chunks:
        yield replace(chunk, read=content.read)


def _damage(frames: Framer, broken: Broken, content: Content) -> Chunk:
    """The end of a source that has no more: a rejected record without bytes."""
    at = frames.position
    offset = max(content.given, at.offset)
    damage: Rejected = reject(broken.reason, broken.detail, b"", at.lines + 1, offset)
    return frames.only(damage, content.read)


def _paths(pattern: str) -> list[Path]:
    """The files of one name, folder or pattern, in the order of their names."""
    path = Path(pattern).expanduser()
    if path.is_dir():
        return [found for found in sorted(path.rglob("*")) if _is_wanted(found)]
    if path.exists():
        return [path]
    return [
        each
        for name in sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  `**` and `~` as in shells
        if not (each := Path(name)).is_dir()
    ]


def _is_wanted(path: Path) -> bool:
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return name.endswith(SUFFIXES) and path.is_file()


def shown(path: Path) -> str:
    """A path as text, of whatever bytes its name is made."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _file(path: Path) -> Source:
    size = path.stat().st_size if path.is_file() else None
    return Source(shown(path), path, size)


def _unreadable(name: str, error: OSError) -> InvalidInput:
    why = os.strerror(error.errno) if error.errno else str(error)
    return InvalidInput(f"{name} cannot be read: {why}", code=UNREADABLE)
