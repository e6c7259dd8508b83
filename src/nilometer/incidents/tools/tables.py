"""The tables of this room: tools, their secrets, what they were executed for, and breakers."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Boolean, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from nilometer.access.tables import Project
from nilometer.database.engine import Base
from nilometer.database.types import UtcDateTime, stored_as_text

TOOL_NAME = 100
EXECUTION_ID = 64


class ExecutionState(StrEnum):
    """What is known of an execution: an attempt is under way, or its process died; the last attempt
    succeeded, or failed; nobody knows."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


class BreakerState(StrEnum):
    """Whether calls go through: all; none until its time is over; one, whose outcome decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class ToolRow(Base):
    """A tool as a project defined it. A built-in one has a row only once it was changed.

    `kind` is text, not a type: a newer release may have written one that this one does not know.
    """

    __tablename__ = "tools"

    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id), primary_key=True)
    name: Mapped[str] = mapped_column(String(TOOL_NAME), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    description: Mapped[str] = mapped_column(Text)
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    input_schema: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    output_schema: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    enabled: Mapped[bool] = mapped_column(Boolean)
    max_concurrency: Mapped[int]
    breaker_failures: Mapped[int]
    breaker_seconds: Mapped[int]
    version: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ToolSecretRow(Base):
    """A secret of one tool, in clear: who can read the database, can call in its name. Never given
    back. Of a signing secret that is being replaced, `previous` signs as well until then."""

    __tablename__ = "tool_secrets"

    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id), primary_key=True)
    tool: Mapped[str] = mapped_column(String(TOOL_NAME), primary_key=True)
    name: Mapped[str] = mapped_column(String(TOOL_NAME), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    previous: Mapped[str | None] = mapped_column(Text)
    previous_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ExecutionRow(Base):
    """One execution of a tool for an incident, over all its attempts. `input` and `output` are as
    the project's redaction rules left them, and without the tool's secrets. `began_at` is of the
    first attempt, `attempted_at` of the last. `decided_by` is the person who said what became of an
    unknown one."""

    __tablename__ = "tool_executions"

    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id), primary_key=True)
    id: Mapped[str] = mapped_column(String(EXECUTION_ID), primary_key=True)
    incident_id: Mapped[str] = mapped_column(String(64))
    tool: Mapped[str] = mapped_column(String(TOOL_NAME))
    kind: Mapped[str] = mapped_column(String(32))
    tool_version: Mapped[int]
    state: Mapped[ExecutionState] = mapped_column(stored_as_text(ExecutionState))
    dry_run: Mapped[bool] = mapped_column(Boolean)
    attempts: Mapped[int]
    input: Mapped[dict[str, Any]] = mapped_column(JSON)
    output: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    error_code: Mapped[str | None] = mapped_column(String(100))
    error: Mapped[str | None] = mapped_column(Text)
    error_class: Mapped[str | None] = mapped_column(String(32))
    traceparent: Mapped[str | None] = mapped_column(String(64))
    decided_by: Mapped[str | None] = mapped_column(String(200))
    began_at: Mapped[datetime] = mapped_column(UtcDateTime)
    attempted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (
        Index("ix_tool_executions_newest", "project_id", "began_at", "id"),
        Index("ix_tool_executions_incident", "project_id", "incident_id", "began_at"),
    )


class BreakerRow(Base):
    """The breaker of one tool of one project; no row is a closed one without failures.

    `failures` are those in a row. While it is open, nothing goes through until `retry_at`; while it
    is half open, `probe` names the one execution that does, until `probe_until`: a probe whose
    process died must not keep it half open.
    """

    __tablename__ = "tool_breakers"

    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id), primary_key=True)
    tool: Mapped[str] = mapped_column(String(TOOL_NAME), primary_key=True)
    state: Mapped[BreakerState] = mapped_column(stored_as_text(BreakerState))
    failures: Mapped[int]
    opened_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    retry_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    probe: Mapped[str | None] = mapped_column(String(EXECUTION_ID))
    probe_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
