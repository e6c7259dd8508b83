"""The relational engine: one class that opens transactions, and the base of every table.

SQLite keeps the embedded profile's organizations, projects, keys and dead letters. What it is told
(WAL, a full sync at every commit, `BEGIN IMMEDIATE`) makes a commit durable and keeps two writers
from a deadlock; see https://www.sqlite.org/wal.html and https://www.sqlite.org/lang_transaction.html.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, MetaData, exc, make_url
from sqlalchemy.orm import DeclarativeBase, Session

from nilometer.database import sqlite
from nilometer.errors import ConfigurationError, Unavailable


class DatabaseUnavailable(Unavailable):
    """The database cannot be read or written now. Nothing of the transaction took effect."""

    code = "database_unavailable"


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
        """`url` is `sqlite:///` and the path of the file. Raises ConfigurationError for others."""
        try:
            parsed = make_url(url)
        except exc.ArgumentError:
            raise ConfigurationError("the database URL cannot be read", attr="url") from None
        if parsed.get_backend_name() != "sqlite" or not parsed.database:
            raise ConfigurationError(
                "the database URL must be sqlite:///path/of/the/file", attr="url"
            )
        self.engine: Engine = sqlite.make_engine(parsed.database)
        self.path = Path(parsed.database)
        self._readers = self.engine.execution_options(transaction=sqlite.Transaction.READ)

    @contextmanager
    def session(self) -> Generator[Session]:
        """One transaction that may write: durable when the block ends, undone when it raises.

        The write lock is taken at the start, so what the block reads is still true when it
        commits. Waits up to `sqlite.BUSY_SECONDS` for another writer, then DatabaseUnavailable.
        Objects stay readable after the block.
        """
        with (
            translated(),
            Session(self.engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            # A session begins late; the lock must be held before the caller reads.
            session.connection()
            yield session

    @contextmanager
    def read(self) -> Generator[Session]:
        """One consistent snapshot. A write inside it is refused by the database."""
        with translated(), Session(self._readers, expire_on_commit=False) as session:
            yield session

    def close(self) -> None:
        """Close every connection. A later transaction would open new ones."""
        self.engine.dispose()


@contextmanager
def translated() -> Generator[None]:
    """Turn a database that does not answer into DatabaseUnavailable: the one place that does.

    The engine's own short text is kept ("database is locked"); it names no value of a statement.
    """
    try:
        yield
    except exc.DBAPIError as error:
        if _is_outage(error):
            raise DatabaseUnavailable(f"the database does not answer: {error.orig}") from error
        raise
    except exc.TimeoutError as error:
        raise DatabaseUnavailable(
            "the database does not answer: every connection is taken"
        ) from error


def _is_outage(error: exc.DBAPIError) -> bool:
    # A bare DatabaseError is SQLite's "file is not a database" and "disk image is malformed".
    outages = (exc.OperationalError, exc.InterfaceError, exc.InternalError)
    return isinstance(error, outages) or type(error) is exc.DatabaseError
