"""Projects: made, listed, changed and given up for deletion, each with its entry in the audit log.

Deleting begins with a tombstone, in one transaction: from then on the project exists for nobody,
its keys are unknown within the keyring's 5 seconds, and the pipeline drops its records for ever.
What it had is deleted afterwards, by `deletion`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nilometer.access import audit
from nilometer.access.bounds import (
    MAX_PROJECTS,
    PROJECT_SCOPES,
    check_retention,
    check_room,
    checked_ids,
    checked_name,
    checked_redaction,
    rule_names,
)
from nilometer.access.keys import DEFAULT_NAME, issue_default, reissue
from nilometer.access.lookup import live_organization, live_project, within
from nilometer.access.tables import MAX_PROJECT_ID, Project, ProjectDeletion
from nilometer.access.types import (
    OPERATOR,
    Action,
    Authority,
    CaptureMode,
    DeletionState,
    KeyKind,
)
from nilometer.access.views import (
    DeletionInfo,
    IssuedKey,
    ProjectInfo,
    deletion_info,
    project_info,
)
from nilometer.database.engine import Database
from nilometer.domain import clock
from nilometer.errors import NotFound


class Projects:
    """The projects that an authority may act on. Blocks; safe between threads.

    A change takes effect in running processes within the keyring's 5 seconds. Every method raises
    DatabaseUnavailable, and NotFound for a project or organization that is not the authority's.
    """

    def __init__(self, database: Database, authority: Authority = OPERATOR) -> None:
        self._database = database
        self._authority = authority

    def create(self, name: str, *, organization_id: str | None = None) -> ProjectInfo:
        """A new project without a key, by default of the authority's organization, or for the
        operator of the oldest. Raises InvalidInput."""
        name = checked_name(name)
        with self._database.session(self._authority.rows) as session:
            return project_info(self._add(session, name, organization_id))

    def create_with_key(
        self, name: str, *, organization_id: str | None = None
    ) -> tuple[ProjectInfo, IssuedKey]:
        """As `create`, and its project key."""
        name = checked_name(name)
        with self._database.session(self._authority.rows) as session:
            project = self._add(session, name, organization_id)
            key = issue_default(session, self._authority, project)
            return project_info(project), key

    def list(self, organization_id: str | None = None) -> list[ProjectInfo]:
        """The projects, by id; of one organization, where one is given."""
        query = within(select(Project), Project.organization_id, self._authority)
        query = query.where(Project.tombstoned_at.is_(None)).order_by(Project.id)
        if organization_id is not None:
            query = query.where(Project.organization_id == organization_id)
        with self._database.read(self._authority.rows) as session:
            return [project_info(project) for project in session.scalars(query)]

    def get(self, project_id: int) -> ProjectInfo:
        """One project and its rules."""
        with self._database.read(self._authority.rows) as session:
            return project_info(live_project(session, self._authority, project_id))

    def change(
        self,
        project_id: int,
        *,
        name: str | None = None,
        mode: CaptureMode | None = None,
        dropped_distinct_ids: Collection[str] | None = None,
        retention_days: int | Literal["default"] | None = None,
        keep_other_spans: bool | None = None,
        redaction: Mapping[str, Any] | Literal["off"] | None = None,
    ) -> ProjectInfo:
        """Change a project's name or rules and raise their version. None leaves what it is, and
        nothing but None changes nothing.

        `dropped_distinct_ids` replaces the list; retention "default" follows the setting again.
        `redaction` replaces the rules, "off" removes them (`nilometer.domain.redaction.reading`).
        Raises InvalidInput for what is out of bounds.
        """
        check_retention(retention_days)
        given: dict[str, Any] = {
            "name": None if name is None else checked_name(name),
            "capture_mode": mode,
            "keep_other_spans": keep_other_spans,
            "dropped_distinct_ids": (
                None if dropped_distinct_ids is None else checked_ids(dropped_distinct_ids)
            ),
        }
        changes = {field: value for field, value in given.items() if value is not None}
        if retention_days is not None:
            changes["retention_days"] = None if retention_days == "default" else retention_days
        if redaction is not None:
            changes["redaction"] = None if redaction == "off" else checked_redaction(redaction)
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            if changes:
                self._apply(session, project, changes)
            return project_info(project)

    def rotate(self, project_id: int) -> IssuedKey:
        """A new project key in place of those named "default"; keys of other names stay."""
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            detail = {"name": DEFAULT_NAME}
            audit.record_of_project(
                session, self._authority, Action.PROJECT_ROTATE, project, detail=detail
            )
            return reissue(
                session, self._authority, project, KeyKind.PROJECT, DEFAULT_NAME, PROJECT_SCOPES
            )

    def delete(self, project_id: int) -> DeletionInfo:
        """Tombstone a project. There is no way back; what it had is deleted soon after."""
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            return deletion_info(tombstone(session, self._authority, project))

    def deletion(self, project_id: int) -> DeletionInfo:
        """How far a deletion has come. Raises NotFound for a project that is not being deleted."""
        query = select(ProjectDeletion).join(Project, Project.id == ProjectDeletion.project_id)
        query = within(query, Project.organization_id, self._authority)
        query = query.where(Project.id == project_id)
        with self._database.read(self._authority.rows) as session:
            found = session.scalar(query) if 1 <= project_id <= MAX_PROJECT_ID else None
            if found is None:
                raise NotFound(f"no project {project_id} is being deleted", attr="project_id")
            return deletion_info(found)

    def _add(self, session: Session, name: str, organization_id: str | None) -> Project:
        organization = live_organization(session, self._authority, organization_id)
        count = select(func.count()).where(
            Project.organization_id == organization.id, Project.tombstoned_at.is_(None)
        )
        check_room(session.scalar(count) or 0, MAX_PROJECTS, "projects of this organization")
        return add_project(session, self._authority, organization.id, name)

    def _apply(self, session: Session, project: Project, changes: dict[str, Any]) -> None:
        detail = {field: [getattr(project, field), value] for field, value in changes.items()}
        # Distinct ids are the names of people; the log, which keeps them for ever, has the count.
        if "dropped_distinct_ids" in detail:
            detail["dropped_distinct_ids"] = [len(ids) for ids in detail["dropped_distinct_ids"]]
        if "redaction" in detail:
            detail["redaction"] = [rule_names(rules) for rules in detail["redaction"]]
        for field, value in changes.items():
            setattr(project, field, value)
        project.config_version += 1
        project.updated_at = clock.now()
        audit.record_of_project(
            session, self._authority, Action.PROJECT_CHANGE, project, detail=detail
        )


def add_project(session: Session, authority: Authority, organization_id: str, name: str) -> Project:
    """A new project, within a transaction."""
    project = Project(
        organization_id=organization_id,
        name=name,
        created_at=clock.now(),
        config_version=1,
        capture_mode=CaptureMode.ACCEPT,
        dropped_distinct_ids=[],
    )
    session.add(project)
    session.flush()
    audit.record_of_project(
        session, authority, Action.PROJECT_CREATE, project, detail={"name": name}
    )
    return project


def tombstone(session: Session, authority: Authority, project: Project) -> ProjectDeletion:
    """Give a project up, within a transaction: it exists for nobody once that commits."""
    now = clock.now()
    project.tombstoned_at = now
    project.config_version += 1
    deletion = ProjectDeletion(
        project_id=project.id,
        requested_at=now,
        requested_by=authority.actor,
        state=DeletionState.PENDING,
        attempts=0,
        rows=0,
        blobs=0,
        dead_letters=0,
        keys=0,
    )
    session.add(deletion)
    audit.record_of_project(
        session, authority, Action.PROJECT_DELETE, project, detail={"name": project.name}
    )
    return deletion
