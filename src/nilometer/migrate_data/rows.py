"""The database's rows: every table that there is, in the order of their references.

A row keeps its key and all it has, so it can be written again without effect. One thing changes: a
dead letter says where its record stood in the log, and that log is left behind. Of a record that is
moved, because it had not been read, it is the place in the topic, so that the record stays the same
letter when it fails again; of any other it is a partition that no topic has.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, func, inspect, literal, select, text, tuple_
from sqlalchemy.dialects import postgresql

from nilometer import failpoints
from nilometer.access.tables import ApiKey, AuditEntry, Organization, Project, ProjectDeletion
from nilometer.alerts.tables import AlertRow, AlertRuleRow, FailureRow, UnusualDayRow
from nilometer.budgets.tables import BudgetAlertRow, BudgetRow
from nilometer.database.engine import Base, Database
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import ConfigurationError
from nilometer.incidents.packs.tables import PackRow
from nilometer.incidents.tables import AcceptanceRow, ApprovalRow, IncidentEventRow, IncidentRow
from nilometer.incidents.tools.tables import BreakerRow, ExecutionRow, ToolRow, ToolSecretRow
from nilometer.migrate_data.claim import OWN_TABLES, rows_in
from nilometer.migrate_data.records import Places
from nilometer.migrate_data.report import Comparison, Progress, Tally
from nilometer.notifications.tables import ChannelRow, DeliveryRow
from nilometer.pipeline.dead_letters import DeadLetterRow
from nilometer.pipeline.rewriting.jobs import RewriteRow
from nilometer.workflows.tables import OutboxRow, TaskRow

PART = "database"
LEFT_BEHIND = -1
"""The partition of a dead letter whose record stood in a log that was left behind."""

_PAGE_ROWS = 500
_HELD_ROWS = 10  # of a dead letter's size, each
_PAGE_BYTES = 8 << 20
_PLACE = ("partition", "offset")
_LETTERS = DeadLetterRow.__tablename__
_LASTING = frozenset(
    each.__tablename__ for each in (Organization, Project, ProjectDeletion, ApiKey, AuditEntry)
)
"""Tables whose rows stay, but for the keys of a project that was deleted."""
_COUNTED = tuple(each.__tablename__ for each in (Project, AuditEntry, OutboxRow))
"""Tables whose ids the database gives."""
# What declares tables is imported; `require_known` finds what is not.
_DECLARED = (
    *(Project, DeadLetterRow, RewriteRow, BudgetRow, BudgetAlertRow, ChannelRow, DeliveryRow),
    *(AlertRuleRow, UnusualDayRow, AlertRow, FailureRow, TaskRow, OutboxRow),
    *(IncidentRow, IncidentEventRow, ApprovalRow, AcceptanceRow),
    *(PackRow, ToolRow, ToolSecretRow, ExecutionRow, BreakerRow),
)

Row = dict[str, Any]


class Rows:
    """The databases of both. Blocks; raises DatabaseUnavailable."""

    def __init__(self, source: Database, target: Database) -> None:
        self._source = source
        self._target = target

    def count(self) -> int:
        """How many rows the source has."""
        with self._source.read(EVERY_ROW) as session:
            counts = [session.scalar(select(func.count()).select_from(each)) for each in tables()]
        return sum(each or 0 for each in counts)

    def strangers(self) -> list[str]:
        """The tables of the target that have rows."""
        with self._target.read(EVERY_ROW) as session:
            there = set(inspect(session.connection()).get_table_names())
            return rows_in(session) if {each.name for each in tables()} <= there else []

    def letters_from(self, offset: int) -> set[int]:
        """The places in the source's log, from this one on, of records that have dead letters."""
        query = select(DeadLetterRow.offset).where(DeadLetterRow.offset >= offset).distinct()
        with self._source.read(EVERY_ROW) as session:
            return set(session.scalars(query))

    def move(self, places: Places, progress: Progress) -> int:
        """Write what the target lacks; how many rows that were."""
        written = 0
        for table in tables():
            for page in _pages(_rows(self._source, table)):
                moved = [_placed(row, places) for row in page] if table.name == _LETTERS else page
                written += self._write(table, moved)
                failpoints.hit("moved_rows")
                progress.advance(len(page))
        self._continue_counting()
        return written

    def compare(self, excused: str = "") -> Iterator[Comparison]:
        """Every table, project by project. `excused` says why rows may differ by now; that excuses
        neither rows that are gone and that no use of the target deletes, nor a changed audit log.
        """
        for table in tables():
            lost = self._lost(table) if excused and table.name in _LASTING else {}
            source, target = _tallies(self._source, table), _tallies(self._target, table)
            for project in sorted(source.keys() | target.keys(), key=lambda each: each or 0):
                ours = source.get(project, Tally())
                theirs = target.get(project, Tally())
                missing = lost.get(project, 0)
                note = f"{missing:,} missing" if missing else excused if ours != theirs else ""
                yield Comparison(
                    *(PART, table.name, project, ours, theirs),
                    note=note,
                    excused=bool(excused) and not missing,
                )

    def _lost(self, table: Table) -> dict[int | None, int]:
        """By project, the rows of the source that the target should have for good and has not: of
        the audit log as they were, of anything else by their keys."""
        [key] = table.primary_key
        exact = table.name == AuditEntry.__tablename__
        excepted = self._deleted_projects() if table.name == ApiKey.__tablename__ else set[int]()
        lost: Counter[int | None] = Counter()
        for page in _pages(_rows(self._source, table)):
            query = select(table).where(key.in_([row[key.name] for row in page]))
            with self._target.read(EVERY_ROW) as session:
                rows = [dict(row) for row in session.execute(query).mappings()]
            there = {row[key.name]: _digest(row, ()) for row in rows}
            for row in page:
                digest = there.get(row[key.name])
                same = digest is not None and (not exact or digest == _digest(row, ()))
                if not same and _project_of(table, row) not in excepted:
                    lost[_project_of(table, row)] += 1
        return lost

    def _deleted_projects(self) -> set[int]:
        """Those whose keys the target has deleted with them, or will."""
        query = select(Project.id).where(Project.tombstoned_at.is_not(None))
        with self._target.read(EVERY_ROW) as session:
            return set(session.scalars(query))

    def _write(self, table: Table, page: list[Row]) -> int:
        statement = postgresql.insert(table).on_conflict_do_nothing().returning(*table.primary_key)
        with self._target.session(EVERY_ROW) as session:
            return len(session.execute(statement, page).all())

    def _continue_counting(self) -> None:
        """Ids go on where the source's were: one that a deleted row had is never another's."""
        for table in _COUNTED:
            with self._source.read(EVERY_ROW) as session:
                query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
                last = session.scalar(query, {"name": table})
            if last:
                raise_to = text(
                    "SELECT setval(sequence, greatest(CAST(:last AS bigint), "  # noqa: S608
                    f"coalesce((SELECT max(id) FROM {table}), 1))) "
                    "FROM pg_get_serial_sequence(:name, 'id') AS sequence"
                )
                with self._target.session(EVERY_ROW) as session:
                    session.execute(raise_to, {"last": last, "name": table})


