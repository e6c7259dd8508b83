"""Dead letters: records that could not be read, whole, with why and from where."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nilometer.domain import clock
from nilometer.errors import NotFound

_FIELDS = (
    *("id", "reason", "detail", "source", "source_hash", "line", "byte_offset"),
    *("raw", "raw_bytes", "first_seen", "attempts"),
)
_SELECT = f"SELECT {', '.join(_FIELDS)} FROM dead_letters"  # noqa: S608  (our own names)
_INSERT = """
INSERT INTO dead_letters
  (reason, detail, source, source_hash, line, byte_offset, raw, raw_bytes,
   first_seen)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (source_hash, byte_offset, source) DO NOTHING"""
_CUT_SHORT = """
SELECT source, id, byte_offset, raw_bytes, source_hash FROM dead_letters
WHERE reason = 'cut_short' ORDER BY id"""
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLetter:
    """A record that was rejected. `source` is where its file is, and `source_hash` is SHA-256
    of all of the record, in hex. `line` counts from 1, `offset` is in bytes of the text,
    decompressed. `raw` is the record, or its beginning where it is `raw_bytes` long."""

    reason: str
    detail: str
    source: str
    source_hash: str
    line: int | None
    offset: int
    raw: bytes
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it is kept."""

    id: int
    reason: str
    detail: str
    source: str
    source_hash: str
    line: int | None
    offset: int
    raw: bytes
    raw_bytes: int
    first_seen: str
    attempts: int

    @property
    def whole(self) -> bool:
        """Whether all of the record was kept: a part cannot be replayed."""
        return len(self.raw) == self.raw_bytes


class DeadLetters:
    """The letters of a database."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def add(self, letters: Sequence[NewLetter]) -> int:
        """Keep them; how many are new. The same record at the same place of the same file is the
        same letter. Part of the caller's transaction."""
        if not letters:
            return 0
        seen = clock.now().isoformat()
        rows = ((*_place(each), seen) for each in letters)
        return self._database.executemany(_INSERT, rows).rowcount

    def count(self) -> dict[str, int]:
        """How many there are, by reason."""
        rows = self._database.execute(
            "SELECT reason, count(*) FROM dead_letters GROUP BY reason ORDER BY reason"
        )
        return dict(rows.fetchall())

    def list(
        self, *, reason: str | None = None, source: str | None = None, limit: int | None = None
    ) -> Iterator[Letter]:
        """In the order in which they came; a page at a time, so that they may be deleted while
        they are read."""
        last, left = 0, limit
        while left is None or left > 0:
            most = _PAGE if left is None else min(_PAGE, left)
            found = self._database.execute(
                f"{_SELECT} WHERE id > ? AND (? IS NULL OR reason = ?)"
                " AND (? IS NULL OR source = ?) ORDER BY id LIMIT ?",
                (last, reason, reason, source, source, most),
            ).fetchall()
            for row in found:
                yield Letter(*row)
            if len(found) < most:
                return
            last = found[-1][0]
            left = None if left is None else left - len(found)

    def get(self, letter_id: int) -> Letter:
        """One letter. Raises NotFound."""
        row = self._database.execute(f"{_SELECT} WHERE id = ?", (letter_id,)).fetchone()
        if row is None:
            raise NotFound(f"there is no dead letter {letter_id}")
        return Letter(*row)

    def cut_short(self) -> Mapping[str, Sequence[tuple[int, int, int, str]]]:
        """By source, of each record that it ended inside: the letter's id, and the record's offset,
        bytes and hash."""
        found: dict[str, list[tuple[int, int, int, str]]] = {}
        for source, *place in self._database.execute(_CUT_SHORT):
            letter_id, offset, size, source_hash = place
            found.setdefault(source, []).append((letter_id, offset, size, source_hash))
        return found

    def remove(self, ids: Iterable[int]) -> int:
        """Delete them; how many there were."""
        return self._database.executemany(
            "DELETE FROM dead_letters WHERE id = ?", ((each,) for each in ids)
        ).rowcount

    def tried_again(self, letter_id: int, reason: str, detail: str) -> None:
        """A replay failed, and why."""
        self._database.execute(
            "UPDATE dead_letters SET attempts = attempts + 1, reason = ?, detail = ? WHERE id = ?",
            (reason, detail, letter_id),
        )

    def purge(self, *, reason: str | None = None, before: datetime | None = None) -> int:
        """Delete those of a reason and those first seen before a moment, by default all; how many
        there were."""
        moment = None if before is None else before.isoformat()
        return self._database.execute(
            "DELETE FROM dead_letters WHERE (? IS NULL OR reason = ?)"
            " AND (? IS NULL OR first_seen < ?)",
            (reason, reason, moment, moment),
        ).rowcount


def _place(letter: NewLetter) -> tuple[str | int | bytes | None, ...]:
    return (
        *(letter.reason, letter.detail, letter.source, letter.source_hash),
        *(letter.line, letter.offset, letter.raw, letter.raw_bytes),
    )
