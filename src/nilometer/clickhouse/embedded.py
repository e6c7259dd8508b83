"""ClickHouse's engine in this process (chDB), over a data directory.

Reads go through clickhouse-connect's client (the same client reads from a server). Inserts go
through chDB's own connection, which says how many rows it took; see `spool` for how they get there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import chdb
import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

from nilometer.clickhouse import migrate
from nilometer.clickhouse.address import DATABASE
from nilometer.clickhouse.engine import Reader
from nilometer.clickhouse.errors import StoreUnavailable
from nilometer.clickhouse.layout import SINGLE, Layout
from nilometer.clickhouse.names import identifier, literal
from nilometer.clickhouse.pool import Handle, Pool
from nilometer.clickhouse.sandbox import EMPTY_DATABASE, Connection, Sandbox, translated
from nilometer.clickhouse.spool import spooled

_IDLE_HANDLES = 16

# The niceness of the engine's threads while they run such a query: everything else goes first. The
# engine leaves it as it is where the process may not set it back (without CAP_SYS_NICE).
_NICENESS = 10


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


class Embedded:
    """The engine over one directory: handles that read and handles that write, one a thread at a
    time. The engine itself starts with the first handle and ends with the last."""

    # UnicodeDecodeError: see `errors.engine_text`.
    faults = (ClickHouseError, chdb.ChdbError, RuntimeError, OSError, UnicodeDecodeError)
    longest_value: int | None = None
    layout: Layout = SINGLE

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "engine"
        self._temporary = directory / "tmp"
        self._readers: Pool[Reader] | None = None
        self._writers: Pool[Writer] | None = None

    def open(self, *, migrating: bool = True) -> None:
        """As `Engine` says. Files that a killed process left in the temporary directories (they may
        hold prompts) are deleted first, but for one who defines nothing."""
        if migrating:
            self._sweep()
            self._create()
        else:
            self._require_defined()
        self._readers = Pool(
            lambda: open_reader(self._path, DATABASE),
            lambda reader: reader.close(),
            keep=_IDLE_HANDLES,
        )
        self._writers = Pool(
            lambda: open_writer(self._path, DATABASE),
            lambda writer: writer.close(),
            keep=_IDLE_HANDLES,
        )

    @contextlib.contextmanager
    def reading(self) -> Generator[Reader]:
        """A handle of its own."""
        with _opened(self._readers).lend() as client:
            yield client

    def insert(
        self, table: str, body: bytes, settings: Mapping[str, Any], form: str = "JSONEachRow"
    ) -> int:
        """One part per month, from a file in memory."""
        values = ", ".join(f"{identifier(name)} = {literal(v)}" for name, v in settings.items())
        with (
            _opened(self._writers).lend() as writer,
            spooled(body, self._temporary) as path,
        ):
            return writer.query(
                f"INSERT INTO {table} FROM INFILE {literal(path)} SETTINGS {values} "
                f"FORMAT {identifier(form)}"
            ).rows_read()

    @contextlib.contextmanager
    def sandbox(self, settings: Mapping[str, object]) -> Generator[Sandbox]:
        """A handle with these settings, which nothing can change for as long as it is open.

        It is opened for each query and closed after it (2 ms together), because `readonly` also
        forbids to change the settings that differ by query.
        """
        with self.reading():
            pass  # leaves an idle handle: without any other, the engine starts and ends with ours
        with translated(self.faults):
            connection = cast("Connection", cast("Any", chdb).connect(os.path.realpath(self._path)))
        with contextlib.closing(connection):
            with translated(self.faults):
                connection.query(f"USE {EMPTY_DATABASE}", params={})
                fixed = {**settings, "os_thread_priority": _NICENESS}
                values = ", ".join(f"{name} = {literal(value)}" for name, value in fixed.items())
                connection.query(f"SET {values}, readonly = 1", params={})
            yield Sandbox(connection, self.faults)

    def close(self) -> None:
        """As `Engine` says."""
        for pool in (self._readers, self._writers):
            if pool is not None:
                pool.close()
        self._readers = self._writers = None

    def _require_defined(self) -> None:
        if not self._path.is_dir():
            raise migrate.SchemaBehind("there is no store in this directory")
        with contextlib.closing(open_reader(self._path, DATABASE)) as reader:
            migrate.require_run(reader)

    def _sweep(self) -> None:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for temporary in (self._temporary, self._path / "tmp"):
            if temporary.exists():
                shutil.rmtree(temporary)
        self._temporary.mkdir(mode=0o700)

    def _create(self) -> None:
        with contextlib.closing(open_reader(self._path)) as reader:
            reader.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic")
            reader.command(f"CREATE DATABASE IF NOT EXISTS {EMPTY_DATABASE} ENGINE = Atomic")
            reader.command(f"USE {DATABASE}")
            lock = migrate.file_lock(self._directory / "migrations.lock")
            migrate.migrate(reader, lock=lock)


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


def _opened(pool: Pool[Handle] | None) -> Pool[Handle]:
    if pool is None:
        raise StoreUnavailable("the store is not open")
    return pool
