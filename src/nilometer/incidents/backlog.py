"""How much of each project waits to be worked on: over its limit, nothing more is accepted.

Counted once a second and project at most, within a commit that is made anyway; in between, what was
accepted is added. So a limit may be exceeded by what one second accepts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from nilometer.errors import Unavailable

_FRESH = timedelta(seconds=1)
_MOST_KEPT = 10_000
_RETRY_SECONDS = 5

Count = Callable[[Session, int, int], int]
"""`(session, project_id, most)`: how many tasks of a project are not done, counted up to `most`."""


class BacklogFull(Unavailable):
    """The project has too much waiting. Others are served meanwhile."""

    code = "throttled"


@dataclass(slots=True)
class _Known:
    count: int
    counted_at: datetime


class Backlog:
    """What is known of the projects' backlogs. Safe between threads."""

    def __init__(self, count: Count, *, most: int) -> None:
        """`most` tasks of a project may wait."""
        self._count = count
        self._most = most
        self._known: dict[int, _Known] = {}
        self._lock = threading.Lock()

    def check(self, project_id: int, now: datetime) -> None:
        """Raises BacklogFull for a project that was over its limit within the last second."""
        known = self._known.get(project_id)
        if known is not None and now - known.counted_at < _FRESH and known.count >= self._most:
            raise self._refusal()

    def full(
        self, session: Session, project_ids: Collection[int], now: datetime
    ) -> dict[int, BacklogFull]:
        """Those of the projects that are over their limit, with what is to be said to them."""
        refusals: dict[int, BacklogFull] = {}
        for project_id in project_ids:
            known = self._known.get(project_id)
            if known is None or now - known.counted_at >= _FRESH:
                known = _Known(self._count(session, project_id, self._most), now)
                self._keep(project_id, known)
            if known.count >= self._most:
                refusals[project_id] = self._refusal()
        return refusals

    def add(self, project_id: int, accepted: int) -> None:
        """Note what was accepted since."""
        with self._lock:
            known = self._known.get(project_id)
            if known is not None:
                known.count += accepted

    def _keep(self, project_id: int, known: _Known) -> None:
        with self._lock:
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            self._known[project_id] = known

    def _refusal(self) -> BacklogFull:
        return BacklogFull(
            f"{self._most} tasks of this project's exceptions wait to be worked on; "
            f"try again in {_RETRY_SECONDS} seconds.",
            retry_after=_RETRY_SECONDS,
        )
