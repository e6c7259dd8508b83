"""Finds rows within an authority: the one place that adds its organization to a statement."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import Select, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from nilometer.access.tables import MAX_PROJECT_ID, Organization, Project
from nilometer.access.types import Authority
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import NotFound


def within(
    query: Select[Any], organization: InstrumentedAttribute[str], authority: Authority
) -> Select[Any]:
    """The statement, limited to the authority's organization unless it is the operator's."""
    if authority.organization_id is None:
        return query
    return query.where(organization == authority.organization_id)


def live_project(session: Session, authority: Authority, project_id: int) -> Project:
    """A project that is not being deleted. Raises NotFound, the same for others' and none."""
    query = within(select(Project), Project.organization_id, authority)
    query = query.where(Project.id == project_id, Project.tombstoned_at.is_(None))
    project = session.scalar(query) if 1 <= project_id <= MAX_PROJECT_ID else None
    if project is None:
        raise NotFound(f"there is no project {project_id}", attr="project_id")
    return project


def live_organization(
    session: Session, authority: Authority, organization_id: str | None
) -> Organization:
    """The organization of this id, by default the authority's own, or the operator's oldest.

    Raises NotFound, the same for others' and none.
    """
    query = within(select(Organization), Organization.id, authority)
    query = query.where(Organization.tombstoned_at.is_(None))
    if organization_id is not None:
        query = query.where(Organization.id == _canonical(organization_id))
    found = session.scalar(query.order_by(Organization.created_at).limit(1))
    if found is None:
        raise NotFound("there is no such organization; start `nilometer serve` once first")
    return found


def new_id() -> str:
    """A random UUID text."""
    return str(uuid4())


def _canonical(organization_id: str) -> str:
    try:
        return canonical_uuid(organization_id)
    except ValueError:
        raise NotFound("this is not the id of an organization", attr="organization_id") from None
