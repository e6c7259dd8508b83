"""Alerts that are over are kept for as long as their project keeps what it captures."""

from __future__ import annotations

import threading
from datetime import datetime

from nilometer.alerts.tables import AlertRow, UnusualDayRow
from nilometer.database.engine import Database
from nilometer.database.slices import delete_in_slices


def expire(database: Database, project_id: int, before: datetime, stopping: threading.Event) -> int:
    """Delete a project's alerts that recovered, and the unusual days that were told of, before
    then; how many those were. Raises DatabaseUnavailable."""
    over = (
        (AlertRow, AlertRow.project_id == project_id, AlertRow.recovered_at < before),
        (UnusualDayRow, UnusualDayRow.project_id == project_id, UnusualDayRow.fired_at < before),
    )
    return sum(delete_in_slices(database, *each, stopping=stopping) for each in over)
