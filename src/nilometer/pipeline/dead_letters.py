"""Dead letters: the records that a consumer could not process, kept until someone decides.

Each belongs to one project, or to none that exists (`UNOWNED`), and keeps the record as the log had
it, so that it can be replayed once its cause is mended. A letter is `open`, then `replayed` or
`discarded`, by a named actor.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Final, Generic, TypeVar
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Index,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    delete,
    func,
    literal,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from nilometer.access.tables import MAX_PROJECT_ID, Project
from nilometer.database.engine import Base, Database
from nilometer.database.fence import EVERY_ROW, RowScope, rows_of_project
from nilometer.database.types import UtcDateTime, stored_as_text
from nilometer.domain import clock
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import InvalidInput, NotFound
from nilometer.log import envelope
from nilometer.log.port import Log

MAX_PAGE = 500
MAX_NOTE = 1000
"""The longest reason of a discard, in characters."""
MAX_DETAIL = 2000
"""What is kept of a letter's detail, in characters."""

_LOOKUP_CHUNK = 500

T = TypeVar("T")


class State(StrEnum):
    """What has become of a dead letter."""

    OPEN = "open"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


class Unowned(Enum):
    """Whose letters: of no project that exists. Their envelope could not be read, or it names a
    project that there is not. For the operator of the deployment only."""

    UNOWNED = "unowned"


UNOWNED: Final = Unowned.UNOWNED
Owner = int | Unowned
"""Whose letters a call is about: a project's, by its id, or `UNOWNED`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDeadLetter:
    """A record that a consumer gives up on.

    `project_id` is 0 when the envelope could not be read: such a letter is of no project and for
    the operator only. `reason` is a stable code, `detail` a sentence that holds no content.
    `headers` and `payload` are the record's bytes as the log had them, `partition` and `offset`
    its position, `attempts` how often the consumer tried.
    """

    project_id: int
    uuid: str
    consumer: str
    reason: str
    detail: str
    headers: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    attempts: int
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterSummary:
    """A kept dead letter as lists show it: everything but the record's bytes.

    `payload_size` is in bytes. `actor` and `note` are of the last replay or discard.
    """

    id: str
    project_id: int
    uuid: str
    consumer: str
    reason: str
    detail: str
    attempts: int
    partition: int
    offset: int
    payload_size: int
    state: State
    created_at: datetime
    updated_at: datetime
    actor: str | None
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter(DeadLetterSummary):
    """A kept dead letter with its record: the headers and the payload as the log had them."""

    headers: bytes = field(repr=False)
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some results and the opaque cursor of the next page; None when these are the last."""

    items: list[T]
    next: str | None


class DeadLetterRow(Base):
    """The table. One row per record and consumer, however often the log hands the record out."""

    __tablename__ = "dead_letters"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    # No foreign key: 0 is no project, and a letter must not be lost over its project's state.
    project_id: Mapped[int]
    uuid: Mapped[str] = mapped_column(Text)
    consumer: Mapped[str] = mapped_column(String(100))
    reason: Mapped[str] = mapped_column(String(100))
    detail: Mapped[str] = mapped_column(Text)
    headers: Mapped[bytes]
    payload: Mapped[bytes]
    attempts: Mapped[int]
    partition: Mapped[int]
    offset: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[State] = mapped_column(stored_as_text(State))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str | None] = mapped_column(String(200))
    note: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        UniqueConstraint(
            "project_id", "uuid", "consumer", "partition", "offset", name="uq_dead_letters_record"
        ),
        Index("ix_dead_letters_newest", "project_id", "created_at", "id"),
        Index("ix_dead_letters_state", "state", "reason"),
    )


_COLUMNS = tuple(DeadLetterRow.__table__.columns)
_SUMMARY = (
    *(column for column in _COLUMNS if column.name not in ("headers", "payload")),
    func.length(DeadLetterRow.payload).label("payload_size"),
)


