"""What makes SQLite a database of record: how a file is created, opened, locked and watched."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import cast
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, exc
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from nilometer.database.transactions import (
    BUSY_SECONDS,
    CONNECTIONS,
    MIGRATION_SECONDS,
    Transaction,
)
from nilometer.errors import ConfigurationError

# Said to the connection before it begins. A migration may rebuild a table that others refer to,
# which foreign keys forbid; it checks them at its end instead.
# https://www.sqlite.org/lang_altertable.html#otheralter
_WRITING = {"query_only": 0, "foreign_keys": 1, "busy_timeout": BUSY_SECONDS * 1000}
_PRAGMAS = {
    Transaction.READ: {"query_only": 1, "foreign_keys": 1, "busy_timeout": BUSY_SECONDS * 1000},
    Transaction.WRITE: _WRITING,
    Transaction.CONCURRENT: _WRITING,
    Transaction.MIGRATE: {
        "query_only": 0,
        "foreign_keys": 0,
        "busy_timeout": MIGRATION_SECONDS * 1000,
    },
}


def make_engine(url: URL) -> Engine:
    """An engine on one file, which need not exist yet. Opens nothing. Raises ConfigurationError
    for a URL without a file."""
    if not url.database:
        raise ConfigurationError(
            "the database URL must be sqlite:///path/of/the/file", attr="database_url"
        )
    path = url.database
    engine = create_engine(
        "sqlite://",
        creator=lambda: _connect(path),
        poolclass=QueuePool,
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _file_noter(path))
    event.listen(engine, "checkout", _file_checker(path))
    event.listen(engine, "begin", _begin)
    return engine


def is_outage(error: exc.DBAPIError) -> bool:
    """Whether the file, and not the statement, is at fault."""
    # A bare DatabaseError is SQLite's "file is not a database" and "disk image is malformed".
    outages = (exc.OperationalError, exc.InterfaceError, exc.InternalError)
    return isinstance(error, outages) or type(error) is exc.DatabaseError


def holds_nul(error: exc.DBAPIError) -> bool:  # noqa: ARG001
    """False: SQLite keeps it."""
    return False


def reason(error: exc.DBAPIError) -> str:
    """SQLite's own short text ("database is locked"), which names no value."""
    return str(error.orig)


def is_in_use(error: BaseException | None) -> bool:  # noqa: ARG001
    """False: whoever wants to write waits for the whole file, as long as it may."""
    return False


@contextmanager
def alone(_: Engine, __: str) -> Generator[bool]:
    """True: the data directory has one process."""
    yield True


def check_migrated(connection: Connection) -> bool:
    """Whether every row still refers to one that there is; not checked while tables change."""
    return connection.exec_driver_sql("PRAGMA foreign_key_check").first() is None


def create(path: Path) -> None:
    """Create an empty database, readable by its owner only, if there is none at this path.

    It appears whole and in WAL mode, under its name by a hard link, so that of two processes that
    start at once neither sees a half-made file, and neither has to change the mode of an open one.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".new", dir=path.parent)
    os.close(handle)
    try:
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        with suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        Path(draft).unlink()
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _connect(path: str) -> sqlite3.Connection:
    # mode=rw: a file that has gone is an error; the default would put an empty one in its place.
    # isolation_level=None: `_begin` begins, because the driver would only do so at a first write.
    connection = sqlite3.connect(
        f"file:{quote(str(Path(path).absolute()))}?mode=rw",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _file_noter(path: str) -> Callable[[sqlite3.Connection, ConnectionPoolEntry], None]:
    def note(_: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
        entry.info["file"] = _identity(path)

    return note


def _file_checker(path: str) -> Callable[[sqlite3.Connection, ConnectionPoolEntry, object], None]:
    # An open file stays readable and writable after it was moved or deleted; a commit would be
    # acknowledged and then be nowhere. So a pooled connection must still be the file of that name.
    def check(_: sqlite3.Connection, entry: ConnectionPoolEntry, __: object) -> None:
        identity = _identity(path)
        if identity is None or identity != entry.info["file"]:
            raise InvalidatePoolError

    return check


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _begin(connection: Connection) -> None:
    purpose = Transaction(connection.get_execution_options().get("transaction", Transaction.WRITE))
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    # What this connection was told before holds: nothing else tells it any of these.
    told: dict[str, int] = connection.connection.info.setdefault("pragmas", {})
    for name, value in _PRAGMAS[purpose].items():
        if told.get(name) != value:
            driver.execute(f"PRAGMA {name} = {value}")
            told[name] = value
    connection.exec_driver_sql("BEGIN" if purpose is Transaction.READ else "BEGIN IMMEDIATE")
