"""Where calls go: the store, a server, or nowhere."""

from __future__ import annotations

from collections.abc import Sequence

from nilometer.importers import checkpoint
from nilometer.importers.chunk import Position
from nilometer.importers.ingestion import Done
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
        return checkpoint.resumed(source, self._run.store.checkpoint(_key(source)))

    def keep(self, source: Source, done: Done, letters: Sequence[NewLetter]) -> Counts:
        """As `Run.keep` says, in one transaction."""
        document = checkpoint.checkpoint(source, done.end)
        mark = None if document is None else (_key(source), document)
        return self._run.keep(done.rows.rows, letters, mark)


class NoKeeper:
    """Nowhere: what would be kept is counted as if it were new."""

    wants_calls = False

    def position(self, source: Source) -> Position:  # noqa: ARG002
        """All is read."""
        return Position()

    def keep(self, source: Source, done: Done, letters: Sequence[NewLetter]) -> Counts:  # noqa: ARG002
        """Count."""
        return Counts(inserted=len(done.rows.rows), rejected=len(letters))


def _key(source: Source) -> str:
    """A file by where it is: another of the same name elsewhere is another."""
    return source.name if source.path is None else str(source.path.resolve())
