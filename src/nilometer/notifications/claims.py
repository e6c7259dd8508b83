"""Who sends what: deliveries are claimed for a while, sent outside of any transaction, and settled.

A claim is a lease. A worker that dies loses it, and the delivery is sent again by whoever claims it
next; one that was only slow finds its lease gone and settles nothing. So no delivery is lost, and
one whose outcome could not be kept is sent twice.

No channel has more than one attempt under way, and no project more than `PROJECT_PLACES`, over all
workers: a receiver that hangs keeps its own notifications waiting, and nobody else's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, delete, func, literal_column, not_, or_, select
from sqlalchemy.orm import Session

from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.notifications.channels import ChannelKind
from nilometer.notifications.channels.limits import ATTEMPT_SECONDS
from nilometer.notifications.configuration import Configuration
from nilometer.notifications.failures import DeliveryFailure
from nilometer.notifications.tables import ChannelRow, DeliveryRow, State

PROJECT_PLACES = 2
LEASE = timedelta(seconds=3 * ATTEMPT_SECONDS)
KEEP_DELIVERED = timedelta(days=30)
KEEP_FAILED = timedelta(days=90)

_CANDIDATES = 200
# As a literal, or no database would use the index of what waits.
_WAITING = DeliveryRow.state == literal_column(f"'{State.WAITING}'")
# Beyond these no clock that is right can have put a time. A worker whose clock was weeks ahead must
# not keep a delivery for weeks.
_LONGEST_LEASE = LEASE + timedelta(minutes=5)
_LONGEST_WAIT = timedelta(hours=26)


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery to attempt now. `attempts` counts this one; `notification` is as it is kept.
    `kind` and `kept` are the channel's, None when it is no more."""

    delivery_id: str
    token: str
    project_id: int
    attempts: int
    give_up_at: datetime
    notification: Mapping[str, Any] = field(repr=False)
    kind: ChannelKind | None
    kept: Configuration | None = field(repr=False)


class Claims:
    """Claims and settles deliveries of every project. Blocks; safe between threads and processes.

    Every method raises DatabaseUnavailable.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, now: datetime) -> bool:
        """Whether there is anything to claim, but for what others have in hand."""
        with self._database.read(EVERY_ROW) as session:
            return session.scalar(select(DeliveryRow.id).where(*_due(now)).limit(1)) is not None

    def claim(self, places: int, now: datetime) -> list[Claim]:
        """At most so many, each of another channel; of the projects with the least under way, and
        what has been due for longest, first."""
        with self._database.session(EVERY_ROW) as session:
            under_way = Counter(session.scalars(_leased(DeliveryRow.project_id, now)))
            claimed: list[Claim] = []
            for channel_id in _channels(session, under_way, places, now):
                row = _first(session, channel_id, now)
                if row is not None:
                    claimed.append(_claimed(session, row, now))
            return claimed

    def delivered(self, claim: Claim, now: datetime) -> bool:
        """It was taken. False when the lease is gone."""
        return self._settle(claim, State.DELIVERED, None, None, now)

    def postponed(
        self, claim: Claim, failure: DeliveryFailure, until: datetime, now: datetime
    ) -> bool:
        """It is tried again then. False when the lease is gone."""
        return self._settle(claim, State.WAITING, failure, until, now)

    def failed(self, claim: Claim, failure: DeliveryFailure, now: datetime) -> bool:
        """It is given up. False when the lease is gone."""
        return self._settle(claim, State.FAILED, failure, None, now)

    def prune(self, now: datetime) -> int:
        """Delete what was finished long ago; how many that were."""
        old = or_(
            (DeliveryRow.state == State.DELIVERED)
            & (DeliveryRow.finished_at < now - KEEP_DELIVERED),
            (DeliveryRow.state == State.FAILED) & (DeliveryRow.finished_at < now - KEEP_FAILED),
        )
        with self._database.session(EVERY_ROW) as session:
            return len(
                session.scalars(delete(DeliveryRow).where(old).returning(DeliveryRow.id)).all()
            )

    def waiting(self) -> tuple[int, datetime | None]:
        """How many wait, all projects together, and since when the oldest does."""
        query = select(func.count(), func.min(DeliveryRow.created_at)).where(_WAITING)
        with self._database.read(EVERY_ROW) as session:
            count, oldest = session.execute(query).one()
            return count, oldest

    def _settle(
        self,
        claim: Claim,
        state: State,
        failure: DeliveryFailure | None,
        due_at: datetime | None,
        now: datetime,
    ) -> bool:
        with self._database.session(EVERY_ROW) as session:
            row = session.get(DeliveryRow, claim.delivery_id)
            if row is None or row.leased_by != claim.token:
                return False
            row.state, row.leased_by, row.leased_until = state, None, None
            row.error_code = failure.code[:100] if failure else None
            row.error = failure.detail if failure else None
            row.due_at = due_at or row.due_at
            row.finished_at = None if state is State.WAITING else now
            return True


def _due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    due = or_(DeliveryRow.due_at <= now, DeliveryRow.due_at > now + _LONGEST_WAIT)
    free = or_(DeliveryRow.leased_until.is_(None), not_(_held(now)))
    return _WAITING, due, free


def _held(now: datetime) -> ColumnElement[bool]:
    return (DeliveryRow.leased_until > now) & (DeliveryRow.leased_until <= now + _LONGEST_LEASE)


def _leased(column: Any, now: datetime) -> Any:
    return select(column).where(_WAITING, _held(now))


def _channels(session: Session, under_way: Counter[int], places: int, now: datetime) -> list[str]:
    """Whose turn it is."""
    full = [project for project, count in under_way.items() if count >= PROJECT_PLACES]
    waits = func.min(DeliveryRow.due_at)
    query = (
        select(DeliveryRow.channel_id, DeliveryRow.project_id)
        .where(
            *_due(now),
            DeliveryRow.channel_id.not_in(_leased(DeliveryRow.channel_id, now)),
            DeliveryRow.project_id.not_in(full),
        )
        .group_by(DeliveryRow.channel_id, DeliveryRow.project_id)
        .order_by(waits)
        .limit(_CANDIDATES)
    )
    chosen: list[str] = []
    taken = Counter(under_way)
    candidates = session.execute(query).all()
    for turn in range(PROJECT_PLACES):  # each project's first before any project's second
        for channel_id, project in candidates:
            if len(chosen) < places and taken[project] <= turn and channel_id not in chosen:
                chosen.append(channel_id)
                taken[project] += 1
    return chosen


def _first(session: Session, channel_id: str, now: datetime) -> DeliveryRow | None:
    query = select(DeliveryRow).where(*_due(now), DeliveryRow.channel_id == channel_id)
    order = (DeliveryRow.due_at, DeliveryRow.created_at, DeliveryRow.id)
    return session.scalar(query.order_by(*order).limit(1).with_for_update(skip_locked=True))


def _claimed(session: Session, row: DeliveryRow, now: datetime) -> Claim:
    """Counted now: an attempt that takes its process down was one."""
    token = str(uuid4())
    row.leased_by, row.leased_until = token, now + LEASE
    row.attempts += 1
    channel = session.get(ChannelRow, row.channel_id)
    return Claim(
        delivery_id=row.id,
        token=token,
        project_id=row.project_id,
        attempts=row.attempts,
        give_up_at=row.give_up_at,
        notification=row.notification,
        kind=channel.kind if channel else None,
        kept=Configuration(channel.config, channel.secrets) if channel else None,
    )
