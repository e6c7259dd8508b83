"""Where calls go: the store, a server, or nowhere."""

from __future__ import annotations

from collections.abc import Sequence

from nilometer.importers import checkpoint
from nilometer.importers.chunk import Position
from nilometer.importers.ingestion import Done, Keeper
from nilometer.importers.reading import Source
from nilometer.importers.store.letters import NewLetter
from nilometer.importers.store.store import Counts, Run


class StoreKeeper:
    """Into a SQLite file."""

    wants_calls = False

    def __init__(self, run: Run) -> None:
        self._run = run

    def position(self, source: Source) -> Position:
        """Behind what was kept of the same file."""
        return resumed(self._run, source)

    def keep(self, source: Source, done: Done, letters: Sequence[NewLetter]) -> Counts:
        """As `Run.keep` says, in one transaction."""
        return self._run.keep(done.rows.rows, letters, mark(source, done.end))


class NoKeeper:
    """Nowhere: what would be kept is counted as if it were new."""

    wants_calls = False

    def position(self, source: Source) -> Position:  # noqa: ARG002
        """All is read."""
        return Position()

    def keep(self, source: Source, done: Done, letters: Sequence[NewLetter]) -> Counts:  # noqa: ARG002
        """Count."""
        return Counts(inserted=len(done.rows.rows), rejected=len(letters))


class Anew:
    """Another keeper, for files that are read from their start though they were read before."""

    def __init__(self, keeper: Keeper) -> None:
        self.wants_calls = keeper.wants_calls
        self.keep = keeper.keep

    def position(self, source: Source) -> Position:  # noqa: ARG002
        """All is read."""
        return Position()


def resumed(run: Run, source: Source) -> Position:
    """Where to go on with a source, by what the run's store knows of it."""
    return checkpoint.resumed(source, run.store.checkpoint(_key(source)))


def mark(source: Source, end: Position) -> tuple[str, str] | None:
    """What `Run.keep` is told of how far a source was read."""
    document = checkpoint.checkpoint(source, end)
    return None if document is None else (_key(source), document)


def _key(source: Source) -> str:
    """A file by where it is: another of the same name elsewhere is another."""
    return source.name if source.path is None else str(source.path.resolve())
