"""Packs as a project keeps them: versions that are never changed, one active of each name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from nilometer.access import audit
from nilometer.access.bounds import check_room
from nilometer.access.lookup import live_project
from nilometer.access.types import OPERATOR, Action, Authority
from nilometer.database.engine import Database
from nilometer.database.fence import rows_of_project
from nilometer.domain import clock
from nilometer.errors import NotFound
from nilometer.incidents.packs.reading import parse_pack
from nilometer.incidents.packs.tables import ACTOR_LENGTH, NAME_LENGTH, PackRow, PackState

MAX_VERSIONS = 1000
"""Of one name."""
MAX_NAMES = 50
"""Of one project."""
MAX_VERSION = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ListedPack:
    """One version, without its document. `changed_at` is when its state was last changed."""

    project_id: int
    name: str
    version: int
    state: PackState
    digest: str
    created_at: datetime
    created_by: str
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True, slots=True)
class StoredPack(ListedPack):
    """One version, whole."""

    document: Mapping[str, Any] = field(repr=False)


_LISTED = [getattr(PackRow, each.name) for each in fields(ListedPack)]


class Packs:
    """The packs that an authority may act on. Blocks; safe between threads.

    Every method raises DatabaseUnavailable, and NotFound for a project that is not the authority's,
    or a version that the project does not have.
    """

    def __init__(self, database: Database, authority: Authority = OPERATOR) -> None:
        self._database = database
        self._authority = authority

    def acting_as(self, authority: Authority) -> Packs:
        """The same for somebody else."""
        return Packs(self._database, authority)

    def add(self, project_id: int, document: Mapping[str, Any]) -> StoredPack:
        """Add a draft, of the version after the last. The document that the last version has is not
        added again: that version is returned. Raises PackInvalid."""
        pack = parse_pack(document)
        digest = digest_of(document)
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            last = _last(session, project_id, pack.name)
            if last is not None and last.digest == digest:
                return _stored(last)
            _check_room(session, project_id, last)
            row = self._row(project_id, pack.name, last, document, digest)
            session.add(row)
            detail = {"name": row.name, "version": row.version, "digest": digest}
            subject = f"{row.name} {row.version}"
            audit.record_of_project(
                session,
                self._authority,
                Action.PACK_ADD,
                project,
                subject=subject,
                detail=detail,
            )
            return _stored(row)

    def activate(self, project_id: int, name: str, version: int) -> StoredPack:
        """Make a version the active one of its name; the one before is deprecated.

        Raises PackInvalid for a version that this release cannot carry out any more."""
        return self._turn(project_id, name, version, PackState.ACTIVE)

    def deactivate(self, project_id: int, name: str, version: int) -> StoredPack:
        """Deprecate a version, active or not. Incidents that it has begun to judge go on by it."""
        return self._turn(project_id, name, version, PackState.DEPRECATED)

    def list(
        self, project_id: int, name: str | None = None, state: PackState | None = None
    ) -> Sequence[ListedPack]:
        """The versions of a project, by name and the newest first."""
        # There may be many, and their documents may be large: those are not read.
        query = select(*_LISTED).where(PackRow.project_id == project_id)
        if name is not None:
            query = query.where(PackRow.name == name)
        if state is not None:
            query = query.where(PackRow.state == state)
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            found = session.execute(query.order_by(PackRow.name, PackRow.version.desc()))
            return [ListedPack(*row) for row in found]

    def get(self, project_id: int, name: str, version: int | None = None) -> StoredPack:
        """One version, by default the active one, or without one the newest."""
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            return _stored(_found(session, project_id, name, version))

    def forget(self, project_id: int) -> None:
        """Delete what a project has; for its deletion."""
        with self._database.session(rows_of_project(project_id)) as session:
            session.execute(delete(PackRow).where(PackRow.project_id == project_id))

    def _row(
        self,
        project_id: int,
        name: str,
        last: PackRow | None,
        document: Mapping[str, Any],
        digest: str,
    ) -> PackRow:
        now, actor = clock.now(), self._authority.actor[:ACTOR_LENGTH]
        return PackRow(
            project_id=project_id,
            name=name,
            version=1 if last is None else last.version + 1,
            state=PackState.DRAFT,
            digest=digest,
            document=dict(document),
            created_at=now,
            created_by=actor,
            changed_at=now,
            changed_by=actor,
        )

    def _turn(self, project_id: int, name: str, version: int, state: PackState) -> StoredPack:
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            row = _found(session, project_id, name, version)
            if row.state is state:
                return _stored(row)
            if state is PackState.ACTIVE:
                parse_pack(row.document)
                self._deprecate_others(session, row)
            self._set(row, state)
            action = Action.PACK_ACTIVATE if state is PackState.ACTIVE else Action.PACK_DEACTIVATE
            audit.record_of_project(
                session,
                self._authority,
                action,
                project,
                subject=f"{row.name} {row.version}",
                detail={"name": row.name, "version": row.version, "digest": row.digest},
            )
            return _stored(row)

    def _deprecate_others(self, session: Session, row: PackRow) -> None:
        active = select(PackRow).where(
            PackRow.project_id == row.project_id,
            PackRow.name == row.name,
            PackRow.state == PackState.ACTIVE,
        )
        for other in session.scalars(active):
            self._set(other, PackState.DEPRECATED)
        # Before the next: of one name the database lets only one be active.
        session.flush()

    def _set(self, row: PackRow, state: PackState) -> None:
        row.state = state
        row.changed_at = clock.now()
        row.changed_by = self._authority.actor[:ACTOR_LENGTH]


def digest_of(document: Mapping[str, Any]) -> str:
    """The SHA-256 of a document, whatever the order of its members is."""
    text = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()


def _last(session: Session, project_id: int, name: str) -> PackRow | None:
    query = select(PackRow).where(PackRow.project_id == project_id, PackRow.name == name)
    return session.scalar(query.order_by(PackRow.version.desc()).limit(1))


def _check_room(session: Session, project_id: int, last: PackRow | None) -> None:
    if last is not None:
        check_room(last.version, MAX_VERSIONS, "versions of this pack")
        return
    names = select(func.count(PackRow.name.distinct())).where(PackRow.project_id == project_id)
    check_room(session.scalar(names) or 0, MAX_NAMES, "packs of this project")


def _found(session: Session, project_id: int, name: str, version: int | None) -> PackRow:
    if len(name) > NAME_LENGTH or not 1 <= (version or 1) <= MAX_VERSION:
        raise _none()
    query = select(PackRow).where(PackRow.project_id == project_id, PackRow.name == name)
    if version is not None:
        row = session.scalar(query.where(PackRow.version == version))
    else:
        active = session.scalar(query.where(PackRow.state == PackState.ACTIVE))
        row = active or session.scalar(query.order_by(PackRow.version.desc()).limit(1))
    if row is None:
        raise _none()
    return row


def _none() -> NotFound:
    return NotFound("There is no such pack or version.", attr="name")


def _stored(row: PackRow) -> StoredPack:
    return StoredPack(**{each.name: getattr(row, each.name) for each in fields(StoredPack)})