class DeadLetters:
    """Keeps dead letters in the database. Blocks; safe to share between threads.

    Every method raises DatabaseUnavailable when the database is away.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, letters: Sequence[NewDeadLetter]) -> None:
        """Keep these letters, all or none; they are on disk when this returns.

        The same record of the same consumer again is the same letter: while it is open its
        attempts are added and the newer reason counts; once it was replayed or discarded it stays
        as that decision left it, because a log that hands out records again (after an unclean
        stop) says nothing new about them. Text that no database can hold is escaped, and a project
        id that none can have becomes 0.
        """
        if not letters:
            return
        now = clock.now()
        fixed = {"state": State.OPEN, "created_at": now, "updated_at": now}
        rows = [{"id": str(uuid4()), **asdict(_storable(letter)), **fixed} for letter in letters]
        dialect = self._database.engine.dialect.name
        new = (postgresql if dialect == "postgresql" else sqlite).insert(DeadLetterRow)
        statement = new.on_conflict_do_update(
            index_elements=["project_id", "uuid", "consumer", "partition", "offset"],
            set_={
                "attempts": DeadLetterRow.attempts + new.excluded.attempts,
                "reason": new.excluded.reason,
                "detail": new.excluded.detail,
                "updated_at": new.excluded.updated_at,
            },
            where=DeadLetterRow.state == State.OPEN,
        )
        with self._database.session(EVERY_ROW) as session:
            session.execute(statement, rows)

    def list(
        self,
        owner: Owner,
        *,
        state: State | None = None,
        reason: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[DeadLetterSummary]:
        """One owner's letters, newest first, at most `limit` (1 to 500).

        `cursor` is `Page.next` of the page before, under the same filters. Raises InvalidInput
        for a limit or cursor that cannot be.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidInput(f"limit must be between 1 and {MAX_PAGE}", attr="limit")
        query = select(*_SUMMARY).where(_of(owner))
        if state is not None:
            query = query.where(DeadLetterRow.state == state)
        if reason is not None:
            query = query.where(DeadLetterRow.reason == reason)
        order = (DeadLetterRow.created_at, DeadLetterRow.id)
        if cursor is not None:
            after = zip(_decode_cursor(cursor), order, strict=True)
            last = tuple_(*(literal(value, column.type) for value, column in after))
            query = query.where(tuple_(*order) < last)
        query = query.order_by(*(column.desc() for column in order)).limit(limit + 1)
        with self._database.read(_rows_of(owner)) as session:
            found = [DeadLetterSummary(**row) for row in session.execute(query).mappings()]
        more = len(found) > limit
        return Page(found[:limit], _encode_cursor(found[limit - 1]) if more else None)

    def get(self, owner: Owner, letter_id: str) -> DeadLetter:
        """One letter with its record. Raises NotFound, for another project's letter too."""
        with self._database.read(_rows_of(owner)) as session:
            return _letter(_find(session, owner, letter_id))

    def replay(
        self, owner: Owner, letter_id: str, *, actor: str, log: Log, note: str | None = None
    ) -> DeadLetter:
        """Append the record to the log again, then mark the letter.

        The record keeps its uuid, so a crash between the two, or a second replay, has no further
        effect downstream. Raises NotFound; InvalidInput for a letter that is not open or whose
        record no reader could read; LogUnavailable, and the letter stays open.
        """
        letter = self.get(owner, letter_id)
        _require_open(letter.state)
        log.append_blocking(_record(letter))
        with self._database.session(_rows_of(owner)) as session:
            # Marked whatever was decided meanwhile: the record is in the log again, and a letter
            # that said "discarded" would be wrong about it.
            row = _find(session, owner, letter_id)
            return _close(row, State.REPLAYED, actor=actor, note=note)

    def discard(self, owner: Owner, letter_id: str, *, actor: str, reason: str) -> DeadLetter:
        """Decide that the record is not wanted; who and why is stored.

        Raises NotFound, and InvalidInput without a reason or for a letter that is not open.
        """
        note = reason.strip()
        if not 1 <= len(note) <= MAX_NOTE:
            raise InvalidInput(f"give a reason of 1 to {MAX_NOTE} characters", attr="reason")
        with self._database.session(_rows_of(owner)) as session:
            row = _find(session, owner, letter_id)
            _require_open(row.state)
            return _close(row, State.DISCARDED, actor=actor, note=note)

    def delete_project(self, project_id: int) -> int:
        """Delete every letter of a project that is being deleted, and return how many."""
        every = delete(DeadLetterRow).where(DeadLetterRow.project_id == project_id)
        with self._database.session(rows_of_project(project_id)) as session:
            return len(session.scalars(every.returning(DeadLetterRow.id)).all())

    def open_counts(self) -> dict[str, int]:
        """How many letters are open, by reason, all projects together: for the operator."""
        query = (
            select(DeadLetterRow.reason, func.count())
            .where(DeadLetterRow.state == State.OPEN)
            .group_by(DeadLetterRow.reason)
        )
        with self._database.read(EVERY_ROW) as session:
            return {row[0]: row[1] for row in session.execute(query)}

    def live_uuids(self, project_id: int, uuids: Collection[str]) -> set[str]:
        """Those of these record uuids whose event may still be stored, because a letter of theirs
        is open or was replayed: their blobs must be kept."""
        wanted = list(uuids)
        found: set[str] = set()
        with self._database.read(rows_of_project(project_id)) as session:
            for start in range(0, len(wanted), _LOOKUP_CHUNK):
                query = select(DeadLetterRow.uuid).where(
                    DeadLetterRow.project_id == project_id,
                    DeadLetterRow.uuid.in_(wanted[start : start + _LOOKUP_CHUNK]),
                    DeadLetterRow.state != State.DISCARDED,
                )
                found.update(session.scalars(query))
        return found


