"""Failures of a project, counted where they happen and kept where every worker can read them.

A process notes them in memory and writes them to the database every few seconds: whoever fails must
not wait for a database, or fail once more without one. What a killed process noted last is lost;
the next failure is noted again.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from nilometer.alerts.tables import FailureRow
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW, rows_of_project
from nilometer.domain import clock
from nilometer.errors import NilometerError

BLOBS = "blobs"
"""An upload to the blob storage failed."""
KEPT = timedelta(days=8)
"""Longer than the longest window of a rule."""
WRITE_SECONDS = 2.0
_MOST_NOTED = 10_000

_log = logging.getLogger(__name__)
_Noted = tuple[int, str, datetime]


class Failures:
    """What failed. `note` may be called from any thread, the event loop's too."""

    def __init__(
        self,
        database: Database,
        *,
        interval: float = WRITE_SECONDS,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database = database
        self._interval = interval
        self._now = now
        self._noting = threading.Lock()
        self._noted: Counter[_Noted] = Counter()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to write, in a thread."""
        self._thread = threading.Thread(target=self._run, name="failures", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is noted, once, and end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def note(self, project_id: int, what: str = BLOBS) -> None:
        """Something of the project failed. Returns at once."""
        minute = self._now().replace(second=0, microsecond=0)
        with self._noting:
            if len(self._noted) < _MOST_NOTED or (project_id, what, minute) in self._noted:
                self._noted[project_id, what, minute] += 1

    def write(self) -> int:
        """Write down what is noted, in this thread; how much that was. Raises DatabaseUnavailable;
        then it is still noted."""
        with self._noting:
            noted, self._noted = self._noted, Counter()
        if not noted:
            return 0
        try:
            self._add(noted)
        except BaseException:
            with self._noting:
                self._noted += noted
            raise
        return noted.total()

    def _add(self, noted: Counter[_Noted]) -> None:
        dialect = self._database.engine.dialect.name
        new = (postgresql if dialect == "postgresql" else sqlite).insert(FailureRow)
        added = new.on_conflict_do_update(
            index_elements=["project_id", "what", "minute"],
            set_={"count": FailureRow.count + new.excluded.count},
        )
        rows = [
            {"project_id": project, "what": what, "minute": minute, "count": count}
            for (project, what, minute), count in sorted(noted.items())
        ]
        with self._database.session(EVERY_ROW) as session:
            session.execute(added, rows)
            session.execute(delete(FailureRow).where(FailureRow.minute < self._now() - KEPT))

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            self._try()
        self._try()

    def _try(self) -> None:
        try:
            self.write()
        except NilometerError as error:
            _log.warning("failures wait to be written: %s", error.detail)
        except Exception as error:  # noqa: BLE001  (the thread must not end unseen)
            _log.error("failures cannot be written: %s", type(error).__name__)


def failed(database: Database, project_id: int, what: str, start: datetime) -> int:
    """How often it failed since a moment, to the minute. Raises DatabaseUnavailable."""
    query = select(func.sum(FailureRow.count)).where(
        FailureRow.project_id == project_id,
        FailureRow.what == what,
        FailureRow.minute >= start.replace(second=0, microsecond=0),
    )
    with database.read(rows_of_project(project_id)) as session:
        return int(session.scalar(query) or 0)
