"""The way in to this room: organizations, projects, keys and the audit log under one authority."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from sqlalchemy import select

from nilometer.access.audit import AuditLog
from nilometer.access.keys import DEFAULT_NAME, Keys
from nilometer.access.organizations import Organizations, add_organization
from nilometer.access.price_overrides import PriceOverrides
from nilometer.access.projects import Projects
from nilometer.access.tables import Organization
from nilometer.access.types import OPERATOR, Authority, CaptureMode, KeyKind, Scope
from nilometer.access.views import IssuedKey, IssuedKeys, KeyInfo, ProjectInfo
from nilometer.database.engine import Database

__all__ = ["Accounts", "IssuedKey", "IssuedKeys", "KeyInfo", "ProjectInfo"]

_FIRST_START = Authority("first start", None, None)


class Accounts:
    """The organizations, projects and keys of one deployment, as far as an authority reaches.

    Blocks; safe between threads. Every method raises DatabaseUnavailable when the database is
    away. A change takes effect in running processes within the keyring's 5 seconds.
    """

    def __init__(self, database: Database, authority: Authority = OPERATOR) -> None:
        self._database = database
        self.organizations = Organizations(database, authority)
        self.projects = Projects(database, authority)
        self.keys = Keys(database, authority)
        self.audit = AuditLog(database, authority)
        self.price_overrides = PriceOverrides(database, authority)

    def acting_as(self, authority: Authority) -> Accounts:
        """The same accounts under another authority, which the audit log then names."""
        return Accounts(self._database, authority)

    def bootstrap(self, personal_key: str | None) -> IssuedKeys | None:
        """Make the organization and project 1 "default", a project key and a personal key.

        Only in a database that never had an organization; else, and for all but one of several
        processes at once, None. `personal_key` is the personal key's token if given.
        """
        with self._database.session() as session:
            if session.scalar(select(Organization.id).limit(1)) is not None:
                return None
            return add_organization(session, _FIRST_START, DEFAULT_NAME, personal_key)[1]

    def create_key(
        self, *, kind: KeyKind, project_id: int, name: str, scopes: Collection[Scope]
    ) -> IssuedKey:
        """See `Keys.create`."""
        return self.keys.create(kind=kind, project_id=project_id, name=name, scopes=scopes)

    def rotate_named(
        self, *, kind: KeyKind, project_id: int, name: str, scopes: Collection[Scope]
    ) -> IssuedKey:
        """See `Keys.rotate_named`."""
        return self.keys.rotate_named(kind=kind, project_id=project_id, name=name, scopes=scopes)

    def list_keys(self, project_id: int | None) -> list[KeyInfo]:
        """See `Keys.list`."""
        return self.keys.list(project_id)

    def revoke_key(self, key_id: str) -> KeyInfo:
        """See `Keys.revoke`."""
        return self.keys.revoke(key_id)

    def create_project(self, name: str, *, organization_id: str | None = None) -> ProjectInfo:
        """See `Projects.create`."""
        return self.projects.create(name, organization_id=organization_id)

    def list_projects(self) -> list[ProjectInfo]:
        """See `Projects.list`."""
        return self.projects.list()

    def set_capture(
        self,
        project_id: int,
        mode: CaptureMode | None = None,
        dropped_distinct_ids: Collection[str] | None = None,
        retention_days: int | Literal["default"] | None = None,
    ) -> ProjectInfo:
        """See `Projects.change`."""
        return self.projects.change(
            project_id,
            mode=mode,
            dropped_distinct_ids=dropped_distinct_ids,
            retention_days=retention_days,
        )
