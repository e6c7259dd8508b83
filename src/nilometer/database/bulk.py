"""One statement for many rows, at the driver's own pace.

SQLAlchemy takes some twenty microseconds to bind one row of a dozen values; what is written
thousands of times a second pays for the conversion of its values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Column, Dialect, Table
from sqlalchemy.orm import Session

_Converter = tuple[int, Callable[[Any], Any]]
_MARKS = {"qmark": "?"}


class Bulk:
    """A statement with a `?` for each value, and no other one nor a `%`; `columns` are those whose
    types the values have, in their order."""

    def __init__(self, statement: str, columns: Sequence[Column[Any]]) -> None:
        self._statement = statement
        self._columns = tuple(columns)
        self._prepared: dict[str, tuple[str, list[_Converter]]] = {}

    def run(self, session: Session, rows: Iterable[Sequence[Any]]) -> int:
        """Run it for each row, in the caller's transaction; how many rows of the table that were.
        Raises as the statement does."""
        connection = session.connection()
        statement, converters = self._of(connection.dialect)
        values = [list(row) for row in rows]
        for at, convert in converters:
            for row in values:
                row[at] = convert(row[at])
        if not values:
            return 0
        return connection.exec_driver_sql(statement, [tuple(row) for row in values]).rowcount

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
        return self._statement.replace("?", _MARKS.get(dialect.paramstyle, "%s")), converters


def bulk_insert(table: Table, columns: Sequence[str]) -> Bulk:
    """An INSERT of these columns; the others get the database's defaults. Names are ours, and need
    no quotes."""
    marks = ", ".join("?" * len(columns))
    return Bulk(
        f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608
        [table.c[name] for name in columns],
    )
