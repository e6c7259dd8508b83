"""What is to be told, kept in the transaction that decided it.

When that transaction is committed, the notification is sent, once or more often, or it is `failed`
and can be seen; when it is undone, nobody hears of it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from nilometer.domain import clock
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import InvalidInput
from nilometer.notifications.notification import Notification
from nilometer.notifications.tables import ChannelRow, DeliveryRow, State

GIVE_UP_AFTER = timedelta(hours=24)
"""How long a delivery is tried."""

_NO_CHANNEL = ("no_channel", "There is no such channel; it was deleted.")
_logger = logging.getLogger(__name__)


def enqueue(
    session: Session,
    project_id: int,
    notification: Notification,
    channel_ids: Collection[str] | None = None,
    *,
    give_up_after: timedelta = GIVE_UP_AFTER,
) -> list[str]:
    """Have a notification sent to these channels of the project, by default to all of them.

    Part of the caller's transaction, which may write rows of the project. A notification (by its
    id) that a channel has been given is not given to it again, so the call may be repeated. A
    channel that is no more gets a delivery that has failed: it must not be lost that somebody was
    to be told. Returns the ids of the new deliveries.
    """
    now = clock.now()
    added: list[DeliveryRow] = []
    for channel_id, channel in _chosen(session, project_id, channel_ids):
        if _has(session, channel_id, notification.id):
            continue
        row = DeliveryRow(
            id=str(uuid4()),
            project_id=project_id,
            channel_id=channel_id,
            channel_name=channel.name if channel else "",
            notification_id=notification.id,
            kind=notification.kind,
            notification=notification.to_json(),
            state=State.WAITING,
            attempts=0,
            created_at=now,
            due_at=now,
            give_up_at=now + give_up_after,
        )
        if channel is None:
            give_up(row, now)
            _logger.warning("project %d: a notification names no channel there is", project_id)
        added.append(row)
    session.add_all(added)
    session.flush()
    return [row.id for row in added]


def check_channels(session: Session, project_id: int, channel_ids: Iterable[str]) -> list[str]:
    """The ids, each once and in its canonical form, of channels of the project; for who keeps them
    to notify later. Raises InvalidInput for one that there is not."""
    wanted = list(dict.fromkeys(map(_canonical, channel_ids)))
    for channel_id, channel in _chosen(session, project_id, wanted):
        if channel is None:
            raise InvalidInput(f"there is no notification channel {channel_id}", attr="channels")
    return wanted


def give_up(row: DeliveryRow, now: datetime) -> None:
    """Its channel is no more: it has failed, and nobody holds it."""
    row.state, row.finished_at = State.FAILED, now
    row.error_code, row.error = _NO_CHANNEL
    row.leased_by = row.leased_until = None


def _chosen(
    session: Session, project_id: int, channel_ids: Collection[str] | None
) -> list[tuple[str, ChannelRow | None]]:
    query = select(ChannelRow).where(ChannelRow.project_id == project_id)
    if channel_ids is None:
        found = session.scalars(query.order_by(ChannelRow.created_at, ChannelRow.id))
        return [(channel.id, channel) for channel in found]
    wanted = list(dict.fromkeys(channel_ids))
    known = {row.id: row for row in session.scalars(query.where(ChannelRow.id.in_(wanted)))}
    return [(channel_id, known.get(channel_id)) for channel_id in wanted]


def _has(session: Session, channel_id: str, notification_id: str) -> bool:
    query = select(DeliveryRow.id).where(
        DeliveryRow.channel_id == channel_id, DeliveryRow.notification_id == notification_id
    )
    return session.scalar(query) is not None


def _canonical(channel_id: str) -> str:
    try:
        return canonical_uuid(channel_id)
    except ValueError:
        raise InvalidInput("this is not the id of a channel", attr="channels") from None
