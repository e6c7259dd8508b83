"""The store as a whole."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from nilometer.domain import clock
from nilometer.importers.store.columns import Row
from nilometer.importers.store.connection import connect, transaction, translated
from nilometer.importers.store.letters import DeadLetters, NewLetter
from nilometer.importers.store.schema import INSERT, KNOWN, UPDATE
from nilometer.importers.store.tellings import merged


@dataclass(slots=True)
class Counts:
    """What became of records: each is one of the first three, or `rejected`. An `updated` call was
    known, and more is known of it now; of a `duplicate` nothing new was."""

    inserted: int = 0
    updated: int = 0
    duplicate: int = 0
    rejected: int = 0

    @property
    def records(self) -> int:
        """All of them."""
        return self.inserted + self.updated + self.duplicate + self.rejected

    def add(self, other: Counts) -> None:
        """Count others too."""
        self.inserted += other.inserted
        self.updated += other.updated
        self.duplicate += other.duplicate
        self.rejected += other.rejected


class TraceStore:
    """Calls, checkpoints and dead letters in one SQLite file. Of one thread; other processes may
    use the same file at the same time.

        with TraceStore("traces.db") as store:
            with store.run() as run:
                counts = run.keep(rows)

    Every method may raise Unavailable (the disk, or a writer that holds the file for a minute) and
    InvalidInput (a damaged file).
    """

    def __init__(self, path: Path | str, *, create: bool = True) -> None:
        self.path = Path(path)
        self.database = connect(self.path, create=create)
        self.letters = DeadLetters(self.database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self.database.close()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All of the block or nothing of it; SQLite's errors as Nilometer's."""
        with translated(self.path), transaction(self.database):
            yield

    @contextmanager
    def run(self, *, reprices: bool = False) -> Generator[Run]:
        """One ingestion: what it inserts and updates is known by it. With `reprices` its prices
        stand in place of those that calls have; otherwise only where they have none."""
        with self.transaction():
            started = clock.now().isoformat()
            row = self.database.execute(
                "INSERT INTO runs (started_at) VALUES (?) RETURNING id", (started,)
            ).fetchone()
        run = Run(self, int(row[0]), reprices=reprices)
        try:
            yield run
        finally:
            run.end()

    def checkpoint(self, source: str) -> str | None:
        """How far a source was read, as `Run.keep` was told; None of one that is new."""
        with translated(self.path):
            row = self.database.execute(
                "SELECT document FROM checkpoints WHERE source = ?", (source,)
            ).fetchone()
        return None if row is None else str(row[0])


class Run:
    """One ingestion into a store."""

    def __init__(self, store: TraceStore, number: int, *, reprices: bool = False) -> None:
        self.id = number
        self._reprices = reprices
        self.counts = Counts()
        self.store = store
        self._database = store.database

    def keep(
        self,
        rows: Sequence[Row],
        letters: Sequence[NewLetter] = (),
        checkpoint: tuple[str, str] | None = None,
        answered: Sequence[int] = (),
    ) -> Counts:
        """Keep calls, dead letters and how far their source was read (its name, and a document),
        in one transaction, which deletes the letters that are `answered`, by id: all is durable
        when this returns, or nothing is there."""
        with self.store.transaction():
            counts = self._upsert(rows)
            self.store.letters.add(letters)
            counts.rejected = len(letters)
            if checkpoint is not None:
                self._advance(*checkpoint)
            self.store.letters.remove(answered)
        self.counts.add(counts)
        return counts

    def end(self) -> None:
        """Write down what came of it."""
        counts = self.counts
        with self.store.transaction():
            self._database.execute(
                "UPDATE runs SET ended_at = ?, inserted = ?, updated = ?, duplicate = ?,"
                " rejected = ? WHERE id = ?",
                (
                    *(clock.now().isoformat(), counts.inserted, counts.updated),
                    *(counts.duplicate, counts.rejected, self.id),
                ),
            )

    def _upsert(self, rows: Sequence[Row]) -> Counts:
        if not rows:
            return Counts()
        first, again = _each_once(rows)
        before, number = self._last_id(), (self.id,)
        self._database.executemany(INSERT, [row + number for row in first.values()])
        inserted = self._last_id() - before
        updated = 0
        if inserted < len(rows):
            updated = self._join(first, again, before)
        return Counts(inserted, updated, len(rows) - inserted - updated)

    def _join(self, first: dict[str, Row], again: Sequence[Row], before: int) -> int:
        """Put what is told of calls that are known to what was: how often that was new."""
        known: dict[str, Row] = {}
        waiting: list[Row] = []
        for key, row in first.items():
            number, *values = self._database.execute(KNOWN, (key,)).fetchone()
            known[key] = tuple(values)
            if number <= before:
                waiting.append(row)
        changed: set[str] = set()
        updated = 0
        for row in (*waiting, *again):
            key = str(row[0])
            joined = merged(known[key], row, reprices=self._reprices)
            if joined != known[key]:
                known[key] = joined
                changed.add(key)
                updated += 1
        self._database.executemany(UPDATE, [(*known[key], self.id, key) for key in sorted(changed)])
        return updated

    def _last_id(self) -> int:
        return self._database.execute("SELECT coalesce(max(id), 0) FROM sessions").fetchone()[0]

    def _advance(self, source: str, document: str) -> None:
        self._database.execute(
            "INSERT INTO checkpoints VALUES (?, ?, ?) ON CONFLICT (source) DO UPDATE"
            " SET document = excluded.document, updated_at = excluded.updated_at",
            (source, document, clock.now().isoformat()),
        )


def _each_once(rows: Sequence[Row]) -> tuple[dict[str, Row], list[Row]]:
    """The first row of each call, by its key; and those that tell of it again."""
    first: dict[str, Row] = {}
    again: list[Row] = []
    for row in rows:
        key = str(row[0])
        if key in first:
            again.append(row)
        else:
            first[key] = row
    return first, again