def tables() -> list[Table]:
    """Every table of a deployment, those that are referred to first."""
    return [table for table in Base.metadata.sorted_tables if table.name not in OWN_TABLES]


def require_known(source: Database) -> None:
    """Raises ConfigurationError for a table of the source that this release would leave behind."""
    with source.read(EVERY_ROW) as session:
        there = set(inspect(session.connection()).get_table_names())
    known = {table.name for table in tables()} | OWN_TABLES | {"alembic_version"}
    if there - known:
        raise ConfigurationError(
            f"the source's database has tables that this release does not know: "
            f"{', '.join(sorted(there - known))}"
        )


def _rows(database: Database, table: Table) -> Iterator[Row]:
    """Every row in the order of its key, in transactions that are short whatever the table is."""
    key = tuple(table.primary_key)
    query = select(table).order_by(*key).limit(_PAGE_ROWS).execution_options(yield_per=_HELD_ROWS)
    last: tuple[Any, ...] | None = None
    while True:
        count = 0
        with database.read(EVERY_ROW) as session:
            rest = query if last is None else query.where(_beyond(key, last))
            for row in session.execute(rest).mappings():
                count, last = count + 1, tuple(row[column] for column in key)
                yield dict(row)
        if count < _PAGE_ROWS:
            return


def _beyond(key: Sequence[Column[Any]], last: Sequence[Any]) -> ColumnElement[bool]:
    """Of a key beyond this one, in the order of its columns."""
    ends = [literal(value, column.type) for column, value in zip(key, last, strict=True)]
    return tuple_(*key) > tuple_(*ends) if len(key) > 1 else key[0] > ends[0]


def _pages(rows: Iterator[Row]) -> Iterator[list[Row]]:
    page: list[Row] = []
    size = 0
    for row in rows:
        page.append(row)
        size += sum(len(value) for value in row.values() if isinstance(value, bytes | str))
        if len(page) >= _PAGE_ROWS or size >= _PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


def _placed(row: Row, places: Places) -> Row:
    place = places.get(row["offset"]) if row["partition"] == 0 else None
    if place is None:
        return row | {"partition": LEFT_BEHIND}
    return row | {"partition": place.partition, "offset": place.offset}


def _project_of(table: Table, row: Row) -> int | None:
    return row.get("id" if table.name == Project.__tablename__ else "project_id")


def _tallies(database: Database, table: Table) -> dict[int | None, Tally]:
    left_out = _PLACE if table.name == _LETTERS else ()
    found: dict[int | None, Tally] = {}
    for row in _rows(database, table):
        found.setdefault(_project_of(table, row), Tally()).add(_digest(row, left_out))
    return found


def _digest(row: Mapping[str, Any], left_out: Collection[str]) -> int:
    values = {name: value for name, value in row.items() if name not in left_out}
    content = json.dumps(values, sort_keys=True, default=_written).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


def _written(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
