"""How far a file was read, so that reading can go on there, as long as it is the same file."""

from __future__ import annotations

from hashlib import sha256
from typing import cast

import orjson

from nilometer.importers.chunk import Position
from nilometer.importers.reading import Source

_LOOKED_AT = 4096


def checkpoint(source: Source, position: Position) -> str | None:
    """What says so, as text to be kept under the source's name; None for a source that cannot be
    read twice."""
    if source.path is None or not source.path.is_file():
        return None
    marks = _marks(source, position)
    return orjson.dumps({"offset": position.offset, "lines": position.lines, **marks}).decode()


def resumed(source: Source, document: str | None) -> Position:
    """Where to go on: the checkpoint's position, or the start where the file is another one by now
    (shorter, or with other bytes before the position), or there is no checkpoint."""
    told = _object(document)
    offset, lines = told.get("offset"), told.get("lines")
    if type(offset) is not int or type(lines) is not int or source.path is None:
        return Position()
    position = Position(offset, lines)
    try:
        marks = _marks(source, position)
    except OSError:
        return Position()
    is_same = all(told.get(name) == mark for name, mark in marks.items())
    return position if is_same else Position()


def _object(document: str | None) -> dict[str, object]:
    try:
        told = orjson.loads(document or "")
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, object]", told) if type(told) is dict else {}


def _marks(source: Source, position: Position) -> dict[str, str]:
    """Hashes of the file's first bytes and of those before the position. In a compressed file the
    position is not a place of the file: its first bytes and its size tell it."""
    if source.path is None:
        return {}
    with source.path.open("rb") as file:
        first = file.read(_LOOKED_AT)
        if first.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
            size = source.path.stat().st_size
            return {"head": _hash(first), "size": str(size)}
        head = first[: position.offset]
        file.seek(max(0, position.offset - _LOOKED_AT))
        before = file.read(min(position.offset, _LOOKED_AT))
    return {"head": _hash(head), "before": _hash(before)}


def _hash(data: bytes) -> str:
    return sha256(data).hexdigest()
