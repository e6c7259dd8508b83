"""A project's channels: made, listed, changed, rotated, tried and removed, each with its entry in
the audit log, which names a channel and never what is secret in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from nilometer.access import audit
from nilometer.access.bounds import check_room, checked_name
from nilometer.access.lookup import live_project, new_id
from nilometer.access.tables import Project
from nilometer.access.types import OPERATOR, Action, Authority
from nilometer.database.engine import Database
from nilometer.database.fence import rows_of_project
from nilometer.domain import clock
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import InvalidInput, NotFound
from nilometer.notifications import configuration
from nilometer.notifications.channels import ChannelKind
from nilometer.notifications.configuration import Configuration, Egress
from nilometer.notifications.notification import Notification
from nilometer.notifications.outbox import enqueue, give_up
from nilometer.notifications.tables import ChannelRow, DeliveryRow, State

MAX_CHANNELS = 50
"""Of one project."""
MAX_OVERLAP = timedelta(days=7)
MAX_TESTS = 10
"""Deliveries of a channel that may wait when another test is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelInfo:
    """A channel as it is shown. `config` has no secret; `secrets` are the names of those that are
    set. `signing_secret` is a webhook's new one, in the answer that made it and nowhere else."""

    id: str
    project_id: int
    name: str
    kind: ChannelKind
    config: Mapping[str, Any]
    secrets: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    signing_secret: str | None = field(default=None, repr=False)


