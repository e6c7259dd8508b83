"""The relational engine: one class that opens transactions, and the base of every table.

Organizations, projects, keys and dead letters are kept in SQLite (the embedded profile) or in
PostgreSQL (the distributed one). What SQLite is told (WAL, a full sync at every commit, `BEGIN
IMMEDIATE`) makes a commit durable and keeps two writers from a deadlock; see
https://www.sqlite.org/wal.html and https://www.sqlite.org/lang_transaction.html.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Engine, MetaData, exc, make_url
from sqlalchemy.orm import DeclarativeBase, Session

from nilometer.database import postgres, sqlite
from nilometer.database.fence import RowScope
from nilometer.database.queued_lock import QueuedLock
from nilometer.database.transactions import BUSY_SECONDS, Transaction
from nilometer.errors import ConfigurationError, InvalidInput, Unavailable


class DatabaseUnavailable(Unavailable):
    """The database cannot be read or written now. Nothing of the transaction took effect."""

    code = "database_unavailable"


_BACKENDS = {"sqlite": sqlite, "postgresql": postgres}


class Base(DeclarativeBase):
    """The base of every table. Constraints have predictable names, so a migration can name one."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Database:
    """Opens transactions. Safe to share between threads; blocks, so never on the event loop.

    Constructing it touches no file: `migrate.migrate` creates the database. A database file that
    has gone is an error (`DatabaseUnavailable`) and is never replaced by an empty one, in which
    every key would be unknown.
    """

    def __init__(self, url: str) -> None:
        """`url` is `sqlite:///` and the path of the file, or
        `postgresql://user:password@host:port/database`. Raises ConfigurationError for others."""
        parsed = _parsed(url)
        self.backend = _BACKENDS[parsed.get_backend_name()]
        self.engine: Engine = self.backend.make_engine(parsed)
        self.url = parsed
        self._turn = QueuedLock() if self.backend is sqlite else None

    @property
    def path(self) -> Path | None:
        """SQLite's file; None for a server."""
        return Path(self.url.database or "") if self.backend is sqlite else None

    @contextmanager
    def session(self, rows: RowScope) -> Generator[Session]:
        """One transaction that may write: durable when the block ends, undone when it raises.

        The write lock is taken at the start, so what the block reads is still true when it
        commits. Waits up to `BUSY_SECONDS` for another writer, then DatabaseUnavailable.
        Objects stay readable after the block.
        """
        with self._writing(Transaction.WRITE, rows) as session:
            yield session

    @contextmanager
    def concurrent(self, rows: RowScope) -> Generator[Session]:
        """As `session`, but on a server beside others that write: what was read holds until the
        commit only for rows that the block has locked or changed. For what must scale, and names
        the rows that it must have to itself."""
        with self._writing(Transaction.CONCURRENT, rows) as session:
            yield session

    @contextmanager
    def _writing(self, purpose: Transaction, rows: RowScope) -> Generator[Session]:
        with (
            self._turn_to_write(),
            self.translated(),
            self._opened(purpose, rows) as session,
            session.begin(),
        ):
            # A session begins late; the lock must be held before the caller reads.
            session.connection()
            yield session

    @contextmanager
    def read(self, rows: RowScope) -> Generator[Session]:
        """One consistent snapshot. A write inside it is refused by the database."""
        with self.translated(), self._opened(Transaction.READ, rows) as session:
            yield session

    def _opened(self, purpose: Transaction, rows: RowScope) -> Session:
        """A session whose transactions are for this and see these rows. (An engine with options of
        its own, made for each, would cost more than what most transactions do.)"""
        options = {"transaction": purpose, "rows": rows.text}
        return Session(self.engine, expire_on_commit=False, execution_options=options)

    @contextmanager
    def _turn_to_write(self) -> Generator[None]:
        """Writers of this process take turns here: who waits for SQLite's own lock looks for it
        now and then, sleeps up to a tenth of a second in between, and meets others in it."""
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise DatabaseUnavailable("the database does not answer: another writer has it")
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def translated(self) -> Generator[None]:
        """Turn a database that does not answer into DatabaseUnavailable, and NUL, which no text of
        PostgreSQL holds, into InvalidInput: the one place that does.

        What it says names no value of a statement.
        """
        try:
            yield
        except exc.DBAPIError as error:
            if self.backend.is_outage(error):
                reason = self.backend.reason(error)
                raise DatabaseUnavailable(f"the database does not answer: {reason}") from error
            if self.backend.holds_nul(error):
                raise InvalidInput("a text holds NUL, which cannot be kept", code="nul") from error
            raise
        except exc.TimeoutError as error:
            raise DatabaseUnavailable(
                "the database does not answer: every connection is taken"
            ) from error

    @contextmanager
    def alone(self, name: str) -> Generator[bool]:
        """Whether this is the only one, of all processes on this database, that is within a block
        of this name; False at once where another is. Should the connection break, another may
        begin before the block has ended."""
        with self.translated(), self.backend.alone(self.engine, name) as mine:
            yield mine

    def close(self) -> None:
        """Close every connection. A later transaction would open new ones."""
        self.engine.dispose()


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        raise ConfigurationError("the database URL cannot be read", attr="database_url") from None
    if parsed.get_backend_name() not in _BACKENDS or not parsed.database:
        raise ConfigurationError(
            "the database URL must be sqlite:///path/of/the/file or "
            "postgresql://user:password@host:port/database",
            attr="database_url",
        )
    return parsed
