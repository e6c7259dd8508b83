"""The audit log: who changed what, when and from where. Only ever appended to.

An entry is written in the transaction of the change, so that neither is there without the other.
It holds names and ids, never a token. The database refuses to change or delete one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nilometer.access.tables import ACTOR_LENGTH, AuditEntry, Project
from nilometer.access.types import OPERATOR, Action, Authority
from nilometer.database.engine import Database
from nilometer.domain import clock


@dataclass(frozen=True, slots=True)
class AuditInfo:
    """One action. `subject` is the id of what was acted on, `detail` what changed."""

    id: int
    at: datetime
    actor: str
    address: str | None
    action: Action
    organization_id: str
    project_id: int | None
    subject: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some entries, how many there are in all, and the id that the next page is before."""

    entries: list[AuditInfo]
    count: int
    next_before: int | None


class AuditLog:
    """Reads the log, of one organization or for the operator of all. Blocks.

    Raises DatabaseUnavailable.
    """

    def __init__(self, database: Database, authority: Authority = OPERATOR) -> None:
        self._database = database
        self._authority = authority

    def list(self, *, limit: int, before: int | None = None) -> AuditPage:
        """At most `limit` entries, newest first, of ids less than `before`."""
        query = select(AuditEntry)
        if self._authority.organization_id is not None:
            query = query.where(AuditEntry.organization_id == self._authority.organization_id)
        page = query if before is None else query.where(AuditEntry.id < before)
        page = page.order_by(AuditEntry.id.desc()).limit(limit + 1)
        with self._database.read(self._authority.rows) as session:
            count = session.scalar(select(func.count()).select_from(query.subquery())) or 0
            found = [_info(entry) for entry in session.scalars(page)]
        more = len(found) > limit
        return AuditPage(found[:limit], count, found[limit - 1].id if more else None)


def record(
    session: Session,
    authority: Authority,
    action: Action,
    *,
    organization_id: str,
    subject: str,
    project_id: int | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Append an entry, within the transaction of what it tells of."""
    session.add(
        AuditEntry(
            at=clock.now(),
            actor=authority.actor[:ACTOR_LENGTH],
            address=authority.address and authority.address[:ACTOR_LENGTH],
            action=action,
            organization_id=organization_id,
            project_id=project_id,
            subject=subject,
            detail=dict(detail or {}),
        )
    )


def record_of_project(
    session: Session,
    authority: Authority,
    action: Action,
    project: Project,
    *,
    subject: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Append an entry about a project, or about something of it (`subject`)."""
    record(
        session,
        authority,
        action,
        organization_id=project.organization_id,
        subject=subject or str(project.id),
        project_id=project.id,
        detail=detail,
    )


def _info(entry: AuditEntry) -> AuditInfo:
    return AuditInfo(
        id=entry.id,
        at=entry.at,
        actor=entry.actor,
        address=entry.address,
        action=entry.action,
        organization_id=entry.organization_id,
        project_id=entry.project_id,
        subject=entry.subject,
        detail=entry.detail,
    )
