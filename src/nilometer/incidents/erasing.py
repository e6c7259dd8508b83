"""Deleting what the incidents of a project that is being deleted have left."""

from __future__ import annotations

import threading
from typing import Final

from nilometer.database.engine import Database
from nilometer.database.slices import ROWS, delete_in_slices
from nilometer.incidents.tables import AcceptanceRow, ApprovalRow, IncidentEventRow, IncidentRow
from nilometer.incidents.tools.tables import ExecutionRow
from nilometer.workflows.tables import OutboxRow, TaskRow

_TABLES: Final = (
    *(TaskRow, OutboxRow, ExecutionRow),
    *(ApprovalRow, IncidentEventRow, AcceptanceRow, IncidentRow),
)
"""Those that refer to others first. Who works on a task finds its lease gone."""


def forget(
    database: Database,
    project_id: int,
    *,
    rows: int = ROWS,
    stopping: threading.Event | None = None,
) -> int:
    """Delete every incident of a project, its history, its approvals, its executions, its tasks,
    and the idempotency keys, a few rows in a transaction; how many incidents those were. Begun
    anew, it goes on where it stopped. Raises DatabaseUnavailable; Unavailable once `stopping`."""
    count = 0
    for row in _TABLES:
        mine = row.project_id == project_id
        count = delete_in_slices(database, row, mine, rows=rows, stopping=stopping)
    return count
