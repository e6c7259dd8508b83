"""The actions whose rooms incidents know nothing of: handed over by who starts the process.

Neither is a change of the database alone, so each is made to be repeated: a letter that was
replayed is not open any more, and a report is only read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Json = dict[str, Any]


class LetterReplays(Protocol):
    """Puts dead letters of a project back into the log."""

    def count(self, project_id: int, reason: str | None) -> int:
        """How many are open, of this reason or of any."""
        ...

    def replay(
        self, project_id: int, *, reason: str | None, most: int, actor: str, note: str
    ) -> Json:
        """Replay open ones, oldest first, until so many have this note: those of an earlier
        attempt count. Tells `replayed` (all with the note), `refused` (which no reader can read)
        and `open` (left). Raises Unavailable, with what was replayed by then marked."""
        ...


class Reports(Protocol):
    """Makes reports of what was spent."""

    def make(self, project_id: int, *, days: int, group_by: Sequence[str]) -> Json:
        """The report of the last days, today included: JSON, with the same as text under
        `markdown`. Raises InvalidInput and Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Both."""

    letters: LetterReplays
    reports: Reports
