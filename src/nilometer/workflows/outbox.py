"""What is to be told to the log, kept in the transaction that it tells of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from sqlalchemy import Table, func, select
from sqlalchemy.orm import Session

from nilometer.database.bulk import Bulk, bulk_insert
from nilometer.workflows.tables import OutboxRow

_OUTBOX = cast("Table", OutboxRow.__table__)
_COLUMNS = (
    *("project_id", "lane", "sequence", "event_id", "occurred_at", "record"),
    "trace_context",
)
_INSERT = bulk_insert(_OUTBOX, _COLUMNS)

_FORGET = Bulk("DELETE FROM outbox WHERE id IN ({rows})", [_OUTBOX.c.id], rows="?")


@dataclass(frozen=True, slots=True)
class Notice:
    """A record for the log: `record` is what its readers get, `event_id` (UUID text) its identity.

    Those of one lane reach the log in the order of their sequences, which must be that of their
    transactions' commits.
    """

    project_id: int
    lane: str
    sequence: int
    event_id: str
    occurred_at: datetime
    record: bytes = field(repr=False)
    trace_context: str | None = None


def publish(session: Session, notices: Sequence[Notice]) -> None:
    """Have these told to the log once the caller's transaction is committed, in this order."""
    if notices:
        _INSERT.run(session, (_row(each) for each in notices))


def oldest(session: Session, limit: int) -> list[tuple[int, Notice]]:
    """What waits, the first first, each with its number for `forget`."""
    rows = session.execute(
        select(_OUTBOX.c.id, *(_OUTBOX.c[name] for name in _COLUMNS))
        .order_by(_OUTBOX.c.id)
        .limit(limit)
    )
    return [(number, Notice(*rest)) for number, *rest in rows]


def forget(session: Session, numbers: Sequence[int]) -> None:
    """The log has these."""
    _FORGET.run(session, ((number,) for number in numbers))


def waiting(session: Session) -> tuple[int, datetime | None]:
    """How many wait, and since when the oldest does."""
    count, since = session.execute(select(func.count(), func.min(_OUTBOX.c.occurred_at))).one()
    return count, since


def _row(notice: Notice) -> tuple[object, ...]:
    return (
        notice.project_id,
        notice.lane,
        notice.sequence,
        notice.event_id,
        notice.occurred_at,
        notice.record,
        notice.trace_context,
    )
