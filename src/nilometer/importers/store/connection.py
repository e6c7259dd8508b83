"""The SQLite file: how it is opened, and its schema."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from nilometer.errors import InvalidInput, NotFound, Unavailable
from nilometer.importers.store.columns import STORED_NAMES
from nilometer.importers.store.schema import APPLICATION_ID, SCHEMA, VERSION
from nilometer.importers.store.tellings import standing

_WAIT_SECONDS = 60.0
_CACHE_KIB = 48 * 1024
_WAL_PAGES = 8 * 1024


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """The database of a path, its tables made where it is new. Only its owner may read it: dead
    letters hold what people wrote.

    Raises NotFound where there is none and none is to be made, InvalidInput for another file, and
    Unavailable when it cannot be opened.
    """
    if not path.is_file():
        if not create:
            raise NotFound(f"there is no {path}; `nilometer traces ingest` makes it")
        _make(path)
    with translated(path):
        database = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)
        try:
            _set_up(database, path)
        except BaseException:
            database.close()
            raise
    return database


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be made: {error.strerror}") from None


def _set_up(database: sqlite3.Connection, path: Path) -> None:
    database.create_function("standing", len(STORED_NAMES), standing, deterministic=True)
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    database.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    # What a power loss takes of the last commits is read again: the checkpoint goes with its rows.
    database.execute("PRAGMA synchronous = NORMAL")
    if _version(database, path) == VERSION:
        return
    database.execute("PRAGMA journal_mode = WAL")
    with transaction(database):
        if _version(database, path) != VERSION:  # another process may have been faster
            for statement in SCHEMA:
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {VERSION}")


def _version(database: sqlite3.Connection, path: Path) -> int:
    """The version of the file's schema; 0 of a new one. Raises InvalidInput for a file that is
    none of ours, or of a later release."""
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    owner: int = database.execute("PRAGMA application_id").fetchone()[0]
    if version > VERSION and owner == APPLICATION_ID:
        raise InvalidInput(f"{path} was made by a later release of Nilometer")
    tables: int = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if owner != APPLICATION_ID and tables:
        raise InvalidInput(f"{path} is another program's database; name a new file")
    return version if owner == APPLICATION_ID else 0


@contextmanager
def transaction(database: sqlite3.Connection) -> Generator[None]:
    """All of the block or nothing of it. Waits for other writers."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


@contextmanager
def translated(path: Path) -> Generator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{path}: {error}") from None
    except sqlite3.DatabaseError as error:
        raise InvalidInput(f"{path} is no database of traces, or is damaged: {error}") from None
