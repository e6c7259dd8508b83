"""Keys: made, listed, renamed, rotated and revoked, each with its entry in the audit log."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nilometer.access import audit, tokens
from nilometer.access.bounds import (
    MAX_KEYS,
    PROJECT_SCOPES,
    check_room,
    checked_name,
    checked_scopes,
)
from nilometer.access.lookup import live_project, new_id, within
from nilometer.access.tables import ApiKey, Project
from nilometer.access.types import OPERATOR, Action, Authority, KeyKind, Scope
from nilometer.access.views import IssuedKey, KeyInfo, issued_key, key_info
from nilometer.database.engine import Database
from nilometer.domain import clock
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import InvalidInput, NotFound

DEFAULT_NAME = "default"
"""The name of the project key that comes with a project."""


class Keys:
    """The keys that an authority may act on. Blocks; safe between threads.

    A change takes effect in running processes within the keyring's 5 seconds. Every method raises
    DatabaseUnavailable, and NotFound for a project or key that is not the authority's.
    """

    def __init__(self, database: Database, authority: Authority = OPERATOR) -> None:
        self._database = database
        self._authority = authority

    def create(
        self, *, kind: KeyKind, project_id: int, name: str, scopes: Collection[Scope]
    ) -> IssuedKey:
        """A new key. A project key captures and takes no other scope; a personal key needs one.

        Raises InvalidInput for the name or scopes, and when a project has too many keys.
        """
        name, granted = checked_name(name), checked_scopes(kind, scopes)
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            return issue(session, self._authority, project, kind, name, granted)

    def list(self, project_id: int | None) -> list[KeyInfo]:
        """The keys of a project, or of all, oldest first; revoked ones too, and none of a project
        that is being deleted."""
        query = within(select(ApiKey), ApiKey.organization_id, self._authority)
        query = query.join(Project, Project.id == ApiKey.project_id)
        query = query.where(Project.tombstoned_at.is_(None))
        with self._database.read(self._authority.rows) as session:
            if project_id is not None:
                live_project(session, self._authority, project_id)
                query = query.where(ApiKey.project_id == project_id)
            keys = session.scalars(query.order_by(ApiKey.created_at, ApiKey.id))
            return [key_info(key) for key in keys]

    def get(self, key_id: str, project_id: int | None = None) -> KeyInfo:
        """One key; of this project, where one is given."""
        with self._database.read(self._authority.rows) as session:
            return key_info(self._find(session, key_id, project_id))

    def rename(self, key_id: str, name: str, project_id: int | None = None) -> KeyInfo:
        """Give the key another name. Raises InvalidInput."""
        name = checked_name(name)
        with self._database.session(self._authority.rows) as session:
            key = self._find(session, key_id, project_id)
            change = {"name": [key.name, name]}
            key.name = name
            self._record(session, Action.KEY_RENAME, key, change)
            return key_info(key)

    def rotate(self, key_id: str, project_id: int | None = None) -> IssuedKey:
        """Put a new token in place of the key's; id, name and scopes stay. Raises InvalidInput for
        a key that was revoked."""
        with self._database.session(self._authority.rows) as session:
            key = self._find(session, key_id, project_id)
            if key.revoked_at is not None:
                raise InvalidInput("this key was revoked; create another", code="revoked")
            before, token = key.mask, tokens.generate(key.kind)
            key.token_hash, key.mask = tokens.digest(token), tokens.mask(token)
            self._record(session, Action.KEY_ROTATE, key, {"mask": [before, key.mask]})
            return issued_key(key, token)

    def rotate_named(
        self, *, kind: KeyKind, project_id: int, name: str, scopes: Collection[Scope]
    ) -> IssuedKey:
        """Revoke the live keys of this name, kind and project and make a new one, or neither.

        Raises as `create` does.
        """
        name, granted = checked_name(name), checked_scopes(kind, scopes)
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            return reissue(session, self._authority, project, kind, name, granted)

    def revoke(self, key_id: str, project_id: int | None = None) -> KeyInfo:
        """End a key for good; one already revoked keeps its time."""
        with self._database.session(self._authority.rows) as session:
            return revoke(session, self._authority, key_id, project_id)

    def _find(self, session: Session, key_id: str, project_id: int | None) -> ApiKey:
        return _find(session, self._authority, key_id, project_id)

    def _record(
        self, session: Session, action: Action, key: ApiKey, detail: Mapping[str, object]
    ) -> None:
        _record(session, self._authority, action, key, detail)


def revoke(
    session: Session, authority: Authority, key_id: str, project_id: int | None = None
) -> KeyInfo:
    """As `Keys.revoke`, within the caller's transaction, which may write rows of the key's
    project."""
    key = _find(session, authority, key_id, project_id)
    if key.revoked_at is None:
        key.revoked_at = clock.now()
        _record(session, authority, Action.KEY_REVOKE, key, {"name": key.name, "mask": key.mask})
    return key_info(key)


def issue(
    session: Session,
    authority: Authority,
    project: Project,
    kind: KeyKind,
    name: str,
    scopes: frozenset[Scope],
    token: str | None = None,
) -> IssuedKey:
    """A new key of the project, within a transaction; with this token, if one is given.

    Raises InvalidInput when the project has as many live keys as it may.
    """
    live = select(func.count()).where(ApiKey.project_id == project.id, ApiKey.revoked_at.is_(None))
    check_room(session.scalar(live) or 0, MAX_KEYS, "live keys of this project")
    token = token or tokens.generate(kind)
    key = ApiKey(
        id=new_id(),
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
    detail = {"name": name, "kind": kind, "scopes": sorted(scopes), "mask": key.mask}
    audit.record_of_project(
        session, authority, Action.KEY_CREATE, project, subject=key.id, detail=detail
    )
    return issued_key(key, token)


def issue_default(session: Session, authority: Authority, project: Project) -> IssuedKey:
    """The project key that comes with a new project."""
    return issue(session, authority, project, KeyKind.PROJECT, DEFAULT_NAME, PROJECT_SCOPES)


def reissue(
    session: Session,
    authority: Authority,
    project: Project,
    kind: KeyKind,
    name: str,
    scopes: frozenset[Scope],
) -> IssuedKey:
    """Revoke the live keys of this name and kind and issue a new one, within a transaction."""
    live = select(ApiKey).where(
        ApiKey.project_id == project.id,
        ApiKey.kind == kind,
        ApiKey.name == name,
        ApiKey.revoked_at.is_(None),
    )
    for key in session.scalars(live):
        key.revoked_at = clock.now()
        detail = {"name": key.name, "mask": key.mask}
        audit.record_of_project(
            session, authority, Action.KEY_REVOKE, project, subject=key.id, detail=detail
        )
    return issue(session, authority, project, kind, name, scopes)


def _find(session: Session, authority: Authority, key_id: str, project_id: int | None) -> ApiKey:
    query = within(select(ApiKey), ApiKey.organization_id, authority)
    query = query.join(Project, Project.id == ApiKey.project_id)
    query = query.where(ApiKey.id == _canonical(key_id), Project.tombstoned_at.is_(None))
    if project_id is not None:
        query = query.where(ApiKey.project_id == project_id)
    key = session.scalar(query)
    if key is None:
        raise NotFound("there is no key with this id", attr="key_id")
    return key


def _record(
    session: Session,
    authority: Authority,
    action: Action,
    key: ApiKey,
    detail: Mapping[str, object],
) -> None:
    audit.record(
        session,
        authority,
        action,
        organization_id=key.organization_id,
        subject=key.id,
        project_id=key.project_id,
        detail=detail,
    )


def _canonical(key_id: str) -> str:
    try:
        return canonical_uuid(key_id)
    except ValueError:
        raise NotFound(
            "this is not the id of a key; `nilometer keys list` shows them", attr="key_id"
        ) from None
