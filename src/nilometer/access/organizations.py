"""Organizations: made, listed, renamed and deleted, each with its entry in the audit log."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nilometer.access import audit
from nilometer.access.bounds import MAX_ORGANIZATIONS, check_room, checked_name
from nilometer.access.keys import DEFAULT_NAME, issue, issue_default
from nilometer.access.lookup import live_organization, new_id, within
from nilometer.access.projects import add_project, tombstone
from nilometer.access.tables import NAME_LENGTH, Organization, Project
from nilometer.access.types import ALL_SCOPES, OPERATOR, Action, Authority, KeyKind
from nilometer.access.views import (
    DeletionInfo,
    IssuedKeys,
    OrganizationInfo,
    deletion_info,
    organization_info,
)
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.errors import InvalidInput


class Organizations:
    """The organizations that an authority may act on. Blocks; safe between threads.

    Every method raises DatabaseUnavailable, and NotFound for one that is not the authority's.
    """

    def __init__(self, database: Database, authority: Authority = OPERATOR) -> None:
        self._database = database
        self._authority = authority

    def create(self, name: str) -> tuple[OrganizationInfo, IssuedKeys]:
        """A new organization with a project "default", its project key, and a personal key with
        every scope: without one nobody could act on it. Raises InvalidInput.

        Its own log names the operator as its maker; the maker's log has who it was.
        """
        name = checked_name(name)
        with self._database.session(EVERY_ROW) as session:
            count = select(func.count()).where(Organization.tombstoned_at.is_(None))
            check_room(session.scalar(count) or 0, MAX_ORGANIZATIONS, "organizations")
            home = self._authority.organization_id
            if home is None:
                return add_organization(session, self._authority, name)
            made = add_organization(session, OPERATOR, name)
            subject, detail = made[0].organization_id, {"name": name}
            self._record(session, Action.ORGANIZATION_CREATE, home, detail, subject)
            return made

    def list(self) -> list[OrganizationInfo]:
        """The organizations, oldest first: for the operator all, for others their own."""
        query = within(select(Organization), Organization.id, self._authority)
        query = query.where(Organization.tombstoned_at.is_(None))
        query = query.order_by(Organization.created_at, Organization.id)
        with self._database.read(self._authority.rows) as session:
            return [organization_info(organization) for organization in session.scalars(query)]

    def get(self, organization_id: str) -> OrganizationInfo:
        """One organization."""
        with self._database.read(self._authority.rows) as session:
            return organization_info(live_organization(session, self._authority, organization_id))

    def is_first(self, organization_id: str) -> bool:
        """Whether it is the one that the deployment's first project was made in, and so the one of
        who runs it. It cannot be deleted, and no other ever takes its place."""
        with self._database.read(EVERY_ROW) as session:
            return _first(session) == organization_id

    def rename(self, organization_id: str, name: str) -> OrganizationInfo:
        """Give it another name; its slug stays. Raises InvalidInput."""
        name = checked_name(name)
        with self._database.session(self._authority.rows) as session:
            organization = live_organization(session, self._authority, organization_id)
            change = {"name": [organization.name, name]}
            organization.name, organization.updated_at = name, clock.now()
            self._record(session, Action.ORGANIZATION_RENAME, organization.id, change)
            return organization_info(organization)

    def delete(self, organization_id: str) -> list[DeletionInfo]:
        """Tombstone an organization with every project and so every key of it; returns the
        deletions of its projects.

        Raises InvalidInput for the first: nobody could operate the deployment any more.
        """
        with self._database.session(EVERY_ROW) as session:
            organization = live_organization(session, self._authority, organization_id)
            if organization.id == _first(session):
                raise InvalidInput(
                    "the first organization operates this deployment and stays; "
                    "delete projects of it, or rename it",
                    code="first_organization",
                )
            projects = session.scalars(
                select(Project).where(
                    Project.organization_id == organization.id, Project.tombstoned_at.is_(None)
                )
            )
            organization.tombstoned_at = clock.now()
            detail = {"name": organization.name}
            self._record(session, Action.ORGANIZATION_DELETE, organization.id, detail)
            deletions = [tombstone(session, self._authority, project) for project in projects]
            return [deletion_info(deletion) for deletion in deletions]

    def _record(
        self,
        session: Session,
        action: Action,
        organization_id: str,
        detail: Mapping[str, object],
        subject: str | None = None,
    ) -> None:
        audit.record(
            session,
            self._authority,
            action,
            organization_id=organization_id,
            subject=subject or organization_id,
            detail=detail,
        )


def add_organization(
    session: Session, authority: Authority, name: str, personal_key: str | None = None
) -> tuple[OrganizationInfo, IssuedKeys]:
    """A new organization, its first project and their keys, within a transaction.

    `personal_key` is the personal key's token, if the operator chose one.
    """
    organization = Organization(
        id=new_id(), name=name, slug=_new_slug(session, name), created_at=clock.now()
    )
    session.add(organization)
    session.flush()
    audit.record(
        session,
        authority,
        Action.ORGANIZATION_CREATE,
        organization_id=organization.id,
        subject=organization.id,
        detail={"name": name},
    )
    project = add_project(session, authority, organization.id, DEFAULT_NAME)
    keys = IssuedKeys(
        organization_id=organization.id,
        project_id=project.id,
        project_key=issue_default(session, authority, project),
        personal_key=issue(
            session, authority, project, KeyKind.PERSONAL, DEFAULT_NAME, ALL_SCOPES, personal_key
        ),
        to_print=personal_key is None,
    )
    return organization_info(organization), keys


def _first(session: Session) -> str | None:
    return session.scalar(select(Project.organization_id).order_by(Project.id).limit(1))


def _new_slug(session: Session, name: str) -> str:
    """The name as it may stand in a URL, with a random end when another has it."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[: NAME_LENGTH - 12]
    slug = slug or "organization"
    if session.scalar(select(Organization.id).where(Organization.slug == slug)) is None:
        return slug
    return f"{slug}-{secrets.token_hex(4)}"
