"""Makes and changes organizations, projects and keys: the rules, each in one transaction."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from nilometer.access import tokens
from nilometer.access.tables import MAX_PROJECT_ID, NAME_LENGTH, ApiKey, Organization, Project
from nilometer.access.types import ALL_SCOPES, CaptureMode, KeyKind, Scope
from nilometer.database.engine import Database
from nilometer.domain import clock
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import InvalidInput, NotFound

MAX_DROPPED_IDS = 1000
MAX_DISTINCT_ID = 1000
"""The longest distinct id that can be dropped, in characters."""
MAX_RETENTION_DAYS = 36500

_PROJECT_SCOPES = frozenset({Scope.CAPTURE})


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key at the only moment its token is known. The token is never in the repr."""

    key_id: str
    kind: KeyKind
    name: str
    project_id: int
    scopes: frozenset[Scope]
    mask: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class IssuedKeys:
    """What the first start made. Print the tokens once if `to_print`, else never: the operator
    chose the personal key and has it."""

    organization_id: str
    project_id: int
    project_key: IssuedKey
    personal_key: IssuedKey
    to_print: bool


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key as lists show it. `mask` is a part of its token, enough to tell two apart."""

    key_id: str
    kind: KeyKind
    name: str
    project_id: int
    scopes: frozenset[Scope]
    mask: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class ProjectInfo:
    """A project and its rules. `retention_days` None follows the setting."""

    project_id: int
    organization_id: str
    name: str
    created_at: datetime
    config_version: int
    capture: CaptureMode
    dropped_distinct_ids: frozenset[str]
    retention_days: int | None


class Accounts:
    """The organizations, projects and keys of one deployment. Blocks; safe between threads.

    Every method raises DatabaseUnavailable when the database is away. A change takes effect in
    running processes within the keyring's 5 seconds.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def bootstrap(self, personal_key: str | None) -> IssuedKeys | None:
        """Make the organization and project 1 "default", a project key and a personal key.

        Only in a database without any organization; else, and for all but one of several
        processes at once, None. `personal_key` is the personal key's token if given.
        """
        with self._database.session() as session:
            if session.scalar(select(Organization.id).limit(1)) is not None:
                return None
            organization = Organization(
                id=str(uuid4()), name="default", slug="default", created_at=clock.now()
            )
            session.add(organization)
            session.flush()
            project = _add_project(session, organization.id, "default")
            return IssuedKeys(
                organization_id=organization.id,
                project_id=project.id,
                project_key=_issue(session, project, KeyKind.PROJECT, "default", _PROJECT_SCOPES),
                personal_key=_issue(
                    session, project, KeyKind.PERSONAL, "default", ALL_SCOPES, personal_key
                ),
                to_print=personal_key is None,
            )

    def create_key(
        self, *, kind: KeyKind, project_id: int, name: str, scopes: Collection[Scope]
    ) -> IssuedKey:
        """A new key. A project key captures and takes no other scope; a personal key needs one.

        Raises NotFound for the project, InvalidInput for the name or scopes.
        """
        name, granted = _checked_name(name), _checked_scopes(kind, scopes)
        with self._database.session() as session:
            return _issue(session, _project(session, project_id), kind, name, granted)

    def rotate_named(
        self, *, kind: KeyKind, project_id: int, name: str, scopes: Collection[Scope]
    ) -> IssuedKey:
        """Revoke the live keys of this name, kind and project and make a new one, or neither.

        Raises as `create_key` does.
        """
        name, granted = _checked_name(name), _checked_scopes(kind, scopes)
        with self._database.session() as session:
            project = _project(session, project_id)
            session.execute(
                update(ApiKey)
                .where(
                    ApiKey.project_id == project_id,
                    ApiKey.kind == kind,
                    ApiKey.name == name,
                    ApiKey.revoked_at.is_(None),
                )
                .values(revoked_at=clock.now())
            )
            return _issue(session, project, kind, name, granted)

    def list_keys(self, project_id: int | None) -> list[KeyInfo]:
        """The keys of one project, revoked ones too, or (for the operator) of all, oldest first."""
        query = select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)
        if project_id is not None:
            query = query.where(ApiKey.project_id == project_id)
        with self._database.read() as session:
            return [_key_info(key) for key in session.scalars(query)]

    def revoke_key(self, key_id: str) -> KeyInfo:
        """End a key for good; one already revoked keeps its time. Raises NotFound."""
        with self._database.session() as session:
            key = session.get(ApiKey, _key_id(key_id))
            if key is None:
                raise NotFound("there is no key with this id", attr="key_id")
            key.revoked_at = key.revoked_at or clock.now()
            return _key_info(key)

    def create_project(self, name: str, *, organization_id: str | None = None) -> ProjectInfo:
        """A new project, by default in the first organization. Raises NotFound, InvalidInput."""
        name = _checked_name(name)
        query = select(Organization.id).order_by(Organization.created_at).limit(1)
        if organization_id is not None:
            query = query.where(Organization.id == organization_id)
        with self._database.session() as session:
            found = session.scalar(query)
            if found is None:
                raise NotFound("there is no such organization; start `nilometer serve` once first")
            return _project_info(_add_project(session, found, name))

    def list_projects(self) -> list[ProjectInfo]:
        """Every project of the deployment, for the operator, by id."""
        query = select(Project).where(Project.tombstoned_at.is_(None)).order_by(Project.id)
        with self._database.read() as session:
            return [_project_info(project) for project in session.scalars(query)]

    def set_capture(
        self,
        project_id: int,
        mode: CaptureMode | None = None,
        dropped_distinct_ids: Collection[str] | None = None,
        retention_days: int | Literal["default"] | None = None,
    ) -> ProjectInfo:
        """Change a project's rules and raise their version. None leaves a rule as it is.

        `dropped_distinct_ids` replaces the list; retention "default" follows the setting again.
        Raises NotFound, and InvalidInput for what is out of bounds.
        """
        dropped = None if dropped_distinct_ids is None else _checked_ids(dropped_distinct_ids)
        _check_retention(retention_days)
        with self._database.session() as session:
            project = _project(session, project_id)
            if mode is not None:
                project.capture_mode = mode
            if dropped is not None:
                project.dropped_distinct_ids = dropped
            if retention_days is not None:
                project.retention_days = None if retention_days == "default" else retention_days
            project.config_version += 1
            return _project_info(project)


