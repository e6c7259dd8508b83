"""Deletes what no longer has a reason to be kept: expired objects, orphans, temporary files.

An *orphan* is an object that no event names: its request failed after the put, or its event was
already known under the same uuid. The sweeper knows nothing of events. It is told which keys are
named, and up to when every accepted record has been processed; younger objects are left alone.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from nilometer.blobs.keys import Day, ObjectName
from nilometer.blobs.store import BlobStore, StoredObject
from nilometer.domain import clock
from nilometer.errors import NilometerError
from nilometer.observability import metrics

Referenced = Callable[[int, Sequence[ObjectName]], Collection[str]]
"""Which of a project's objects an event names, or may still: one that waits or is dead-lettered.

Gets the project and at most 1,000 names; returns keys. Raises when it cannot know, and then nothing
more is judged in this sweep.
"""

CaughtUpTo = Callable[[], int | None]
"""Microseconds since the epoch: every record accepted before has been processed, that is stored or
dead-lettered. None when that is not known; nothing is judged an orphan then. It has to move on
when no events arrive."""

MARGIN = timedelta(hours=1)
"""Between an upload and the acceptance it belongs to: a slow request, and unequal clocks."""

TEMPORARY_AGE = timedelta(hours=1)
FULL_PASS_EVERY = timedelta(days=1)
_STOP_SECONDS = 45  # more than a database that does not answer takes to be given up

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SweepCounts:
    """What one sweep deleted. `complete` is False if it was stopped or could not judge orphans."""

    expired: int
    orphans: int
    temporaries: int
    complete: bool


class Sweeper:
    """Sweeps now and then, in a thread of its own. A sweep may be repeated or cut off at will.

    A day of which every object has been judged is not listed again before the next daily full pass,
    so that a sweep of a large bucket costs a few requests a project.
    """

    def __init__(
        self,
        store: BlobStore,
        *,
        referenced: Referenced,
        caught_up_to: CaughtUpTo,
        orphan_grace: float = 24 * 3600,
        interval: float = 3600,
        alone: Callable[[], AbstractContextManager[bool]] = lambda: nullcontext(True),
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        """`alone` says, of several sweepers, whether it is this one's turn."""
        self._store = store
        self._alone = alone
        self._referenced = referenced
        self._caught_up_to = caught_up_to
        self._orphan_grace = timedelta(seconds=orphan_grace)
        self._interval = interval
        self._now = now
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._judged_before: date | None = None
        self._full_pass_at: datetime | None = None
        self._swept = {
            reason: metrics.BLOBS_SWEPT.labels(reason)
            for reason in ("expired", "orphan", "temporary")
        }
        self._outcomes = {
            outcome: metrics.BLOB_SWEEPS.labels(outcome)
            for outcome in ("complete", "partial", "failed")
        }

    def start(self) -> None:
        """Sweep at once and then at every interval, until `stop`."""
        self._thread = threading.Thread(target=self._run, name="blob-sweeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the page at hand, and wait for that, but no minutes: what a sweep leaves undone
        the next one does. A sweeper is not started again."""
        self._stopping.set()
        if self._thread is None:
            return
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            logger.warning("the blob sweep did not end within %s s", _STOP_SECONDS)

    def sweep(self) -> SweepCounts:
        """One sweep, in the caller's thread. Raises BlobsUnavailable where the storage fails."""
        now = self._now()
        temporaries = self._count("temporary", self._store.delete_temporaries(now - TEMPORARY_AGE))
        horizon = self._horizon(now)
        skip_before = self._skip_before(now)
        expired = orphans = 0
        for day in self._store.list_days():
            if self._stopping.is_set():
                return SweepCounts(expired, orphans, temporaries, complete=False)
            if day.expires_at(self._store.default_retention_days) <= now:
                expired += self._expire(day)
            elif horizon is not None and skip_before <= day.date <= horizon.date():
                found, horizon = self._judge(day, horizon)
                orphans += found
        if horizon is not None:
            self._remember(now, horizon, full=skip_before == date.min)
        return SweepCounts(expired, orphans, temporaries, complete=horizon is not None)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._alone() as mine:
                    if mine:
                        self._note(self.sweep())
            except Exception as error:  # noqa: BLE001  (a thread that ends sweeps nothing for good)
                self._outcomes["failed"].inc()
                logger.warning("the blob sweep stopped: %s", _told(error))
            self._stopping.wait(self._interval)

    def _note(self, counts: SweepCounts) -> None:
        self._outcomes["complete" if counts.complete else "partial"].inc()
        if counts.complete:
            metrics.BLOB_SWEEP_COMPLETED.set(self._now().timestamp())
        logger.info("swept blobs: %s", counts)

    def _horizon(self, now: datetime) -> datetime | None:
        """Objects uploaded before this instant can be judged; None when nothing can."""
        try:
            micros = self._caught_up_to()
        except Exception as error:  # noqa: BLE001  (as in `_judge`)
            logger.warning("blob orphans are not looked for: %s", _told(error))
            return None
        if micros is None:
            return None
        return min(now - self._orphan_grace, clock.from_micros(micros) - MARGIN)

    def _skip_before(self, now: datetime) -> date:
        recent = self._full_pass_at is not None and now - self._full_pass_at < FULL_PASS_EVERY
        return self._judged_before if recent and self._judged_before else date.min

    def _remember(self, now: datetime, horizon: datetime, *, full: bool) -> None:
        # An object's date is its acceptance and its age its upload, later by the margin at most.
        self._judged_before = (horizon - MARGIN).date()
        if full:
            self._full_pass_at = now

    def _expire(self, day: Day) -> int:
        deleted = 0
        for count in self._store.delete_day(day):
            deleted += self._count("expired", count)
            if self._stopping.is_set():
                break
        return deleted

    def _judge(self, day: Day, horizon: datetime) -> tuple[int, datetime | None]:
        """Delete the day's orphans. The horizon comes back as None once nothing can be judged."""
        deleted = 0
        try:
            for page in self._store.list_objects(day):
                deleted += self._delete_orphans(day.project_id, page, horizon)
                if self._stopping.is_set():
                    return deleted, None
        except Exception as error:  # noqa: BLE001  (whatever it is: what has expired must still go)
            logger.warning("blob orphans are not looked for: %s", _told(error))
            return deleted, None
        return deleted, horizon

    def _delete_orphans(
        self, project_id: int, page: Sequence[StoredObject], horizon: datetime
    ) -> int:
        old = [item.name for item in page if item.modified < horizon]
        if not old:
            return 0
        named = frozenset(self._referenced(project_id, old))
        orphans = [name for name in old if name.key not in named]
        return self._count("orphan", self._store.delete(orphans))

    def _count(self, reason: str, deleted: int) -> int:
        self._swept[reason].inc(deleted)
        return deleted


def _told(error: Exception) -> str:
    """Our own sentence; of an unforeseen error only its place, as its text may hold content."""
    if isinstance(error, NilometerError):
        return error.detail
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{type(error).__name__}\n{frames}"
