"""Which pack judges an exception: of a project's active ones, read once and kept in memory."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Collection
from threading import Lock
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.incidents.packs.pack import Pack
from nilometer.incidents.packs.reading import PackInvalid, parse_pack
from nilometer.incidents.packs.tables import PackRow, PackState
from nilometer.incidents.stages.context import UNREAD_SECONDS, PackUnreadable, PackVersion

logger = logging.getLogger(__name__)

MAX_KEPT = 500
_ASKED = "active_packs"
_AGAIN = 1.0
_Key = tuple[int, str, int, str]
"""Project, name, version and digest."""


def select_pack(packs: list[Pack], exception_type: str, domain: str | None) -> Pack | None:
    """The pack for an exception: one that knows its type; else one of its domain; else the only
    one that there is. Of several the first by name."""
    by_name = sorted(packs, key=lambda each: each.name)
    knowing = (each for each in by_name if each.type_named(exception_type) is not None)
    of_domain = (each for each in by_name if domain is not None and each.domain == domain)
    only = by_name[0] if len(by_name) == 1 else None
    return next(knowing, None) or next(of_domain, None) or only


class ActivePacks:
    """The packs of the database, for the stages of incidents. Safe between threads.

    Which ones are active is asked once in each transaction. A version never changes, so that what
    was read of one stays in memory; at most `MAX_KEPT` do. One that cannot be read is looked at
    again after `UNREAD_SECONDS`.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, PackVersion] = OrderedDict()
        self._unread: dict[_Key, float] = {}
        self._asked: dict[int, float] = {}
        self._lock = Lock()

    def load(self, database: Database, projects: Collection[int]) -> None:
        """Read the active packs of these projects that are not in memory, in no transaction: to
        compile a large one takes long, and others would wait. Asks for a project once a second;
        what is activated in between is read where it is needed."""
        now = time.monotonic()
        with self._lock:
            asked = [each for each in projects if now - self._asked.get(each, -1.0) >= _AGAIN]
            self._asked = {each: at for each, at in self._asked.items() if now - at < _AGAIN}
            self._asked |= dict.fromkeys(asked, now)
        for key, document in self._missing(database, asked) if asked else ():
            self._keep(key, _version_of(key, document))

    def _missing(self, database: Database, projects: Collection[int]) -> list[tuple[_Key, Any]]:
        query = select(PackRow.project_id, PackRow.name, PackRow.version, PackRow.digest).where(
            PackRow.project_id.in_(projects), PackRow.state == PackState.ACTIVE
        )
        with database.read(EVERY_ROW) as session:
            active: list[_Key] = [(*row,) for row in session.execute(query)]
            missing = [key for key in active if key not in self._kept and not self._failed(key)]
            return [(key, _document(session, key)) for key in missing]

    def choose(
        self, session: Session, project_id: int, exception_type: str, domain: str | None
    ) -> PackVersion | None:
        """The active pack that judges exceptions of this type and domain, None without one. Raises
        PackUnreadable where one of the active ones cannot be read: it may be the one."""
        active = self._active(session, project_id)
        chosen = select_pack([each.pack for each in active], exception_type, domain)
        return next((each for each in active if each.pack is chosen), None)

    def version(
        self, session: Session, project_id: int, name: str, version: int
    ) -> PackVersion | None:
        """One version of a pack, active or not; None where this release cannot read it, too."""
        query = select(PackRow.digest).where(
            PackRow.project_id == project_id, PackRow.name == name, PackRow.version == version
        )
        digest = session.scalar(query)
        if digest is None:
            return None
        return self._read(session, (project_id, name, version, digest))

    def _active(self, session: Session, project_id: int) -> list[PackVersion]:
        asked: dict[int, list[PackVersion]] = session.info.setdefault(_ASKED, {})
        if project_id not in asked:
            query = select(PackRow.name, PackRow.version, PackRow.digest).where(
                PackRow.project_id == project_id, PackRow.state == PackState.ACTIVE
            )
            keys: list[_Key] = [(project_id, *row) for row in session.execute(query)]
            asked[project_id] = [self._readable(session, key) for key in keys]
        return asked[project_id]

    def _readable(self, session: Session, key: _Key) -> PackVersion:
        found = self._read(session, key)
        if found is None:
            raise PackUnreadable(key[1], key[2])
        return found

    def _read(self, session: Session, key: _Key) -> PackVersion | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        if self._failed(key):
            return None
        found = _version_of(key, _document(session, key))
        self._keep(key, found)
        return found

    def _failed(self, key: _Key) -> bool:
        """Whether it could not be read a short while ago."""
        at = self._unread.get(key)
        return at is not None and time.monotonic() - at < UNREAD_SECONDS

    def _keep(self, key: _Key, found: PackVersion | None) -> None:
        with self._lock:
            if found is None:
                lately = {each: at for each, at in self._unread.items() if self._failed(each)}
                self._unread = {**lately, key: time.monotonic()}
                return
            self._kept[key] = found
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)


def _document(session: Session, key: _Key) -> object:
    project_id, name, version, _ = key
    query = select(PackRow.document).where(
        PackRow.project_id == project_id, PackRow.name == name, PackRow.version == version
    )
    return session.scalar(query)


def _version_of(key: _Key, document: object) -> PackVersion | None:
    _, name, version, _ = key
    try:
        return PackVersion(parse_pack(document), name, version)
    except PackInvalid as error:
        # Of a later release: what it says cannot be carried out in part.
        logger.warning("version %d of the pack %s cannot be read: %s", version, name, error)
        return None