class Channels:
    """The channels that an authority may act on. Blocks; safe between threads.

    A change holds for what is sent from then on, what waits already included. Every method raises
    DatabaseUnavailable, and NotFound for a project or channel that is not the authority's.
    """

    def __init__(self, database: Database, egress: Egress, authority: Authority = OPERATOR) -> None:
        self._database = database
        self._egress = egress
        self._authority = authority

    def acting_as(self, authority: Authority) -> Channels:
        """The same for somebody else."""
        return Channels(self._database, self._egress, authority)

    def list(self, project_id: int) -> list[ChannelInfo]:
        """A project's channels, oldest first."""
        query = select(ChannelRow).where(ChannelRow.project_id == project_id)
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            found = session.scalars(query.order_by(ChannelRow.created_at, ChannelRow.id))
            return [_info(row) for row in found]

    def get(self, project_id: int, channel_id: str) -> ChannelInfo:
        """One channel."""
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            return _info(_row(session, project_id, channel_id))

    def add(
        self, project_id: int, name: str, kind: ChannelKind, given: Mapping[str, Any]
    ) -> ChannelInfo:
        """A new channel. Raises InvalidInput for a name that another has, and for a configuration
        that cannot be. A webhook's signing secret is in the answer, if it was not given."""
        name, kept = checked_name(name), configuration.read(kind, given, self._egress)
        now = clock.now()
        row = ChannelRow(
            id=new_id(),
            project_id=project_id,
            name=name,
            kind=kind,
            config=dict(kept.shown),
            secrets=dict(kept.secrets),
            created_at=now,
            updated_at=now,
        )
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            others = _names(session, project_id)
            check_room(len(others), MAX_CHANNELS, "notification channels")
            _check_name(name, others.values())
            session.add(row)
            self._record(session, Action.NOTIFICATION_CHANNEL_ADD, project, row)
            session.flush()
            given_secret = given.get("secret") is not None
            return _info(row, None if given_secret else kept.secrets.get("secret"))

    def change(
        self,
        project_id: int,
        channel_id: str,
        *,
        name: str | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> ChannelInfo:
        """Another name, and other members of the configuration: null takes one away. Raises
        InvalidInput."""
        checked = None if name is None else checked_name(name)
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            row = _row(session, project_id, channel_id)
            if checked is not None:
                others = _names(session, project_id)
                _check_name(checked, {each for key, each in others.items() if key != row.id})
                row.name = checked
            if given is not None:
                kept = configuration.changed(row.kind, _kept(row), given, self._egress)
                _keep(row, kept)
            row.updated_at = clock.now()
            changed = {"changed": sorted(given or ())}
            self._record(session, Action.NOTIFICATION_CHANNEL_CHANGE, project, row, changed)
            return _info(row)

    def rotate(
        self, project_id: int, channel_id: str, *, secret: str | None, overlap: timedelta
    ) -> ChannelInfo:
        """A new signing secret for a webhook, by default a random one, which is in the answer. The
        one before signs as well for so long. Raises InvalidInput for a channel of another kind."""
        if not timedelta(0) <= overlap <= MAX_OVERLAP:
            raise InvalidInput(
                f"the overlap is 0 to {MAX_OVERLAP.total_seconds():.0f} seconds",
                attr="overlap_seconds",
            )
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            row = _row(session, project_id, channel_id)
            if row.kind is not ChannelKind.WEBHOOK:
                raise InvalidInput("only a webhook has a secret to sign with", attr="channel_id")
            row.updated_at = clock.now()
            kept = configuration.rotated(_kept(row), secret, row.updated_at + overlap)
            _keep(row, kept)
            self._record(session, Action.NOTIFICATION_CHANNEL_ROTATE, project, row)
            return _info(row, None if secret is not None else kept.secrets["secret"])

    def remove(self, project_id: int, channel_id: str) -> ChannelInfo:
        """Remove one. What waits for it has failed; what was sent stays in the list."""
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            row = _row(session, project_id, channel_id)
            waiting = select(DeliveryRow).where(
                DeliveryRow.channel_id == row.id, DeliveryRow.state == State.WAITING
            )
            for delivery in session.scalars(waiting):
                give_up(delivery, clock.now())
            self._record(session, Action.NOTIFICATION_CHANNEL_REMOVE, project, row)
            session.delete(row)
            return _info(row)

    def test(self, project_id: int, channel_id: str) -> str:
        """Have a test notification sent, once; the id of its delivery, which tells what came of it.
        Raises InvalidInput while too many wait."""
        with self._database.session(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            row = _row(session, project_id, channel_id)
            waiting = select(func.count()).where(
                DeliveryRow.channel_id == row.id, DeliveryRow.state == State.WAITING
            )
            check_room(session.scalar(waiting) or 0, MAX_TESTS, "deliveries waiting")
            told = Notification.new(
                kind="test",
                project_id=project_id,
                title="A test of Nilometer",
                text=f"The notification channel {row.name} works.",
                facts={"channel": row.name},
            )
            [delivery] = enqueue(session, project_id, told, [row.id], give_up_after=timedelta(0))
            return delivery

    def forget(self, project_id: int) -> None:
        """Delete every channel and delivery of a project that is being deleted."""
        with self._database.session(rows_of_project(project_id)) as session:
            for table in (DeliveryRow, ChannelRow):
                session.execute(delete(table).where(table.project_id == project_id))

    def _record(
        self,
        session: Session,
        action: Action,
        project: Project,
        row: ChannelRow,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        detail = {"kind": row.kind, "name": row.name, **(more or {})}
        audit.record_of_project(
            session, self._authority, action, project, subject=row.id, detail=detail
        )


def _row(session: Session, project_id: int, channel_id: str) -> ChannelRow:
    try:
        row = session.get(ChannelRow, canonical_uuid(channel_id))
    except ValueError:
        row = None
    if row is None or row.project_id != project_id:
        raise NotFound("There is no such notification channel.", attr="channel_id")
    return row


def _names(session: Session, project_id: int) -> dict[str, str]:
    query = select(ChannelRow.id, ChannelRow.name).where(ChannelRow.project_id == project_id)
    return {row[0]: row[1] for row in session.execute(query)}


def _check_name(name: str, others: Collection[str]) -> None:
    if name in others:
        raise InvalidInput("another channel of the project has this name", attr="name")


def _kept(row: ChannelRow) -> Configuration:
    return Configuration(row.config, row.secrets)


def _keep(row: ChannelRow, kept: Configuration) -> None:
    row.config, row.secrets = dict(kept.shown), dict(kept.secrets)


def _info(row: ChannelRow, signing_secret: str | None = None) -> ChannelInfo:
    return ChannelInfo(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        kind=row.kind,
        config=row.config,
        secrets=tuple(sorted(configuration.SECRETS & row.secrets.keys())),
        created_at=row.created_at,
        updated_at=row.updated_at,
        signing_secret=signing_secret,
    )
