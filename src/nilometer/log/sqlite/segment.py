"""One segment: a SQLite file of consecutive records, named by its first offset.

The file is in WAL mode with `synchronous=FULL`: SQLite then calls fdatasync on the WAL in every
commit, before the commit returns (seen with strace: one `fdatasync` a commit). Automatic
checkpoints are off, because SQLite runs them inside the commit that a client waits for and ignores
their errors; `SegmentWriter.checkpoint` runs after the answers have left, and its errors count.
The WAL is kept at about `CHECKPOINT_BYTES`, because a commit into a WAL that grows has to sync the
file's size too and took up to four times as long (ext4).
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nilometer.errors import ConfigurationError
from nilometer.log.sqlite import disk

APPLICATION_ID = 0x4E494C4F  # "NILO", so that `file` and a reader can tell what it is
FORMAT = 1
SUFFIX = ".sqlite"
CHECKPOINT_BYTES = 4 * 1024 * 1024
# 8 KiB pages: two to four usual records a page, where 4 KiB pages leave a 2.1 kB record half a
# page of waste, and 16 KiB pages write ten times the bytes of a record committed alone.
PAGE_BYTES = 8192
# Rows of one INSERT. One statement is one release of the interpreter lock, and the writer waits
# for the event loop at each release: 1.4 times the rows per second of executemany beside a busy
# thread.
ROWS_PER_STATEMENT = 128
_COLUMNS = 4

_SCHEMA = """
CREATE TABLE records (
    "offset" INTEGER PRIMARY KEY,
    appended_at INTEGER NOT NULL,
    headers BLOB NOT NULL,
    payload BLOB NOT NULL
) STRICT
"""

Row = tuple[bytes, bytes]
"""Headers and payload of one record."""


class LogCorrupt(ConfigurationError):
    """A file of the log is damaged or missing. Names the file; nothing is skipped to go on."""

    code = "log_corrupt"


@dataclass(slots=True, eq=False)
class Segment:
    """What is known of one segment without touching the disk.

    `end` is the offset after its last record, `first_at` and `last_at` the append times
    (microseconds) of its first and last record, None while it is empty. `size` is bytes on disk,
    estimated between two checkpoints. `sealed`: it will not change and has nothing in a WAL.
    """

    path: Path
    base: int
    end: int
    first_at: int | None
    last_at: int | None
    size: int
    sealed: bool

    def unlink(self) -> None:
        """Remove its files. The database goes first: a WAL without one is swept at open, but a
        database without its WAL would look as if records were missing."""
        for path in (self.path, *_companions(self.path)):
            path.unlink(missing_ok=True)


def path_of(directory: Path, base: int) -> Path:
    """The file of the segment that starts at this offset."""
    return directory / f"{base:020d}{SUFFIX}"


def create(directory: Path, base: int) -> Segment:
    """A new, empty, durable segment. A crash leaves it whole or not at all: it is made under
    another name and renamed when it is on disk."""
    path = path_of(directory, base)
    temporary = path.with_name(f"{path.name}.new")
    _remove(temporary)
    try:
        # SQLite hides why a file cannot be created; opening it first keeps "disk full" apart.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with contextlib.closing(_connect(temporary, "mode=rw")) as connection:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={FORMAT}")
            connection.execute(_SCHEMA)
            _checkpoint(connection, "TRUNCATE")
        disk.sync_file(temporary)
        temporary.replace(path)
    except (OSError, sqlite3.Error):
        _remove(temporary)
        raise
    disk.sync_directory(directory)
    return Segment(path, base, base, None, None, path.stat().st_size, sealed=False)


def inspect(path: Path, *, thorough: bool) -> Segment:
    """What a segment holds, after SQLite has recovered its WAL.

    `thorough` also reads all of it (about 0.2 s for 64 MiB). Raises LogCorrupt, naming the file.
    """
    base = int(path.stem)
    sealed = not has_wal(path)
    try:
        with contextlib.closing(connect_reader(path, sealed=sealed)) as connection:
            _check_identity(connection, path)
            if thorough:
                _check_pages(connection, path)
            first = _edge(connection, "ASC")
            last = _edge(connection, "DESC")
    except sqlite3.Error as error:
        raise corrupt(path, str(error)) from error
    if first and first[0] != base:
        raise corrupt(path, f"it starts at offset {first[0]}")
    return Segment(
        path=path,
        base=base,
        end=last[0] + 1 if last else base,
        first_at=first[1] if first else None,
        last_at=last[1] if last else None,
        size=path.stat().st_size + _wal_bytes(path),
        sealed=sealed,
    )


def connect_reader(path: Path, *, sealed: bool) -> sqlite3.Connection:
    """A connection that only reads, for one thread at a time.

    A sealed segment is opened as immutable: no locks and no files beside it. Others need the WAL's
    shared memory and so a writable handle, which `query_only` then binds.
    """
    connection = _connect(path, "mode=ro&immutable=1" if sealed else "mode=rw")
    connection.execute("PRAGMA query_only=1")
    return connection


def read(connection: sqlite3.Connection, start: int, end: int) -> Iterator[tuple[int, Row]]:
    """The records from `start` up to `end` (exclusive), in order, each with its offset."""
    cursor = connection.execute(
        'SELECT "offset", headers, payload FROM records '
        'WHERE "offset" >= ? AND "offset" < ? ORDER BY "offset"',
        (start, end),
    )
    try:
        for offset, headers, payload in cursor:
            yield offset, (headers, payload)
    finally:
        cursor.close()


def first_since(segment: Segment, since: int) -> int:
    """The first offset appended at or after `since` (microseconds), else the segment's end."""
    with contextlib.closing(connect_reader(segment.path, sealed=segment.sealed)) as connection:
        row = connection.execute(
            'SELECT "offset" FROM records WHERE appended_at >= ? ORDER BY "offset" LIMIT 1',
            (since,),
        ).fetchone()
    return row[0] if row else segment.end


