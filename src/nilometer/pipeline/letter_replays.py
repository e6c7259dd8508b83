"""Replays of many dead letters at once, under a note that tells which of them belong together."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, func, select

from nilometer.database.engine import Database
from nilometer.database.fence import rows_of_project
from nilometer.errors import InvalidInput, NotFound
from nilometer.log.port import Log
from nilometer.pipeline.dead_letters import DeadLetterRow, DeadLetters, State


class LetterReplays:
    """Puts dead letters of a project back into the log. Blocks; safe between threads.

    Every method raises DatabaseUnavailable.
    """

    def __init__(self, database: Database, log: Log) -> None:
        self._database = database
        self._letters = DeadLetters(database)
        self._log = log

    def count(self, project_id: int, reason: str | None = None) -> int:
        """How many are open, of this reason or of any."""
        return self._count(project_id, *_open(project_id, reason))

    def replay(
        self, project_id: int, *, reason: str | None, most: int, actor: str, note: str
    ) -> dict[str, Any]:
        """Replay open ones, oldest first, until so many have this note.

        Called again with the same note it goes on where it was stopped. Tells `replayed` (all with
        the note), `refused` (which no reader can read, so they stay open) and `open` (how many of
        the reason are left). Raises LogUnavailable; what was replayed by then is marked.
        """
        noted = (
            DeadLetterRow.project_id == project_id,
            DeadLetterRow.state == State.REPLAYED,
            DeadLetterRow.note == note,
        )
        refused = 0
        for letter_id in self._oldest(project_id, reason, most - self._count(project_id, *noted)):
            try:
                self._letters.replay(project_id, letter_id, actor=actor, log=self._log, note=note)
            except (InvalidInput, NotFound):  # unreadable, or decided by somebody meanwhile
                refused += 1
        return {
            "replayed": self._count(project_id, *noted),
            "refused": refused,
            "open": self.count(project_id, reason),
        }

    def _oldest(self, project_id: int, reason: str | None, most: int) -> list[str]:
        query = select(DeadLetterRow.id).where(*_open(project_id, reason))
        order = (DeadLetterRow.created_at, DeadLetterRow.id)
        with self._database.read(rows_of_project(project_id)) as session:
            return list(session.scalars(query.order_by(*order).limit(max(0, most))))

    def _count(self, project_id: int, *conditions: ColumnElement[bool]) -> int:
        query = select(func.count()).select_from(DeadLetterRow).where(*conditions)
        with self._database.read(rows_of_project(project_id)) as session:
            return session.scalar(query) or 0


def _open(project_id: int, reason: str | None) -> tuple[ColumnElement[bool], ...]:
    conditions = (DeadLetterRow.project_id == project_id, DeadLetterRow.state == State.OPEN)
    return conditions if reason is None else (*conditions, DeadLetterRow.reason == reason)
