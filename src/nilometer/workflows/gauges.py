"""How many tasks and untold events there are, for the metrics."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from sqlalchemy import Table, func, select
from sqlalchemy.orm import Session

from nilometer.observability import metrics
from nilometer.workflows import outbox
from nilometer.workflows.tables import TaskRow

_TASKS = cast("Table", TaskRow.__table__)


def refresh(session: Session, now: datetime) -> None:
    """Set the gauges."""
    state, queue = _TASKS.c.state, _TASKS.c.queue
    counts = session.execute(select(queue, state, func.count()).group_by(queue, state)).all()
    untold, since = outbox.waiting(session)
    metrics.TASKS.clear()
    for name, each, count in counts:
        metrics.TASKS.labels(name, each.value).set(count)
    metrics.OUTBOX_RECORDS.set(untold)
    metrics.OUTBOX_SECONDS.set(max(0, (now - since).total_seconds()) if since else 0)
