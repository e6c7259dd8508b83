"""Incidents that are closed are kept, with all that happened to them, for as long as their project
keeps what it captures.

An incident that is not closed is kept, however old: somebody may still have to act. One that has an
undecided dead letter, or a task that waits, counts as not closed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, time, timedelta
from typing import Final

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.orm import Session

from nilometer.access.tables import Project
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.errors import Unavailable
from nilometer.incidents.accepted_within import ids_within
from nilometer.incidents.lifecycle import CLOSED
from nilometer.incidents.tables import ApprovalRow, IncidentEventRow, IncidentRow
from nilometer.incidents.tools.tables import ExecutionRow
from nilometer.observability import metrics
from nilometer.workflows.loop import Loop
from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import TaskState

NAME: Final = "incident retention"
"""What only one process at a time does."""
SLICE: Final = 100
"""Incidents of one transaction, which has some twenty rows of each."""

_LOOK_SECONDS: Final = 3600.0
_OF_ONE: Final = (ApprovalRow, IncidentEventRow, ExecutionRow)

Expire = Callable[[int, datetime, threading.Event], int]
"""`(project_id, before, stopping)`: deletes what else of a project ended before then."""

_log = logging.getLogger(__name__)


class Retention:
    """Deletes what has been kept for long enough, once an hour, in a thread, until `stop`. `days`
    are of projects that set none; `others` are for what else is kept as long."""

    def __init__(
        self,
        database: Database,
        days: int,
        *,
        others: Sequence[Expire] = (),
        alone: Callable[[], AbstractContextManager[bool]] = lambda: nullcontext(True),
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database = database
        self._days = days
        self._others = others
        self._alone = alone
        self._now = now
        self._stopping = threading.Event()
        self._loop = Loop("incident-retention", self.look, _LOOK_SECONDS)

    def start(self) -> None:
        """Begin."""
        self._loop.start()

    def stop(self) -> None:
        """End after the rows at hand."""
        self._stopping.set()
        self._loop.stop()

    def look(self) -> bool:
        """Delete what is due. Raises DatabaseUnavailable; what was deleted stays so."""
        with self._alone() as mine:
            if mine:
                self._expire(self._now())
                self._count()
        return False

    def _expire(self, now: datetime) -> None:
        with self._database.read(EVERY_ROW) as session:
            query = select(Project.id, Project.retention_days).where(
                Project.tombstoned_at.is_(None)
            )
            projects = session.execute(query.order_by(Project.id)).all()
        for project_id, days in projects:
            before = ended_before(now, self._days if days is None else days)
            count = self._expire_project(project_id, before)
            if count:
                metrics.INCIDENTS_EXPIRED.inc(count)
                _log.info("project %d: %d closed exceptions expired", project_id, count)
            for expire in self._others:
                expire(project_id, before, self._stopping)

    def _expire_project(self, project_id: int, before: datetime) -> int:
        last, count = "", 0
        while True:
            if self._stopping.is_set():
                raise Unavailable("the server is stopping")
            with self._database.concurrent(EVERY_ROW) as session:
                ids = _expired(session, project_id, before, last)
                _delete(session, project_id, ids)
            count += len(ids)
            if len(ids) < SLICE:
                return count
            last = ids[-1]

    def _count(self) -> None:
        with self._database.read(EVERY_ROW) as session:
            query = select(IncidentRow.status, func.count()).group_by(IncidentRow.status)
            counts = session.execute(query).all()
        metrics.INCIDENTS_KEPT.clear()
        for status, count in counts:
            metrics.INCIDENTS_KEPT.labels(status.value).set(count)


def ended_before(now: datetime, days: int) -> datetime:
    """What ended before this moment has been kept for so many days; as events, through the last of
    them (`domain.retention`)."""
    try:
        return datetime.combine(now.astimezone(UTC).date(), time(), UTC) - timedelta(days=days)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _expired(session: Session, project_id: int, before: datetime, after: str) -> list[str]:
    """Some closed incidents of a project, in the order of their ids, locked. Who has one locked
    changes it: it is not for now."""
    waiting = select(TaskRow.lane).where(
        TaskRow.project_id == project_id,
        TaskRow.lane == IncidentRow.id,
        TaskRow.state != TaskState.DISCARDED,
    )
    query = (
        select(IncidentRow.id)
        .where(
            IncidentRow.project_id == project_id,
            IncidentRow.id > after,
            *ids_within(None, before),
            IncidentRow.status.in_(CLOSED),
            IncidentRow.closed_at < before,
            ~waiting.exists(),
        )
        .order_by(IncidentRow.id)
        .limit(SLICE)
        .with_for_update(skip_locked=True)
    )
    return list(session.scalars(query))


def _delete(session: Session, project_id: int, ids: Sequence[str]) -> None:
    if not ids:
        return
    for row in _OF_ONE:
        mine = (row.project_id == project_id, row.incident_id.in_(ids))
        session.execute(delete(row).where(*mine).execution_options(synchronize_session=False))
    lanes = tuple_(TaskRow.project_id, TaskRow.lane).in_([(project_id, each) for each in ids])
    for row, mine in (
        (TaskRow, lanes),
        (IncidentRow, (IncidentRow.project_id == project_id) & IncidentRow.id.in_(ids)),
    ):
        session.execute(delete(row).where(mine).execution_options(synchronize_session=False))
