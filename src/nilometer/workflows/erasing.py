"""Deleting what a project that is being deleted has left in the queues."""

from __future__ import annotations

from typing import cast

from sqlalchemy import Table, delete
from sqlalchemy.orm import Session

from nilometer.workflows.tables import OutboxRow, TaskRow


def forget(session: Session, project_id: int) -> None:
    """Delete every task, dead letter and untold event of a project. Who works on one finds its
    lease gone."""
    for row in (TaskRow, OutboxRow):
        table = cast("Table", row.__table__)
        session.execute(delete(table).where(table.c.project_id == project_id))
