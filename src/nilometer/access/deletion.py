"""Deletes what tombstoned projects had: rows, blobs, dead letters, keys; in a thread of its own.

Each step deletes whatever it finds and finding nothing is success, so a step may run again: after
a crash, after an error, or beside another process that does the same. Progress is kept in
`project_deletions`, and a project is deleted once every step has ended well after its tombstone.

Two things may be late. A batch of the pipeline that began before the tombstone: `settle` waits for
its end first, and later batches see the tombstone and drop the project's records. And a request
that was let in before (a key is trusted for 5 seconds, for 10 minutes while the database is away;
a slow body takes up to 5): its record is dropped, but its blobs may come after the deletion. So a
finished deletion is looked at once more, `verify_after` its tombstone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta

from sqlalchemy import delete, or_, select, update

from nilometer.access import audit
from nilometer.access.tables import MAX_PROJECT_ID, ApiKey, Project, ProjectDeletion
from nilometer.access.types import Action, Authority, DeletionState
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.errors import NilometerError

VERIFY_AFTER = timedelta(minutes=20)

Erase = Callable[[int, threading.Event], int]
"""Deletes a project's things of one kind and returns how many there were. Ends early, with an
error, once the event is set. Raises NilometerError when it cannot; it is tried again."""

_SYSTEM = Authority("system", None, None)
_logger = logging.getLogger(__name__)


class Tombstones:
    """Which projects are being deleted or are gone. Blocks; safe between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def among(self, project_ids: Collection[int]) -> set[int]:
        """Those of these projects that have a tombstone. Raises DatabaseUnavailable."""
        possible = [project for project in project_ids if 1 <= project <= MAX_PROJECT_ID]
        query = select(Project.id).where(
            Project.id.in_(possible), Project.tombstoned_at.is_not(None)
        )
        with self._database.read(EVERY_ROW) as session:
            return set(session.scalars(query))


class DeletionWorker:
    """Carries out deletions, one after the other, until `stop`.

    `erase` has the steps by the column that counts what they delete: `rows`, `blobs` and
    `dead_letters`, in this order. Keys and what the tombstone still knows about people follow.
    """

    def __init__(
        self,
        database: Database,
        *,
        settle: Callable[[], None],
        erase: Mapping[str, Erase],
        interval: float = 5,
        verify_after: timedelta = VERIFY_AFTER,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        """`settle` returns once every batch that may not know of a tombstone has ended, or raises
        NilometerError. `interval` is how often deletions asked for by others are looked for."""
        self._database = database
        self._settle = settle
        self._erase = erase
        self._interval = interval
        self._verify_after = verify_after
        self._now = now
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread = threading.Thread(target=self._run, name="deletions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the step at hand, and wait for that. What is unfinished goes on at the next
        start."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def wake(self) -> None:
        """Look now: a deletion was asked for. Returns at once."""
        self._wake.set()

    def run_once(self) -> int:
        """Try every deletion that is due, in this thread; how many of them are done.

        One that fails does not keep the others. Raises DatabaseUnavailable.
        """
        done = 0
        for project_id in self._due():
            if self._stopping.is_set():
                break
            done += self._try(project_id)
        return done

    def _run(self) -> None:
        while not self._stopping.is_set():
            done = 0
            try:
                done = self.run_once()
            except NilometerError as error:
                _logger.warning("deletions wait: %s", error.detail)
            except Exception:
                _logger.exception("deletions failed and are tried again")
            if not done:  # while it went on, others may have been asked for
                self._wake.wait(self._interval)
                self._wake.clear()

    def _due(self) -> list[int]:
        unverified = ProjectDeletion.verified_at.is_(None)
        ripe = ProjectDeletion.requested_at <= self._now() - self._verify_after
        query = select(ProjectDeletion.project_id).where(
            or_(ProjectDeletion.state != DeletionState.DELETED, unverified & ripe)
        )
        with self._database.read(EVERY_ROW) as session:
            return list(session.scalars(query.order_by(ProjectDeletion.requested_at)))

    def _try(self, project_id: int) -> bool:
        self._begin(project_id)
        try:
            self._settle()
            for step, erase in self._erase.items():
                self._count(project_id, step, erase(project_id, self._stopping))
                if self._stopping.is_set():
                    return False
            self._finish(project_id)
        except NilometerError as error:
            _logger.warning("project %d cannot be deleted yet: %s", project_id, error.detail)
            self._note(project_id, error.code)
            return False
        return True

    def _begin(self, project_id: int) -> None:
        with self._database.session(EVERY_ROW) as session:
            deletion = session.get_one(ProjectDeletion, project_id)
            deletion.attempts += 1
            if deletion.state is DeletionState.PENDING:
                deletion.state = DeletionState.DELETING

    def _count(self, project_id: int, step: str, deleted: int) -> None:
        if not deleted:
            return
        column = getattr(ProjectDeletion, step)
        with self._database.session(EVERY_ROW) as session:
            session.execute(
                update(ProjectDeletion)
                .where(ProjectDeletion.project_id == project_id)
                .values({column: column + deleted})
            )

    def _note(self, project_id: int, code: str) -> None:
        with self._database.session(EVERY_ROW) as session:
            session.get_one(ProjectDeletion, project_id).last_error = code

    def _finish(self, project_id: int) -> None:
        """Delete the keys, forget the people, and write that it is done: in one transaction."""
        with self._database.session(EVERY_ROW) as session:
            deletion = session.get_one(ProjectDeletion, project_id)
            project = session.get_one(Project, project_id)
            keys = delete(ApiKey).where(ApiKey.project_id == project_id).returning(ApiKey.id)
            deletion.keys += len(session.scalars(keys).all())
            project.dropped_distinct_ids = []
            deletion.last_error = None
            if deletion.requested_at <= self._now() - self._verify_after:
                deletion.verified_at = self._now()
            if deletion.state is not DeletionState.DELETED:
                deletion.state, deletion.finished_at = DeletionState.DELETED, self._now()
                audit.record_of_project(session, _SYSTEM, Action.PROJECT_DELETED, project)