def _storable(letter: NewDeadLetter) -> NewDeadLetter:
    # A record that could not even be dead-lettered would block its partition for good.
    possible = 0 <= letter.project_id <= MAX_PROJECT_ID
    return replace(
        letter,
        project_id=letter.project_id if possible else 0,
        uuid=_text(letter.uuid),
        reason=_text(letter.reason),
        detail=_text(letter.detail)[:MAX_DETAIL],
    )


def _text(value: str) -> str:
    """Without halves of surrogate pairs, which have no UTF-8, and NUL, which PostgreSQL refuses."""
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _rows_of(owner: Owner) -> RowScope:
    return EVERY_ROW if isinstance(owner, Unowned) else rows_of_project(owner)


def _of(owner: Owner) -> ColumnElement[bool]:
    if isinstance(owner, Unowned):
        # A project that is being deleted still exists: its letters are not for others to see.
        return DeadLetterRow.project_id.not_in(select(Project.id))
    return DeadLetterRow.project_id == owner


def _find(session: Session, owner: Owner, letter_id: str) -> DeadLetterRow:
    try:
        query = select(DeadLetterRow).where(
            DeadLetterRow.id == canonical_uuid(letter_id), _of(owner)
        )
    except ValueError:
        query = None
    row = None if query is None else session.scalar(query)
    if row is None:
        where = "of no project" if owner is UNOWNED else "in this project"
        raise NotFound(f"there is no such dead letter {where}")
    return row


def _letter(row: DeadLetterRow) -> DeadLetter:
    fields: dict[str, Any] = {column.name: getattr(row, column.name) for column in _COLUMNS}
    return DeadLetter(**fields, payload_size=len(row.payload))


def _close(row: DeadLetterRow, state: State, *, actor: str, note: str | None) -> DeadLetter:
    row.state, row.actor, row.note, row.updated_at = state, actor, note, clock.now()
    return _letter(row)


def _require_open(state: State) -> None:
    if state is State.REPLAYED:
        raise InvalidInput(
            "this dead letter was already replayed; if its record failed again, that is a newer "
            "dead letter",
            code="not_open",
        )
    if state is State.DISCARDED:
        raise InvalidInput(
            "this dead letter was discarded; send the event again under its uuid if it is wanted",
            code="not_open",
        )


def _record(letter: DeadLetter) -> envelope.Envelope:
    try:
        record = envelope.decode(letter.headers, letter.payload)
    except (envelope.EnvelopeBroken, envelope.EnvelopeTooNew) as error:
        raise InvalidInput(
            f"no reader can read this record, so it can only be discarded: {error.detail}",
            code="not_replayable",
        ) from None
    if record.project_id != letter.project_id:
        raise InvalidInput(
            "the record names another project than its dead letter, so it can only be discarded",
            code="not_replayable",
        )
    return record


def _encode_cursor(last: DeadLetterSummary) -> str:
    text = f"{clock.to_micros(last.created_at)}.{last.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        micros, _, letter_id = text.partition(".")
        return clock.from_micros(int(micros)), canonical_uuid(letter_id)
    except (ValueError, OverflowError):
        raise InvalidInput("this cursor is not one that a page gave", attr="cursor") from None
