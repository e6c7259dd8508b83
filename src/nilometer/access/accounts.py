"""The way in to this room: organizations, projects, keys and the audit log under one authority."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from nilometer.access.audit import AuditLog
from nilometer.access.keys import DEFAULT_NAME, Keys
from nilometer.access.organizations import Organizations, add_organization
from nilometer.access.price_overrides import PriceOverrides
from nilometer.access.projects import Projects
from nilometer.access.tables import Organization
from nilometer.access.types import OPERATOR, Authority
from nilometer.access.views import IssuedKey, IssuedKeys, KeyInfo, ProjectInfo
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW

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

    def bootstrap(
        self, personal_key: str | None, require: Callable[[Session], None] | None = None
    ) -> IssuedKeys | None:
        """Make the organization and project 1 "default", a project key and a personal key.

        Only in a database that never had an organization; else, and for all but one of several
        processes at once, None. `personal_key` is the personal key's token if given. `require`
        looks at the database in the same transaction, before anything else, and may raise.
        """
        with self._database.session(EVERY_ROW) as session:
            if require is not None:
                require(session)
            if session.scalar(select(Organization.id).limit(1)) is not None:
                return None
            return add_organization(session, _FIRST_START, DEFAULT_NAME, personal_key)[1]

    def create_project(self, name: str, *, organization_id: str | None = None) -> ProjectInfo:
        """See `Projects.create`."""
        return self.projects.create(name, organization_id=organization_id)
