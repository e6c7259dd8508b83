"""The tables of this room: tasks, and what is to be told to the log.

Neither refers to `projects` by a foreign key: at thousands of rows a second the check would cost as
much as the row, and whoever writes one has just read the project.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Integer, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from nilometer.access.tables import ACTOR_LENGTH
from nilometer.database.engine import Base
from nilometer.database.types import UtcDateTime, stored_as_text
from nilometer.workflows.task import ErrorClass, TaskState

NAME = 100
"""The longest name of a queue, a lane, a kind or a key, in characters."""


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class TaskRow(Base):
    """A task, or a dead letter.

    `due_at` is when it may be claimed: for one that is leased, when its lease ends; None for one
    that is not to be claimed at all. `lease` names the claim that has it. `error…` are of the last
    attempt that failed. `decided…` say who replayed or discarded it, and why.
    """

    __tablename__ = "tasks"

    project_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    lane: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    sequence: Mapped[int] = mapped_column(Integer, primary_key=True)
    queue: Mapped[str] = mapped_column(String(NAME))
    kind: Mapped[str] = mapped_column(String(NAME))
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[TaskState] = mapped_column(stored_as_text(TaskState))
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    attempts: Mapped[int]
    losses: Mapped[int]
    lease: Mapped[str | None] = mapped_column(String(36))
    limit_key: Mapped[str | None] = mapped_column(String(NAME))
    key_limit: Mapped[int | None]
    causation_id: Mapped[str | None] = mapped_column(String(NAME))
    trace_context: Mapped[str | None] = mapped_column(String(NAME))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    error_code: Mapped[str | None] = mapped_column(String(NAME))
    error: Mapped[str | None] = mapped_column(Text)
    error_class: Mapped[ErrorClass | None] = mapped_column(stored_as_text(ErrorClass))
    dead_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    decided_by: Mapped[str | None] = mapped_column(String(ACTOR_LENGTH))
    decided_because: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index(
            "ix_tasks_due",
            "queue",
            "project_id",
            "due_at",
            "limit_key",
            **_where("due_at IS NOT NULL"),
        ),
        Index("ix_tasks_leased", "queue", "lease", **_where("lease IS NOT NULL")),
        Index("ix_tasks_dead", "project_id", "dead_at", **_where("dead_at IS NOT NULL")),
        {"sqlite_with_rowid": False},
    )


class OutboxRow(Base):
    """A record for the log, kept in the transaction that it tells of, deleted once the log has it.

    `record` is what readers get; `event_id` its identity; `lane` and `sequence` its order.
    """

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    project_id: Mapped[int] = mapped_column(Integer)
    lane: Mapped[str] = mapped_column(String(NAME))
    sequence: Mapped[int] = mapped_column(Integer)
    event_id: Mapped[str] = mapped_column(String(36))
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)
    trace_context: Mapped[str | None] = mapped_column(String(NAME))
    record: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = ({"sqlite_autoincrement": True},)
