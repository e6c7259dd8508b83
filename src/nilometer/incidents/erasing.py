"""Deleting what the incidents of a project that is being deleted have left."""

from __future__ import annotations

from typing import Final, cast

from sqlalchemy import Table, delete
from sqlalchemy.orm import Session

from nilometer.incidents.tables import AcceptanceRow, ApprovalRow, IncidentEventRow, IncidentRow

_TABLES: Final = (ApprovalRow, IncidentEventRow, AcceptanceRow, IncidentRow)
"""Those that refer to others first."""


def forget(session: Session, project_id: int) -> int:
    """Delete every incident of a project, its history, its approvals and its idempotency keys; how
    many incidents those were. Tasks and executions are their own rooms'."""
    count = 0
    for row in _TABLES:
        table = cast("Table", row.__table__)
        result = session.connection().execute(delete(table).where(table.c.project_id == project_id))
        count = result.rowcount
    return count