def _add_project(session: Session, organization_id: str, name: str) -> Project:
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
    return project


def _issue(
    session: Session,
    project: Project,
    kind: KeyKind,
    name: str,
    scopes: frozenset[Scope],
    token: str | None = None,
) -> IssuedKey:
    token = token or tokens.generate(kind)
    key = ApiKey(
        id=str(uuid4()),
        kind=kind,
        name=name,
        token_hash=tokens.digest(token),
        mask=tokens.mask(token),
        organization_id=project.organization_id,
        project_id=project.id,
        scopes=sorted(scopes),
        created_at=clock.now(),
    )
    session.add(key)
    session.flush()
    return IssuedKey(key.id, kind, name, project.id, scopes, key.mask, token)


def _project(session: Session, project_id: int) -> Project:
    known = 1 <= project_id <= MAX_PROJECT_ID
    project = session.get(Project, project_id) if known else None
    if project is None or project.tombstoned_at is not None:
        raise NotFound(f"there is no project {project_id}", attr="project_id")
    return project


def _key_id(text: str) -> str:
    try:
        return canonical_uuid(text)
    except ValueError:
        raise NotFound(
            "this is not the id of a key; `nilometer keys list` shows them", attr="key_id"
        ) from None


def _key_info(key: ApiKey) -> KeyInfo:
    return KeyInfo(
        key_id=key.id,
        kind=key.kind,
        name=key.name,
        project_id=key.project_id,
        scopes=frozenset(scope for scope in Scope if scope.value in key.scopes),
        mask=key.mask,
        created_at=key.created_at,
        revoked_at=key.revoked_at,
    )


def _project_info(project: Project) -> ProjectInfo:
    return ProjectInfo(
        project_id=project.id,
        organization_id=project.organization_id,
        name=project.name,
        created_at=project.created_at,
        config_version=project.config_version,
        capture=project.capture_mode,
        dropped_distinct_ids=frozenset(project.dropped_distinct_ids),
        retention_days=project.retention_days,
    )


def _checked_name(name: str) -> str:
    stripped = name.strip()
    # Printable, so that a name cannot move the cursor of the terminal that lists it.
    if not 1 <= len(stripped) <= NAME_LENGTH or not stripped.isprintable():
        raise InvalidInput(f"give a name of 1 to {NAME_LENGTH} printable characters", attr="name")
    return stripped


def _checked_scopes(kind: KeyKind, scopes: Collection[Scope]) -> frozenset[Scope]:
    granted = frozenset(scopes)
    if kind is KeyKind.PROJECT:
        if not granted <= _PROJECT_SCOPES:
            raise InvalidInput("a project key captures, nothing else", attr="scopes")
        return _PROJECT_SCOPES
    if not granted:
        names = ", ".join(sorted(ALL_SCOPES))
        raise InvalidInput(
            f"say what the personal key may do, with scopes among: {names}", attr="scopes"
        )
    return granted


def _checked_ids(distinct_ids: Collection[str]) -> list[str]:
    kept = sorted(set(distinct_ids))
    if len(kept) > MAX_DROPPED_IDS:
        raise InvalidInput(
            f"at most {MAX_DROPPED_IDS} distinct ids can be dropped", attr="dropped_distinct_ids"
        )
    if not all(1 <= len(distinct_id) <= MAX_DISTINCT_ID for distinct_id in kept):
        raise InvalidInput(
            f"a distinct id has 1 to {MAX_DISTINCT_ID} characters", attr="dropped_distinct_ids"
        )
    return kept


def _check_retention(days: int | Literal["default"] | None) -> None:
    if isinstance(days, int) and not 1 <= days <= MAX_RETENTION_DAYS:
        raise InvalidInput(
            f"retention is 1 to {MAX_RETENTION_DAYS} days, or the default", attr="retention_days"
        )
