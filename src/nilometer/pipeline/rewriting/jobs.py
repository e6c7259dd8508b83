"""What is asked of the passes, and how far they have come: kept in the database.

A pass goes page by page. Before a page is written, where it begins and ends is kept together with
everything that was found up to its end. So after a crash it is known which page may be half
written: that one is written again, and nothing of it is counted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, Uuid, delete, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from nilometer.access import audit
from nilometer.access.lookup import live_project
from nilometer.access.tables import Project
from nilometer.access.types import OPERATOR, Action, Authority
from nilometer.database.engine import Base, Database
from nilometer.database.fence import EVERY_ROW, rows_of_project
from nilometer.database.types import UtcDateTime, stored_as_text
from nilometer.domain import clock
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import InvalidInput, NilometerError, NotFound
from nilometer.pipeline.rewriting.findings import Findings

MOST_LISTED = 50

Key = Sequence[Any]
"""Where a page begins or ends: the pass's own sort key, as JSON values."""


class Kind(StrEnum):
    """What a pass does with each row."""

    REPRICE = "reprice"
    REMAP = "remap"


class State(StrEnum):
    """How far a pass has come."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class InProgress(NilometerError):
    """The project has a pass that is not finished; another would be in its way."""

    code = "rewrite_in_progress"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """One pass over a project's rows from `since` up to, and without, `until`.

    `total` is how many rows there were at its start, None before. `page_start` and `page_end`
    are of the page that may not be whole; both None before the first. `error` is a sentence.
    """

    id: str
    project_id: int
    kind: Kind
    since: datetime
    until: datetime
    dry_run: bool
    state: State
    total: int | None
    seen: int
    changed: int
    skipped: int
    findings: Findings = field(repr=False)
    page_start: Key | None
    page_end: Key | None
    error: str | None
    actor: str
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageResult:
    """What a page is and says: where it ends, how many rows it has, how many of them change or
    are left as they are, and what else is told of them."""

    end: Key
    seen: int
    changed: int
    skipped: int
    findings: Findings = field(default_factory=Findings)


class RewriteRow(Base):
    """The table."""

    __tablename__ = "rewrites"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey(Project.id))
    kind: Mapped[Kind] = mapped_column(stored_as_text(Kind))
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    until: Mapped[datetime] = mapped_column(UtcDateTime)
    dry_run: Mapped[bool]
    state: Mapped[State] = mapped_column(stored_as_text(State))
    total: Mapped[int | None] = mapped_column(BigInteger)
    seen: Mapped[int] = mapped_column(BigInteger, default=0)
    changed: Mapped[int] = mapped_column(BigInteger, default=0)
    skipped: Mapped[int] = mapped_column(BigInteger, default=0)
    findings: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    page_start: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    page_end: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    error: Mapped[str | None] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (
        Index("ix_rewrites_newest", "project_id", "created_at", "id"),
        Index(
            "uq_rewrites_unfinished",
            "project_id",
            unique=True,
            sqlite_where=text("finished_at IS NULL"),
            postgresql_where=text("finished_at IS NULL"),
        ),
    )


class Rewrites:
    """The passes that were asked for. Blocks; safe between threads.

    Every method raises DatabaseUnavailable, and NotFound for a project that is not the authority's.
    """

    def __init__(self, database: Database, authority: Authority = OPERATOR) -> None:
        self._database = database
        self._authority = authority

    def acting_as(self, authority: Authority) -> Rewrites:
        """The same for somebody else."""
        return Rewrites(self._database, authority)

    def add(
        self, project_id: int, kind: Kind, *, since: datetime, until: datetime, dry_run: bool
    ) -> Rewrite:
        """Ask for a pass. Raises InvalidInput for times that cannot be, and InProgress."""
        if until <= since:
            raise InvalidInput("to must be later than from.", attr="to")
        now = clock.now()
        row = RewriteRow(
            id=str(uuid4()),
            project_id=project_id,
            kind=kind,
            since=since,
            until=until,
            dry_run=dry_run,
            state=State.WAITING,
            actor=self._authority.actor,
            created_at=now,
            updated_at=now,
        )
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            if other := _unfinished(session, project_id):
                raise InProgress(
                    f"A {other.kind} of this project is {other.state} ({other.id}); wait for its "
                    "end, or cancel it."
                )
            session.add(row)
            detail = {"kind": kind, "from": since.isoformat(), "to": until.isoformat()}
            audit.record_of_project(
                *(session, self._authority, Action.REWRITE_ADD, project),
                subject=row.id,
                detail=detail | {"dry_run": dry_run},
            )
            session.flush()
            return _rewrite(row)

    def list(self, project_id: int) -> list[Rewrite]:
        """A project's last passes, newest first."""
        order = (RewriteRow.created_at.desc(), RewriteRow.id)
        query = select(RewriteRow).where(RewriteRow.project_id == project_id)
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            found = session.scalars(query.order_by(*order).limit(MOST_LISTED))
            return [_rewrite(row) for row in found]

    def get(self, project_id: int, rewrite_id: str) -> Rewrite:
        """One pass. Raises NotFound, the same for another project's and none."""
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            return _rewrite(_row(session, project_id, rewrite_id))

    def cancel(self, project_id: int, rewrite_id: str) -> Rewrite:
        """End a pass after the page at hand. What it wrote stays, and so does a finished one."""
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            row = _row(session, project_id, rewrite_id)
            if row.finished_at is None:
                row.state, row.finished_at = State.CANCELLED, clock.now()
                audit.record_of_project(
                    *(session, self._authority, Action.REWRITE_CANCEL, project), subject=row.id
                )
            return _rewrite(row)

    def unfinished(self) -> list[Rewrite]:
        """Every project's passes that wait or run, in the order in which they were asked for; for
        who carries them out."""
        query = select(RewriteRow).where(RewriteRow.finished_at.is_(None))
        with self._database.read(EVERY_ROW) as session:
            found = session.scalars(query.order_by(RewriteRow.created_at, RewriteRow.id))
            return [_rewrite(row) for row in found]

    def begin(self, rewrite_id: str, total: int) -> bool:
        """It runs from now on, over so many rows. False when it was cancelled."""
        with self._database.session(EVERY_ROW) as session:
            row = session.get_one(RewriteRow, rewrite_id)
            if row.finished_at is None:
                row.state, row.updated_at = State.RUNNING, clock.now()
                row.total = total if row.total is None else row.total
            return row.finished_at is None

    def plan(self, rewrite_id: str, start: Key | None, page: PageResult) -> bool:
        """Keep what was found up to the end of a page that is about to be written. False when the
        pass was cancelled, and the page must not be."""
        with self._database.session(EVERY_ROW) as session:
            row = session.get_one(RewriteRow, rewrite_id)
            if row.finished_at is not None:
                return False
            row.seen += page.seen
            row.changed += page.changed
            row.skipped += page.skipped
            findings = Findings.from_json(row.findings)
            findings.update(page.findings)
            row.findings = findings.to_json()
            row.page_start = None if start is None else list(start)
            row.page_end = list(page.end)
            row.updated_at = clock.now()
            return True

    def finish(self, rewrite_id: str, state: State, error: str | None = None) -> None:
        """It has ended; a cancelled one stays cancelled."""
        with self._database.session(EVERY_ROW) as session:
            row = session.get_one(RewriteRow, rewrite_id)
            if row.finished_at is None:
                row.state, row.error = state, error
                row.finished_at = row.updated_at = clock.now()

    def forget(self, project_id: int) -> None:
        """Delete every pass of a project: its findings hold names that senders chose."""
        with self._database.session(rows_of_project(project_id)) as session:
            session.execute(delete(RewriteRow).where(RewriteRow.project_id == project_id))


def _unfinished(session: Session, project_id: int) -> RewriteRow | None:
    query = select(RewriteRow).where(
        RewriteRow.project_id == project_id, RewriteRow.finished_at.is_(None)
    )
    return session.scalar(query)


def _row(session: Session, project_id: int, rewrite_id: str) -> RewriteRow:
    try:
        identity = canonical_uuid(rewrite_id)
    except ValueError:
        raise _unknown() from None
    row = session.get(RewriteRow, identity)
    if row is None or row.project_id != project_id:
        raise _unknown()
    return row


def _rewrite(row: RewriteRow) -> Rewrite:
    values: dict[str, Any] = {
        column.name: getattr(row, column.name) for column in RewriteRow.__table__.columns
    }
    values["findings"] = Findings.from_json(row.findings)
    return Rewrite(**values)


def _unknown() -> NotFound:
    return NotFound("There is no such rewrite.", attr="rewrite_id")
