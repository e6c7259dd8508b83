"""How much of each project waits to be worked on: over its limit, nothing more is accepted.

Dead letters wait for a person and not for a worker. They have a limit of their own, ten times as
high, for what is kept must have an end; and another sentence, for trying again does not help.

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
from nilometer.workflows.enqueueing import count_dead

_FRESH = timedelta(seconds=1)
_DEAD_FRESH = timedelta(seconds=30)
_DEAD_TO_WAITING = 10
_MOST_KEPT = 10_000
_RETRY_SECONDS = 5

Count = Callable[[Session, int, int], int]
"""`(session, project_id, most)`: how many tasks of a project are not done, counted up to `most`."""


class BacklogFull(Unavailable):
    """The project has too much waiting. Others are served meanwhile."""

    code = "throttled"


class DeadLettersFull(BacklogFull):
    """Too many dead letters of the project wait for a decision."""

    code = "too_many_dead_letters"


@dataclass(slots=True)
class _Known:
    count: int
    counted_at: datetime
    dead: int
    dead_counted_at: datetime


class Backlog:
    """What is known of the projects' backlogs. Safe between threads."""

    def __init__(self, count: Count, *, most: int, dead: Count = count_dead) -> None:
        """`most` tasks of a project may wait; `dead` counts its dead letters as `count` does what
        waits for workers."""
        self._count = count
        self._count_dead = dead
        self._most = most
        self._most_dead = _DEAD_TO_WAITING * most
        self._known: dict[int, _Known] = {}
        self._lock = threading.Lock()

    def check(self, project_id: int, now: datetime) -> None:
        """Raises BacklogFull for a project that was over its limit within the last second."""
        known = self._known.get(project_id)
        if known is not None and now - known.counted_at < _FRESH:
            refusal = self._refusal(known)
            if refusal is not None:
                raise refusal

    def full(
        self, session: Session, project_ids: Collection[int], now: datetime
    ) -> dict[int, BacklogFull]:
        """Those of the projects that are over their limit, with what is to be said to them."""
        refusals: dict[int, BacklogFull] = {}
        for project_id in project_ids:
            refusal = self._refusal(self._counted(session, project_id, now))
            if refusal is not None:
                refusals[project_id] = refusal
        return refusals

    def add(self, project_id: int, accepted: int) -> None:
        """Note what was accepted since."""
        with self._lock:
            known = self._known.get(project_id)
            if known is not None:
                known.count += accepted

    def _counted(self, session: Session, project_id: int, now: datetime) -> _Known:
        known = self._known.get(project_id)
        if known is not None and now - known.counted_at < _FRESH:
            return known
        count = self._count(session, project_id, self._most)
        if known is not None and now - known.dead_counted_at < _DEAD_FRESH:
            dead, dead_at = known.dead, known.dead_counted_at
        else:
            dead, dead_at = self._count_dead(session, project_id, self._most_dead), now
        known = _Known(count, now, dead, dead_at)
        self._keep(project_id, known)
        return known

    def _keep(self, project_id: int, known: _Known) -> None:
        with self._lock:
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            self._known[project_id] = known

    def _refusal(self, known: _Known) -> BacklogFull | None:
        if known.count >= self._most:
            return BacklogFull(
                f"{self._most} tasks of this project's exceptions wait to be worked on; "
                f"try again in {_RETRY_SECONDS} seconds.",
                retry_after=_RETRY_SECONDS,
            )
        if known.dead >= self._most_dead:
            return DeadLettersFull(
                f"{self._most_dead} dead letters of this project's exceptions wait for a decision: "
                "have them replayed or discarded (docs/exceptions.md).",
                retry_after=int(_DEAD_FRESH.total_seconds()),
            )
        return None
