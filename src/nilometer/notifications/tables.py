"""The tables of this room: channels and deliveries."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, Text, UniqueConstraint, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from nilometer.access.tables import NAME_LENGTH, Project
from nilometer.database.engine import Base
from nilometer.database.types import UtcDateTime, stored_as_text
from nilometer.notifications.channels import ChannelKind


class State(StrEnum):
    """What has become of a delivery: still to be sent, or sent again; taken by the receiver; given
    up, until somebody replays it."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


class ChannelRow(Base):
    """A place to send to. `config` is what may be shown, `secrets` what never is: URLs whose path
    is a password, signing secrets, passwords."""

    __tablename__ = "notification_channels"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id))
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    kind: Mapped[ChannelKind] = mapped_column(stored_as_text(ChannelKind))
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    secrets: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = (UniqueConstraint("project_id", "name", name="uq_notification_channels_name"),)


class DeliveryRow(Base):
    """One notification to one channel: the outbox, and afterwards the history.

    A channel's deliveries outlive it, so there is no foreign key and its name is kept. While
    somebody sends it, `leased_by` names the attempt, until `leased_until`; an attempt that has lost
    its lease changes nothing. `attempts` are those since it was enqueued or replayed.
    """

    __tablename__ = "notification_deliveries"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id))
    channel_id: Mapped[str] = mapped_column(Uuid(as_uuid=False))
    channel_name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    notification_id: Mapped[str] = mapped_column(String(100))
    kind: Mapped[str] = mapped_column(String(100))
    notification: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[State] = mapped_column(stored_as_text(State))
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    give_up_at: Mapped[datetime] = mapped_column(UtcDateTime)
    leased_by: Mapped[str | None] = mapped_column(Uuid(as_uuid=False))
    leased_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error_code: Mapped[str | None] = mapped_column(String(100))
    error: Mapped[str | None] = mapped_column(Text)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (
        UniqueConstraint(
            "channel_id", "notification_id", name="uq_notification_deliveries_notification"
        ),
        Index("ix_notification_deliveries_newest", "project_id", "created_at", "id"),
        Index(
            "ix_notification_deliveries_due",
            "due_at",
            sqlite_where=text("state = 'waiting'"),
            postgresql_where=text("state = 'waiting'"),
        ),
    )