def appended_at(segment: Segment, offset: int) -> int | None:
    """The append time of one record, None if the segment does not hold it."""
    with contextlib.closing(connect_reader(segment.path, sealed=segment.sealed)) as connection:
        row = connection.execute(
            'SELECT appended_at FROM records WHERE "offset" = ?', (offset,)
        ).fetchone()
    return row[0] if row else None


def sweep(directory: Path) -> None:
    """Remove what a crash left behind: unfinished files, and WALs of segments that are gone."""
    for path in directory.glob("*.new*"):
        path.unlink()
    for pattern in (f"*{SUFFIX}-wal", f"*{SUFFIX}-shm"):
        for path in directory.glob(pattern):
            if not path.with_name(path.name[:-4]).exists():
                path.unlink()


class SegmentWriter:
    """The one writer of a segment; used by one thread at a time."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._connection = _connect(segment.path, "mode=rw")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("PRAGMA wal_autocheckpoint=0")
        # Only a seal can meet a lock (a reader's), and it is tried again later.
        self._connection.execute("PRAGMA busy_timeout=100")
        self._pending = _wal_bytes(segment.path)
        self._settled = segment.size - self._pending

    def append(self, rows: Sequence[Row], at: int) -> int:
        """Append the records in one transaction, on disk when it returns; the first one's offset.

        Raises sqlite3.Error, and then none of them is in the segment.
        """
        segment = self.segment
        first = segment.end
        try:
            self._insert(rows, first, at)
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.rollback()
            raise
        segment.first_at = segment.first_at or at
        segment.last_at = at
        segment.end = first + len(rows)
        self._pending += sum(len(headers) + len(payload) for headers, payload in rows) + PAGE_BYTES
        segment.size = self._settled + self._pending
        return first

    def checkpoint(self) -> None:
        """Move the WAL into the database once it is large enough. Never waits for readers."""
        if self._pending >= CHECKPOINT_BYTES:
            _checkpoint(self._connection, "PASSIVE")
            self._settle()

    def seal(self) -> bool:
        """Move all of the WAL into the database, durably. False while a reader is in the way."""
        if not _checkpoint(self._connection, "TRUNCATE"):
            return False
        self._settle()
        self.segment.sealed = True
        return True

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def _insert(self, rows: Sequence[Row], first: int, at: int) -> None:
        # One statement outside a transaction is its own: begin, insert and commit in one call.
        if len(rows) <= ROWS_PER_STATEMENT:
            self._execute(rows, first, at)
            return
        self._connection.execute("BEGIN IMMEDIATE")
        for start in range(0, len(rows), ROWS_PER_STATEMENT):
            self._execute(rows[start : start + ROWS_PER_STATEMENT], first + start, at)
        self._connection.execute("COMMIT")

    def _execute(self, rows: Sequence[Row], first: int, at: int) -> None:
        values = [
            value
            for offset, (headers, payload) in enumerate(rows, first)
            for value in (offset, at, headers, payload)
        ]
        self._connection.execute(_insert_statement(len(rows)), values)

    def _settle(self) -> None:
        self._pending = 0
        self._settled = self.segment.path.stat().st_size + _wal_bytes(self.segment.path)
        self.segment.size = self._settled


@functools.cache
def _insert_statement(rows: int) -> str:
    row = f"({','.join('?' * _COLUMNS)})"
    return f"INSERT INTO records VALUES {','.join([row] * rows)}"  # noqa: S608  (only marks)


def _connect(path: Path, parameters: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{parameters}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=ROWS_PER_STATEMENT + 16,
        timeout=5,
    )


def _checkpoint(connection: sqlite3.Connection, mode: str) -> bool:
    busy, _, _ = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    return not busy


def _check_identity(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != APPLICATION_ID:
        raise corrupt(path, "it is not a segment of a Nilometer log")
    if version > FORMAT:
        raise ConfigurationError(
            f"the log segment {path} has format {version}; this version of Nilometer reads up to "
            f"{FORMAT}. Upgrade it to go on."
        )


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise corrupt(path, verdict)


def _edge(connection: sqlite3.Connection, order: str) -> tuple[int, int] | None:
    return connection.execute(
        f'SELECT "offset", appended_at FROM records ORDER BY "offset" {order} LIMIT 1'  # noqa: S608
    ).fetchone()


def corrupt(path: Path, why: str) -> LogCorrupt:
    """The error for a segment that cannot be read as it must be."""
    return LogCorrupt(
        f"the log segment {path} is damaged: {why}. Restore the file from a copy; nothing was "
        "changed and no record was skipped."
    )


def _companions(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def has_wal(path: Path) -> bool:
    """Whether records of the segment may still be in a WAL."""
    return _wal_bytes(path) > 0


def _wal_bytes(path: Path) -> int:
    try:
        return _companions(path)[0].stat().st_size
    except FileNotFoundError:
        return 0


def _remove(path: Path) -> None:
    for each in (path, *_companions(path)):
        each.unlink(missing_ok=True)
