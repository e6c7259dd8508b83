"""The tables of this room: organizations, projects and API keys."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, String, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from nilometer.access.types import CaptureMode, KeyKind
from nilometer.database.engine import Base
from nilometer.database.types import UtcDateTime, stored_as_text

NAME_LENGTH = 100
"""The longest name of an organization, project or key, in characters."""

MAX_PROJECT_ID = 2**31 - 1
"""Beyond it no id is looked up: a database's integer could not hold it."""


class Organization(Base):
    """Who owns projects and personal keys."""

    __tablename__ = "organizations"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    slug: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Project(Base):
    """A tenant. Its id is never used again (AUTOINCREMENT), and its rules have a version.

    `retention_days` None follows the setting. `tombstoned_at` is set once the project is being
    deleted; its keys then stop working.
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
