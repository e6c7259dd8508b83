"""Keeps the sums of usage by the day (`query.usage_days`) made, so that no question has to wait.

Nothing depends on it: a day that it has not made yet is made when it is asked for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta

from nilometer.domain import clock
from nilometer.errors import NilometerError
from nilometer.query.usage_days import UsageDays

DAYS = 35
"""How far back days are made: what a month's question may read."""
EVERY_SECONDS = 10.0
# At most so much of the time goes to it, whatever a pass takes.
_SHARE = 0.1
# Of a record's way from its acceptance to its row.
_LATE = timedelta(minutes=10)
_STOP_SECONDS = 10.0

logger = logging.getLogger(__name__)


class UsageUpkeep:
    """A thread that makes the days of projects whose calls have changed. `alone` says, of several
    processes, whether it is this one's turn."""

    def __init__(
        self,
        days: UsageDays,
        *,
        alone: Callable[[], AbstractContextManager[bool]] = lambda: nullcontext(True),
        now: Callable[[], datetime] = clock.now,
        every: float = EVERY_SECONDS,
    ) -> None:
        self._days = days
        self._alone = alone
        self._now = now
        self._every = every
        self._since: datetime | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a thread of its own, until `stop`."""
        self._thread = threading.Thread(target=self._run, name="usage-upkeep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the project at hand."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def once(self) -> int:
        """Make what is to be made now; of how many projects days were looked at. Raises the
        store's errors."""
        now = self._now()
        first = now - timedelta(days=DAYS)
        projects = self._days.changed_projects(self._since or first)
        for project in projects:
            if self._stopping.is_set():
                return 0
            marks = self._days.marks(project, first.date(), now.date())
            self._days.refresh(project, marks)
        self._since = now - _LATE
        return len(projects)

    def _run(self) -> None:
        pause = self._every
        while not self._stopping.wait(pause):
            started = time.monotonic()
            try:
                with self._alone() as mine:
                    if mine:
                        self.once()
            except NilometerError as error:
                logger.warning("usage by the day is not kept now: %s", error.detail)
            pause = max(self._every, (time.monotonic() - started) / _SHARE)
