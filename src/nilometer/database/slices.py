"""Deleting many rows a few at a time, a transaction each: whoever else writes gets in between."""

from __future__ import annotations

import threading
from typing import Final, cast

from sqlalchemy import ColumnElement, Table, delete, select, tuple_

from nilometer.database.engine import Base, Database
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import Unavailable

ROWS: Final = 1000
"""Of one transaction. With what their indexes take, some tens of milliseconds of SQLite."""


def delete_in_slices(
    database: Database,
    of: type[Base],
    *conditions: ColumnElement[bool],
    rows: int = ROWS,
    stopping: threading.Event | None = None,
) -> int:
    """Delete the rows of a table that conditions hold for; how many those were. What was deleted
    stays so when a later slice fails. Raises DatabaseUnavailable, and Unavailable once `stopping`.
    """
    table = cast("Table", of.__table__)
    key = tuple(table.primary_key.columns)
    some = select(*key).where(*conditions).limit(rows)
    named = key[0].in_(some) if len(key) == 1 else tuple_(*key).in_(some)
    deleted = 0
    while True:
        if stopping is not None and stopping.is_set():
            raise Unavailable("the server is stopping")
        with database.concurrent(EVERY_ROW) as session:
            count = session.connection().execute(delete(table).where(named)).rowcount
        deleted += count
        if count < rows:
            return deleted
