"""What the target's database knows of a move: from where, and whether it is finished.

Written before anything else is, so that a half-moved deployment is never served.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, String, Text, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from nilometer.database.compatibility import TABLE as COMPATIBILITY
from nilometer.database.engine import Base, Database
from nilometer.database.fence import EVERY_ROW
from nilometer.database.types import UtcDateTime
from nilometer.domain import clock
from nilometer.errors import ConfigurationError

_ONLY = 1


class DataMove(Base):
    """The one row. `source` is the id of the source's first organization, `place` its directory.
    Whatever the source had was accepted before `until`, if it was read from its log. Once it is
    finished, `log_end` and `audit_id` are the source's `Extent` (None: an earlier release's move).
    """

    __tablename__ = "data_moves"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    source: Mapped[str] = mapped_column(String(64))
    place: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    until: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    log_end: Mapped[int | None] = mapped_column(BigInteger)
    audit_id: Mapped[int | None] = mapped_column(BigInteger)


# Of this database itself, never of what is moved.
OWN_TABLES = frozenset({DataMove.__tablename__, COMPATIBILITY.name})


class TargetTaken(ConfigurationError):
    """The target has data that did not come from this source."""

    code = "target_taken"


class SourceWentOn(ConfigurationError):
    """The source was used after all of it had been moved."""

    code = "source_went_on"


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a source has come: the offset that its log's next record gets, and the id of its
    last entry in the audit log (0 for none)."""

    log_end: int
    audit_id: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The target is this source's. `finished_at` is None until all is there, and `moved` until
    then: it is what was there to move."""

    started_at: datetime
    until: datetime
    finished_at: datetime | None
    moved: Extent | None = None

    def require_moved(self, source: Extent) -> None:
        """Raises SourceWentOn for a source that has more than was moved when it was finished."""
        if self.moved is None or self.moved == source:
            return
        records = max(source.log_end - self.moved.log_end, 0)
        actions = max(source.audit_id - self.moved.audit_id, 0)
        raise SourceWentOn(
            f"the source was used after it had been moved: it took {records:,} records and noted "
            f"{actions:,} management actions since, and none of that is in the target. Move all "
            "of it into empty servers, or, to leave that behind, use the target as it is"
        )


class Claims:
    """The claim of one target. Blocks; raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def found(self, source: str) -> Claim | None:
        """The claim of this source, None where there is no claim. Raises TargetTaken for another
        source's."""
        with self._database.read(EVERY_ROW) as session:
            return _claim(session, source)

    def take(self, source: str, place: str, until: datetime) -> Claim:
        """Claim a database that has no row; or go on with the claim that this source has. Raises
        TargetTaken for any other."""
        with self._database.session(EVERY_ROW) as session:
            known = _claim(session, source)
            if known is not None:
                return known
            if tables := rows_in(session):
                raise TargetTaken(
                    f"the database is in use (it has rows in {', '.join(tables)}). Move into an "
                    "empty one: a process that was started there once is enough to use it"
                )
            move = DataMove(
                id=_ONLY, source=source, place=place, started_at=clock.now(), until=until
            )
            session.add(move)
            return Claim(move.started_at, until, None)

    def finish(self, moved: Extent) -> datetime:
        """All of it is there: processes may serve it from now on."""
        with self._database.session(EVERY_ROW) as session:
            move = session.get_one(DataMove, _ONLY)
            if move.finished_at is None:
                move.finished_at = clock.now()
                move.log_end, move.audit_id = moved.log_end, moved.audit_id
            return move.finished_at


def require_whole(database: Database) -> None:
    """Raises ConfigurationError for a database into which data is being moved."""
    with database.read(EVERY_ROW) as session:
        require_whole_in(session)


def require_whole_in(session: Session) -> None:
    """The same within a transaction: in one that writes, no move can begin before its end."""
    move = session.get(DataMove, _ONLY)
    if move is not None and move.finished_at is None:
        raise ConfigurationError(
            f"the data of {move.place} is being moved into this database, and not all of it is "
            "there: run `nilometer migrate-data` to its end first"
        )


def rows_in(session: Session) -> list[str]:
    """The tables of a deployment that have rows."""
    tables = (table for table in Base.metadata.sorted_tables if table.name not in OWN_TABLES)
    return [
        table.name
        for table in tables
        if session.scalar(select(func.count()).select_from(select(table).limit(1).subquery()))
    ]


def _claim(session: Session, source: str) -> Claim | None:
    move = session.get(DataMove, _ONLY)
    if move is None:
        return None
    if move.source != source:
        raise TargetTaken(
            f"the database has the data of another deployment ({move.place}); move into an empty "
            "one"
        )
    moved = None
    if move.log_end is not None and move.audit_id is not None:
        moved = Extent(move.log_end, move.audit_id)
    return Claim(move.started_at, move.until, move.finished_at, moved)
