"""ClickHouse's engine in this process: how its handles are opened, and the parts of them in use.

Reads go through clickhouse-connect's client (the same client reads from a server). Inserts go
through chDB's own connection, which says how many rows it took; see `spool` for how they get there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import chdb
import clickhouse_connect

from nilometer.clickhouse.pool import Pool

_IDLE_HANDLES = 16


class QueryResult(Protocol):
    """`clickhouse_connect.driver.query.QueryResult`."""

    @property
    def column_names(self) -> Sequence[str]:
        """The columns, in order."""
        ...

    @property
    def result_rows(self) -> list[tuple[Any, ...]]:
        """One tuple a row."""
        ...


class Reader(Protocol):
    """`clickhouse_connect.driver.client.Client`."""

    def query(
        self,
        query: str,
        parameters: dict[str, Any] | None = ...,
        settings: dict[str, Any] | None = ...,
    ) -> QueryResult:
        """All rows of a SELECT."""
        ...

    def command(self, cmd: str, parameters: dict[str, Any] | None = ...) -> object:
        """Run any other statement."""
        ...

    def close(self) -> None:
        """Close the handle."""
        ...


class WriteResult(Protocol):
    """`chdb`'s query result."""

    def rows_read(self) -> int:
        """Rows that the statement read: for an insert from a file, those it wrote."""
        ...


class Writer(Protocol):
    """`chdb.state.sqlitelike.Connection`."""

    def query(self, query: str) -> WriteResult:
        """Run a statement."""
        ...

    def close(self) -> None:
        """Close the handle."""
        ...


@dataclass(frozen=True, slots=True)
class Engine:
    """An open engine: handles that read and handles that write, one a thread at a time.

    The engine itself starts with the first handle and ends with the last.
    """

    readers: Pool[Reader]
    writers: Pool[Writer]

    def close(self) -> None:
        """Close every handle, those in use when their calls end."""
        self.readers.close()
        self.writers.close()


def engine(path: Path, database: str) -> Engine:
    """An engine over a data directory, with `database` as the default of every handle."""
    return Engine(
        Pool(
            lambda: open_reader(path, database), lambda reader: reader.close(), keep=_IDLE_HANDLES
        ),
        Pool(
            lambda: open_writer(path, database), lambda writer: writer.close(), keep=_IDLE_HANDLES
        ),
    )


def open_reader(path: Path, database: str | None = None) -> Reader:
    """A client, whose times are aware. Without a database: the engine's default one."""
    options: Mapping[str, Any] = {"database": database} if database else {}
    return cast("Any", clickhouse_connect).get_client(
        interface="chdb", path=str(path), tz_mode="aware", **options
    )


def open_writer(path: Path, database: str) -> Writer:
    """A connection for inserts. The path is resolved as clickhouse-connect does: chDB compares
    paths as text."""
    writer = cast("Writer", cast("Any", chdb).connect(os.path.realpath(path)))
    writer.query(f"USE {database}")
    return writer
