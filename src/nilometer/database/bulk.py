"""One statement for many rows, at the driver's own pace.

SQLAlchemy takes some twenty microseconds to bind one row of a dozen values; what is written
thousands of times a second pays for the conversion of its values alone.

SQLite's driver lets other threads in at each row, and then waits for its turn again, milliseconds
beside threads that compute. So what can be said of many rows at once is said there in few
statements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import Column, Connection, Dialect, Table
from sqlalchemy.orm import Session

_Converter = tuple[int, Callable[[Any], Any]]
_Row = tuple[Any, ...]
_MARKS = {"qmark": "?"}
_ROWS = "{rows}"
# A few sizes, so that the driver keeps the statements that it has parsed. SQLite takes 32,766
# values in one.
_SIZES = (128, 16, 4, 1)


class Bulk:
    """A statement for each row, with a `?` for each of its values, and no other one nor a `%`;
    `columns` are those whose types the values have, in their order.

    With `rows`, what stands for one row, the statement has `{rows}` where a list of them is.
    """

    def __init__(
        self, statement: str, columns: Sequence[Column[Any]], *, rows: str | None = None
    ) -> None:
        self._statement = statement
        self._rows = rows
        self._columns = tuple(columns)
        self._prepared: dict[str, tuple[str, list[_Converter]]] = {}

    def run(self, session: Session, rows: Iterable[Sequence[Any]]) -> int:
        """Run it for all rows, in the caller's transaction; how many rows of the table that were.
        Raises as the statement does."""
        connection = session.connection()
        statement, converters = self._of(connection.dialect)
        values = [list(row) for row in rows]
        for at, convert in converters:
            _convert(values, at, convert)
        if not values:
            return 0
        ready = [tuple(row) for row in values]
        if self._rows is not None and connection.dialect.name == "sqlite":
            return self._together(connection, self._rows, ready)
        return connection.exec_driver_sql(statement, ready).rowcount

    def _together(self, connection: Connection, row: str, rows: Sequence[_Row]) -> int:
        return sum(
            connection.exec_driver_sql(
                _of_many(self._statement, row, len(some)), tuple(chain.from_iterable(some))
            ).rowcount
            for some in _parts(rows)
        )

    def _of(self, dialect: Dialect) -> tuple[str, list[_Converter]]:
        prepared = self._prepared.get(dialect.name)
        if prepared is None:
            prepared = self._prepared[dialect.name] = self._prepare(dialect)
        return prepared

    def _prepare(self, dialect: Dialect) -> tuple[str, list[_Converter]]:
        converters: list[_Converter] = []
        for at, column in enumerate(self._columns):
            convert = column.type.dialect_impl(dialect).bind_processor(dialect)
            if convert is not None:
                converters.append((at, convert))
        statement = _of_many(self._statement, self._rows or "", 1)
        return statement.replace("?", _MARKS.get(dialect.paramstyle, "%s")), converters


def _convert(rows: Sequence[list[Any]], at: int, convert: Callable[[Any], Any]) -> None:
    """Bring a column's values into the driver's form. Rows that are written together mostly share
    the very same moment or state: one that is the one before is not converted again."""
    before = told = object()
    for row in rows:
        value = row[at]
        if value is not before:
            before, told = value, convert(value)
        row[at] = told


@cache
def _of_many(statement: str, row: str, count: int) -> str:
    return statement.replace(_ROWS, ", ".join([row] * count))


def _parts(rows: Sequence[_Row]) -> Iterator[Sequence[_Row]]:
    start = 0
    for size in _SIZES:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


def bulk_insert(table: Table, columns: Sequence[str]) -> Bulk:
    """An INSERT of these columns; the others get the database's defaults. Names are ours, and need
    no quotes."""
    marks = ", ".join("?" * len(columns))
    return Bulk(
        f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {_ROWS}",  # noqa: S608
        [table.c[name] for name in columns],
        rows=f"({marks})",
    )
