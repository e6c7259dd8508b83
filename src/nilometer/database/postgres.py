"""What makes PostgreSQL the database of record: how it is reached, begun, locked and fenced.

Writers take one advisory lock each in turn, as on SQLite: what a transaction reads is still true
when it commits, on any number of processes. Management is seldom; what must scale (tasks) asks for
a transaction without it (`Database.concurrent`).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, text

from nilometer.database.deadlines import Deadlines, closed_by_server
from nilometer.database.transactions import (
    BUSY_SECONDS,
    CONNECTIONS,
    MIGRATION_SECONDS,
    Transaction,
)
from nilometer.errors import ConfigurationError

if TYPE_CHECKING:
    from psycopg import Connection as Driver

_DRIVER = "postgresql+psycopg"
_CONNECT_SECONDS = 5
_STATEMENT_SECONDS = 30
_IDLE_SECONDS = 60
_TABLE_SECONDS = 2  # less than any client waits (BUSY_SECONDS)

ANSWER_SECONDS = 40
"""How long one transaction may take before its connection is given up."""

# Of the database, so that nothing else in it may use them: "nilo" and what is locked.
_WRITERS = 0x6E696C6F_00000001
_MIGRATIONS = 0x6E696C6F_00000002
_TURNS = 0x6E696C6F

# A server that went away without a word is noticed in half a minute. See
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_KEEPALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_LOCK = {Transaction.WRITE: _WRITERS, Transaction.MIGRATE: _MIGRATIONS}
_DEADLINES = Deadlines()


def make_engine(url: URL) -> Engine:
    """An engine on one database. Opens nothing. Raises ConfigurationError without the driver."""
    try:
        engine = create_engine(
            url.set(drivername=_DRIVER),
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=BUSY_SECONDS,
            pool_recycle=1800,
            hide_parameters=True,
            connect_args=_connect_arguments(url),
        )
    except ModuleNotFoundError:
        raise ConfigurationError(
            'PostgreSQL needs its driver: pip install "nilometer[postgres]"', attr="database_url"
        ) from None
    event.listen(engine, "checkout", _check)
    event.listen(engine, "begin", _set_deadline)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "checkin", _release)
    return engine


def is_outage(error: exc.DBAPIError) -> bool:
    """Whether the server, and not the statement, is at fault."""
    # 57P01 to 57P03: shut down, crashed, starting up; 53: out of disk, memory, connections; 08: the
    # connection; 25006: a standby; 28, 3D000, 42501: what an operator has to mend; 55P03 and 57014:
    # waited too long; 40: undone for another's sake; 58 and XX: the system and the server itself.
    # https://www.postgresql.org/docs/current/errcodes-appendix.html
    code: str | None = getattr(error.orig, "sqlstate", None)
    if code is None:
        return isinstance(error, (exc.OperationalError, exc.InterfaceError, exc.InternalError))
    outages = ("08", "25006", "28", "3D000", "40", "42501", "53", "55P03", "57", "58", "XX")
    return code.startswith(outages)


def holds_nul(error: exc.DBAPIError) -> bool:
    """Whether a text was refused because it holds NUL: by the driver, or by the server (22021)."""
    code: str | None = getattr(error.orig, "sqlstate", None)
    by_driver = isinstance(error, exc.DataError) and code is None and "NUL" in str(error.orig)
    return by_driver or code == "22021"


def reason(error: exc.DBAPIError) -> str:
    """A short text that names no value, host or user."""
    code: str | None = getattr(error.orig, "sqlstate", None)
    name = type(error.orig).__name__
    return f"{name} ({code})" if code else name


def is_in_use(error: BaseException | None) -> bool:
    """Whether others had what a migration wants to change."""
    return isinstance(error, exc.DBAPIError) and getattr(error.orig, "sqlstate", "") == "55P03"


@contextmanager
def alone(engine: Engine, name: str) -> Generator[bool]:
    """Whether nobody else has this lock. It is the connection's, without a transaction, so that it
    may be held for hours."""
    with _as_sqlalchemy_tells():
        connection = engine.raw_connection()
    driver = cast("Driver[Any]", connection.driver_connection)
    driver.autocommit = True
    try:
        mine = _answer(driver, "SELECT pg_try_advisory_lock(%s, hashtext(%s))", name)
        yield mine
        if mine:
            _answer(driver, "SELECT pg_advisory_unlock(%s, hashtext(%s))", name)
    except BaseException:
        connection.invalidate()  # whatever it holds ends with it
        raise
    finally:
        if connection.is_valid:
            driver.autocommit = False
        connection.close()


def _answer(driver: Driver[Any], statement: LiteralString, name: str) -> bool:
    """What the server says of a lock, in the time that a transaction has."""
    _DEADLINES.give(driver, ANSWER_SECONDS)
    try:
        with _as_sqlalchemy_tells():
            row = driver.execute(statement, (_TURNS, name)).fetchone()
    finally:
        _DEADLINES.release(driver)
    return bool(row and row[0])


@contextmanager
def _as_sqlalchemy_tells() -> Generator[None]:
    """Errors of a connection without a transaction come from the driver itself."""
    from psycopg import Error

    try:
        yield
    except Error as error:
        raise exc.OperationalError(None, None, error) from error


def check_migrated(connection: Connection) -> bool:  # noqa: ARG001
    """True: foreign keys hold throughout a migration."""
    return True


def _connect_arguments(url: URL) -> dict[str, Any]:
    options = {
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "nilometer",
        **_KEEPALIVE,
    }
    return {name: value for name, value in options.items() if name not in url.query}


def _release(driver: Any, _: object) -> None:
    if driver is not None:
        _DEADLINES.release(driver)


def _check(driver: Any, _: object, __: object) -> None:
    # After a restart of the server every pooled connection has ended.
    if closed_by_server(driver):
        raise exc.InvalidatePoolError


def _set_deadline(connection: Connection) -> None:
    seconds = MIGRATION_SECONDS if _purpose(connection) is Transaction.MIGRATE else ANSWER_SECONDS
    _DEADLINES.give(cast("Driver[Any]", connection.connection.driver_connection), seconds)


def _purpose(connection: Connection) -> Transaction:
    options = connection.get_execution_options()
    return Transaction(options.get("transaction", Transaction.WRITE))


def _begin(connection: Connection) -> None:
    from psycopg import IsolationLevel

    options = connection.get_execution_options()
    purpose = _purpose(connection)
    reading = purpose is Transaction.READ
    # What the driver's BEGIN says, which it sends with the first statement.
    driver = cast("Driver[Any]", connection.connection.driver_connection)
    driver.isolation_level = (
        IsolationLevel.REPEATABLE_READ if reading else IsolationLevel.READ_COMMITTED
    )
    driver.read_only = reading
    migrating = purpose is Transaction.MIGRATE
    waits = MIGRATION_SECONDS if migrating else BUSY_SECONDS
    longest = MIGRATION_SECONDS if migrating else _STATEMENT_SECONDS
    connection.execute(
        text(
            "SELECT set_config('nilometer.rows', :rows, true), "
            "set_config('lock_timeout', :waits, true), "
            "set_config('statement_timeout', :longest, true), "
            "set_config('idle_in_transaction_session_timeout', :idle, true), "
            "set_config('timezone', 'UTC', true)"
        ),
        {
            "rows": options.get("rows", ""),
            "waits": f"{waits}s",
            "longest": f"{longest}s",
            "idle": f"{max(_IDLE_SECONDS, longest)}s",
        },
    )
    if purpose in _LOCK:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK[purpose]})
    if migrating:
        # A change of a table waits for those who use it, and those who come wait behind it.
        connection.execute(text(f"SET LOCAL lock_timeout = '{_TABLE_SECONDS}s'"))
