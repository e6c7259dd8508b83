"""Dead letters as files: one a source, JSON lines, for who would rather look at a folder.

The store has the letters; a file is written anew from it, whole, so that it never has one twice.
"""

from __future__ import annotations

import base64
import json
from hashlib import blake2b
from pathlib import Path

from nilometer.importers.parquet import folders
from nilometer.importers.store.letters import Letter
from nilometer.importers.store.store import TraceStore

_STEM_CHARS = 80


def write(store: TraceStore, source: str, folder: Path) -> Path | None:
    """The file of a source's letters; None, and no file, where it has none."""
    name = _name(source)
    letters = store.letters.list(source=source)
    first = next(letters, None)
    with folders.locked(folder, ()) as opened:
        if first is None:
            folders.remove(opened, name)
            return None
        with folders.replacing(opened, name) as file:
            file.write(_line(first))
            file.writelines(map(_line, letters))
    return folder / name


def _name(source: str) -> str:
    """Of what in the source's name is harmless, and a hash, so that no two sources share one."""
    stem = "".join(each if each.isascii() and each.isalnum() else "-" for each in Path(source).stem)
    digest = blake2b(source.encode(errors="surrogateescape"), digest_size=6).hexdigest()
    return f"{stem[:_STEM_CHARS]}-{digest}.deadletter.jsonl"


def _line(letter: Letter) -> bytes:
    """Text where the record is text; otherwise base64."""
    try:
        raw = {"raw": letter.raw.decode()}
    except UnicodeDecodeError:
        raw = {"raw_base64": base64.b64encode(letter.raw).decode()}
    told = {
        "reason": letter.reason,
        "detail": letter.detail,
        "source": letter.source,
        "line": letter.line,
        "byte_offset": letter.offset,
        "source_hash": letter.source_hash,
        "first_seen": letter.first_seen,
        "bytes": letter.raw_bytes,
        **raw,
    }
    return f"{json.dumps(told)}\n".encode()
