"""What was sent, what waits and what failed: listed, shown and replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import literal, select, tuple_
from sqlalchemy.orm import Session

from nilometer.access import audit
from nilometer.access.lookup import live_project
from nilometer.access.types import OPERATOR, Action, Authority
from nilometer.database.engine import Database
from nilometer.domain import clock
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import InvalidInput, NotFound
from nilometer.notifications.outbox import GIVE_UP_AFTER
from nilometer.notifications.tables import ChannelRow, DeliveryRow, State
from nilometer.query import paging
from nilometer.query.paging import Listing, Page


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One notification to one channel. It is as it is kept (`Notification.to_json`), and may be of
    a newer release.

    `attempts` are those since it was enqueued or replayed. While it waits, `due_at` is when it is
    tried next and `give_up_at` when for the last time. `error` is a sentence, of the last attempt.
    """

    id: str
    project_id: int
    channel_id: str
    channel_name: str
    notification: Mapping[str, Any]
    state: State
    attempts: int
    created_at: datetime
    due_at: datetime
    give_up_at: datetime
    error_code: str | None
    error: str | None
    finished_at: datetime | None


class Deliveries:
    """The deliveries that an authority may see. Blocks; safe between threads.

    Every method raises DatabaseUnavailable, and NotFound for a project or delivery that is not the
    authority's.
    """

    def __init__(self, database: Database, authority: Authority = OPERATOR) -> None:
        self._database = database
        self._authority = authority

    def acting_as(self, authority: Authority) -> Deliveries:
        """The same for somebody else."""
        return Deliveries(self._database, authority)

    def list(
        self,
        project_id: int,
        *,
        state: State | None = None,
        channel_id: str | None = None,
        limit: int = paging.DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Page[Delivery]:
        """A project's deliveries, newest first. `cursor` is of the page before, under the same
        filters. Raises InvalidInput."""
        listing = Listing("deliveries", project_id, {"state": state, "channel": channel_id})
        query = select(DeliveryRow).where(DeliveryRow.project_id == project_id)
        if state is not None:
            query = query.where(DeliveryRow.state == state)
        if channel_id is not None:
            query = query.where(DeliveryRow.channel_id == _canonical(channel_id))
        start = paging.decode(cursor, listing, key_is_valid=_is_uuid) if cursor else None
        place = (DeliveryRow.created_at, DeliveryRow.id)
        newer = start is not None and start.newer
        if start is not None:
            values = (clock.from_micros(start.micros), start.key)
            last = tuple_(
                *(literal(v, column.type) for v, column in zip(values, place, strict=True))
            )
            query = query.where(tuple_(*place) > last if newer else tuple_(*place) < last)
        order = place if newer else tuple(column.desc() for column in place)
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            found = [
                _delivery(row) for row in session.scalars(query.order_by(*order).limit(limit + 1))
            ]
        return paging.page(
            found[:limit],
            more=len(found) > limit,
            cursor=start,
            listing=listing,
            place=lambda each: (clock.to_micros(each.created_at), each.id),
        )

    def get(self, project_id: int, delivery_id: str) -> Delivery:
        """One delivery."""
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            return _delivery(_row(session, project_id, delivery_id))

    def replay(self, project_id: int, delivery_id: str) -> Delivery:
        """Have it sent now, whatever became of it before, and tried for as long as a new one. It
        keeps its notification's id. Raises InvalidInput when its channel is no more."""
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            row = _row(session, project_id, delivery_id)
            if session.get(ChannelRow, row.channel_id) is None:
                raise InvalidInput("its channel was deleted", code="no_channel")
            now = clock.now()
            row.state, row.finished_at = State.WAITING, None
            row.attempts, row.due_at, row.give_up_at = 0, now, now + GIVE_UP_AFTER
            audit.record_of_project(
                *(session, self._authority, Action.NOTIFICATION_REPLAY, project), subject=row.id
            )
            return _delivery(row)


def _row(session: Session, project_id: int, delivery_id: str) -> DeliveryRow:
    row = session.get(DeliveryRow, delivery_id.lower()) if _is_uuid(delivery_id) else None
    if row is None or row.project_id != project_id:
        raise NotFound("There is no such delivery.", attr="delivery_id")
    return row


def _delivery(row: DeliveryRow) -> Delivery:
    return Delivery(
        id=row.id,
        project_id=row.project_id,
        channel_id=row.channel_id,
        channel_name=row.channel_name,
        notification=row.notification,
        state=row.state,
        attempts=row.attempts,
        created_at=row.created_at,
        due_at=row.due_at,
        give_up_at=row.give_up_at,
        error_code=row.error_code,
        error=row.error,
        finished_at=row.finished_at,
    )


def _canonical(identity: str) -> str:
    try:
        return canonical_uuid(identity)
    except ValueError:
        raise InvalidInput("this is not the id of a channel", attr="channel") from None


def _is_uuid(text: str) -> bool:
    try:
        return bool(canonical_uuid(text))
    except ValueError:
        return False
