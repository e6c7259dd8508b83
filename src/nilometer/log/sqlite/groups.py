"""How far each consumer group has come, durable in one small SQLite file.

Besides the present offset of a group the file holds a short history of it by time, so that after an
unclean stop a group can be put back to where it stood a while ago. Time of commit and not of
append: what the store may have lost is what was inserted lately, however old the records were.

Commits are `synchronous=FULL`. NORMAL would do, since reading again is harmless and an unclean stop
reads again anyway; but the pipeline commits a few times a second, and the promise of
`Consumer.commit` is then simple.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Generator
from pathlib import Path

from nilometer.log.sqlite.segment import LogCorrupt

_HISTORY_STEPS = 60

_SCHEMA = """
CREATE TABLE IF NOT EXISTS groups (
    name TEXT PRIMARY KEY,
    committed INTEGER NOT NULL,
    committed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (
    name TEXT NOT NULL,
    at INTEGER NOT NULL,
    committed INTEGER NOT NULL,
    PRIMARY KEY (name, at)
) STRICT, WITHOUT ROWID;
"""

_SET = """
INSERT INTO groups VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET committed = excluded.committed, committed_at = excluded.committed_at
"""
_REMEMBER = """
INSERT INTO history VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET committed = min(committed, excluded.committed)
"""
_FORGET = """
DELETE FROM history WHERE name = :name
AND at < (SELECT max(at) FROM history WHERE name = :name AND at <= :cutoff)
"""
# The last entry at or before the cutoff says where the group stood then; later entries may be
# lower, after a rewind.
_LOWEST_SINCE = """
SELECT min(committed) FROM history WHERE name = :name
AND at >= coalesce((SELECT max(at) FROM history WHERE name = :name AND at <= :cutoff), at)
"""


class GroupOffsets:
    """The committed offset (the next one to read) of every known group. Thread-safe.

    Times are microseconds; `keep` is how far back the history reaches.
    """

    def __init__(self, path: Path, *, keep: int) -> None:
        self._keep = keep
        self._step = keep // _HISTORY_STEPS
        self._lock = threading.Lock()
        try:
            self._connection = _open(path)
            self.committed: dict[str, int] = dict(
                self._connection.execute("SELECT name, committed FROM groups")
            )
            self._committed_at: dict[str, int] = dict(
                self._connection.execute("SELECT name, committed_at FROM groups")
            )
            self._remembered: dict[str, int] = dict(
                self._connection.execute("SELECT name, max(at) FROM history GROUP BY name")
            )
        except sqlite3.DatabaseError as error:
            raise LogCorrupt(
                f"the log's group offsets {path} are damaged: {error}. Restore the file from a "
                "copy, or remove it: every group then reads again from the oldest record."
            ) from error

    def last_activity(self) -> int:
        """When a group last moved, 0 if none ever did."""
        return max(self._committed_at.values(), default=0)

    def register(self, name: str, start: int, at: int) -> None:
        """Make the group known, at `start` if it is new."""
        with self._lock:
            if name not in self.committed:
                self._store(name, start, at, remember=True)

    def commit(self, name: str, offset: int, at: int) -> None:
        """Move the group forward to `offset`; never backward."""
        with self._lock:
            if offset > self.committed[name]:
                due = at - self._remembered[name] >= self._step
                self._store(name, offset, at, remember=due)

    def rewind(self, name: str, offset: int, at: int) -> None:
        """Move the group backward to `offset`; never forward."""
        with self._lock:
            if offset < self.committed[name]:
                self._store(name, offset, at, remember=True)

    def lowest_since(self, name: str, cutoff: int) -> int:
        """The lowest offset at which the group stood at `cutoff` or later."""
        with self._lock:
            if self._committed_at[name] <= cutoff:
                return self.committed[name]
            (lowest,) = self._connection.execute(
                _LOWEST_SINCE, {"name": name, "cutoff": cutoff}
            ).fetchone()
            return min(self.committed[name], lowest)

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._connection.close()

    def _store(self, name: str, offset: int, at: int, *, remember: bool) -> None:
        with self._transaction() as connection:
            connection.execute(_SET, (name, offset, at))
            if remember:
                connection.execute(_REMEMBER, (name, at, offset))
                connection.execute(_FORGET, {"name": name, "cutoff": at - self._keep})
        self.committed[name] = offset
        self._committed_at[name] = at
        if remember:
            self._remembered[name] = at

    @contextlib.contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.rollback()
            raise


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(_SCHEMA)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection
