"""The tables of this room: organizations, projects, API keys, deletions and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from nilometer.access.types import Action, CaptureMode, DeletionState, KeyKind
from nilometer.database.engine import Base
from nilometer.database.types import UtcDateTime, stored_as_text

NAME_LENGTH = 100
"""The longest name of an organization, project or key, in characters."""

ACTOR_LENGTH = 200
"""The longest name of who did something, and of where from, in characters."""

MAX_PROJECT_ID = 2**31 - 1
"""Beyond it no id is looked up: a database's integer could not hold it."""


class Organization(Base):
    """Who owns projects and personal keys. With `tombstoned_at` set it exists for nobody; the row
    stays, so that its id and slug are never another's."""

    __tablename__ = "organizations"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    slug: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    tombstoned_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Project(Base):
    """A tenant. Its id is never used again (AUTOINCREMENT), and its rules have a version.

    `retention_days` None follows the setting; `keep_other_spans` None is true; `redaction` is as
    `nilometer.domain.redaction.reading` takes it, None for none. `tombstoned_at` is
    set once the project is being deleted; its keys then stop working. The row stays for ever: it is
    what tells the pipeline to drop a late record of the project.
    """

    __tablename__ = "projects"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[str] = mapped_column(ForeignKey(Organization.id), index=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    config_version: Mapped[int] = mapped_column(default=1)
    capture_mode: Mapped[CaptureMode] = mapped_column(
        stored_as_text(CaptureMode), default=CaptureMode.ACCEPT
    )
    dropped_distinct_ids: Mapped[list[str]] = mapped_column(JSON, default=list)
    retention_days: Mapped[int | None]
    keep_other_spans: Mapped[bool | None]
    redaction: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    updated_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    tombstoned_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ApiKey(Base):
    """A credential. Only the SHA-256 of its token is kept (hexadecimal), and a mask to show."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    kind: Mapped[KeyKind] = mapped_column(stored_as_text(KeyKind))
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    mask: Mapped[str] = mapped_column(String(32))
    organization_id: Mapped[str] = mapped_column(ForeignKey(Organization.id), index=True)
    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id), index=True)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ProjectDeletion(Base):
    """How far the deletion of a project has come. The counts are of what was found and deleted.

    `last_error` is the code of the error that the last attempt ended with, None after a success.
    `verified_at` is when a second look, long after the last request could still be under way, found
    nothing or deleted what it found.
    """

    __tablename__ = "project_deletions"

    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id), primary_key=True)
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    requested_by: Mapped[str] = mapped_column(String(ACTOR_LENGTH))
    state: Mapped[DeletionState] = mapped_column(stored_as_text(DeletionState))
    attempts: Mapped[int] = mapped_column(default=0)
    last_error: Mapped[str | None] = mapped_column(String(100))
    rows: Mapped[int] = mapped_column(BigInteger, default=0)
    blobs: Mapped[int] = mapped_column(BigInteger, default=0)
    dead_letters: Mapped[int] = mapped_column(BigInteger, default=0)
    keys: Mapped[int] = mapped_column(default=0)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    verified_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PriceOverride(Base):
    """A price of an operator's own, for one project or for all (None). Prices are decimal text by
    bucket and unit; `alias` is `provider/model` instead. Checked by `nilometer.pricing.overrides`.
    """

    __tablename__ = "price_overrides"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    project_id: Mapped[int | None] = mapped_column(ForeignKey(Project.id), index=True)
    provider: Mapped[str] = mapped_column(String(512))
    model: Mapped[str] = mapped_column(String(512))
    effective_from: Mapped[datetime] = mapped_column(UtcDateTime)
    effective_to: Mapped[datetime | None] = mapped_column(UtcDateTime)
    per_million_tokens: Mapped[dict[str, str]] = mapped_column(JSON)
    per_unit: Mapped[dict[str, str]] = mapped_column(JSON)
    alias: Mapped[str | None] = mapped_column(String(1100))
    region: Mapped[str] = mapped_column(String(512))
    tier: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class AuditEntry(Base):
    """One management action. The database itself refuses to change or delete a row (triggers of
    migration 0002), and no id is used twice.

    Nothing here refers to another table, because an entry outlives what it is about. `detail` never
    holds a token.
    """

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(String(ACTOR_LENGTH))
    address: Mapped[str | None] = mapped_column(String(ACTOR_LENGTH))
    action: Mapped[Action] = mapped_column(stored_as_text(Action))
    organization_id: Mapped[str] = mapped_column(Uuid(as_uuid=False))
    project_id: Mapped[int | None]
    subject: Mapped[str] = mapped_column(String(NAME_LENGTH))
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)

    __table_args__ = (
        Index("ix_audit_log_newest", "organization_id", "id"),
        {"sqlite_autoincrement": True},
    )
