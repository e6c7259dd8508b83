"""The table of packs. A version's document is written once; only its state changes."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from nilometer.access.tables import Project
from nilometer.database.engine import Base
from nilometer.database.types import UtcDateTime, stored_as_text

NAME_LENGTH = 64
ACTOR_LENGTH = 232


class PackState(StrEnum):
    """A draft until it is activated, and deprecated once another version is in its place."""

    DRAFT = "draft"
    ACTIVE = "active"
    DEPRECATED = "deprecated"


class PackRow(Base):
    """A version of a pack. `digest` is the SHA-256 of the document; `changed` is the last change of
    its state."""

    __tablename__ = "packs"

    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[PackState] = mapped_column(stored_as_text(PackState))
    digest: Mapped[str] = mapped_column(String(64))
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_by: Mapped[str] = mapped_column(String(ACTOR_LENGTH))
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    changed_by: Mapped[str] = mapped_column(String(ACTOR_LENGTH))

    __table_args__ = (
        # Of one name at most one is active: the database says so, whoever activates.
        Index(
            "uq_packs_active",
            *("project_id", "name"),
            unique=True,
            sqlite_where=text("state = 'active'"),
            postgresql_where=text("state = 'active'"),
        ),
    )
