"""Where calls go: the store, a server, or nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from nilometer.importers import checkpoint
from nilometer.importers.chunk import Position
from nilometer.importers.ingestion import Done, Keeper, Rest
from nilometer.importers.reading import Source
from nilometer.importers.store.letters import NewLetter
from nilometer.importers.store.store import Counts, Run


class StoreKeeper:
    """Into a SQLite file."""

    wants_calls = False

    def __init__(self, run: Run) -> None:
        self._run = run
        self._half_written = HalfWritten(run)

    def position(self, source: Source) -> Position:
        """Behind what was kept of the same file."""
        return resumed(self._run, source)

    def keep(self, source: Source, done: Done, letters: Sequence[NewLetter]) -> Counts:
        """As `Run.keep` says, in one transaction."""
        answered = self._half_written.answered(source, done, letters)
        return self._run.keep(done.rows.rows, letters, mark(source, done.end), answered)

    def rest(self, source: Source) -> Rest:  # noqa: ARG002
        """Nothing: what grows is updated."""
        return Rest()


class HalfWritten:
    """Letters of last lines that were being written when they were read, by an earlier run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def answered(self, source: Source, done: Done, letters: Sequence[NewLetter]) -> list[int]:
        """Those whose line is whole now, or longer."""
        found = self._cut_short.get(source.key, ())
        if not found or source.path is None or not source.path.is_file():
            return []
        again = {(letter.offset, letter.source_hash) for letter in letters}
        return [
            letter_id
            for letter_id, offset, size, source_hash in found
            if offset in done.looked_at
            and (offset, source_hash) not in again
            and _still_there(source.path, offset, size, source_hash)
        ]

    @cached_property
    def _cut_short(self) -> Mapping[str, Sequence[tuple[int, int, int, str]]]:
        return self._run.store.letters.cut_short()


class NoKeeper:
    """Nowhere: what would be kept is counted as if it were new."""

    wants_calls = False

    def position(self, source: Source) -> Position:  # noqa: ARG002
        """All is read."""
        return Position()

    def keep(self, source: Source, done: Done, letters: Sequence[NewLetter]) -> Counts:  # noqa: ARG002
        """Count."""
        return Counts(inserted=len(done.rows.rows), rejected=len(letters))

    def rest(self, source: Source) -> Rest:  # noqa: ARG002
        """Nothing."""
        return Rest()


class Anew:
    """Another keeper, for files that are read from their start though they were read before."""

    def __init__(self, keeper: Keeper) -> None:
        self.wants_calls = keeper.wants_calls
        self.keep = keeper.keep
        self.rest = keeper.rest

    def position(self, source: Source) -> Position:  # noqa: ARG002
        """All is read."""
        return Position()


def resumed(run: Run, source: Source) -> Position:
    """Where to go on with a source, by what the run's store knows of it."""
    return checkpoint.resumed(source, run.store.checkpoint(source.key))


def mark(source: Source, end: Position) -> tuple[str, str] | None:
    """What `Run.keep` is told of how far a source was read."""
    document = checkpoint.checkpoint(source, end)
    return None if document is None else (source.key, document)


def _still_there(path: Path, offset: int, size: int, source_hash: str) -> bool:
    """Whether a file has these bytes."""
    with path.open("rb") as file:
        file.seek(offset)
        return sha256(file.read(size)).hexdigest() == source_hash
