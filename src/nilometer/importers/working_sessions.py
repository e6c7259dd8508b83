"""Working sessions: a thread may last for weeks, a person works on it in stretches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

IDLE_GAP = 30 * 60 * 1_000_000
"""Microseconds without a call after which a thread's next call begins another working session."""


class WorkingSession(NamedTuple):
    """A stretch of one thread without a long pause: times in microseconds since the epoch."""

    session: str
    number: int
    """From 1 within the thread."""
    started_at: int
    ended_at: int
    """When its last call began."""
    calls: int

    @property
    def id(self) -> str:
        """Names it: the thread, and which stretch of it."""
        return f"{self.session}#{self.number}"


def working_sessions(
    calls: Iterable[tuple[str, int]], gap: int = IDLE_GAP
) -> Iterator[WorkingSession]:
    """The stretches of calls given as (session, started at), sorted so."""
    current: WorkingSession | None = None
    for session, at in calls:
        if current is not None and session == current.session and at - current.ended_at <= gap:
            current = current._replace(ended_at=at, calls=current.calls + 1)
            continue
        if current is not None:
            yield current
        is_next = current is not None and session == current.session
        number = current.number + 1 if current is not None and is_next else 1
        current = WorkingSession(session, number, at, at, 1)
    if current is not None:
        yield current
