"""The store: ClickHouse's engine in this process (chDB), behind one class."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import chdb
import orjson
from clickhouse_connect.driver.exceptions import ClickHouseError

from nilometer import failpoints
from nilometer.clickhouse import engine, errors, migrate
from nilometer.clickhouse.binding import bound
from nilometer.clickhouse.errors import StoreRejected, StoreUnavailable
from nilometer.clickhouse.sandbox import EMPTY_DATABASE, Sandbox, sandbox
from nilometer.clickhouse.spool import spooled
from nilometer.observability import metrics

__all__ = ["DATABASE", "QueryRows", "Store", "StoreRejected", "StoreState", "StoreUnavailable"]

DATABASE = "nilometer"
_log = logging.getLogger(__name__)

# A read may take so long and so much unless it says otherwise.
_QUERY_LIMITS: Mapping[str, Any] = {"max_execution_time": 30, "max_memory_usage": 1 << 30}
# Rows are taken literally: a field without a column, or a null where none may be, is an error and
# not a default.
_INSERT_SETTINGS: Mapping[str, Any] = {
    "date_time_input_format": "best_effort",
    "input_format_skip_unknown_fields": 0,
    "input_format_null_as_default": 0,
    "async_insert": 0,
    # A batch is a few megabytes: parsing it in one thread costs less than sharing it out.
    "input_format_parallel_parsing": 0,
    "max_threads": 1,
}
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class QueryRows:
    """The answer of a query: column names, and one tuple per row.

    Times are aware UTC datetimes, decimals are `Decimal`, UUIDs are `uuid.UUID`.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def dicts(self) -> list[dict[str, Any]]:
        """The rows by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True)
class StoreState:
    """Whether the store works, for readiness; `reason` says why not."""

    ready: bool
    reason: str


@dataclass(slots=True)
class _Meters:
    """One table's metric children, resolved once."""

    ok: Any
    failed: Any
    rows: Any
    seconds: Any


@dataclass(slots=True)
class Store:
    """The engine's data directory, and every way Nilometer talks to it.

    Thread-safe: each call has a handle of its own. One process and, within it, one directory at a
    time (chDB's rule). The process must not fork after `open`; subprocesses are fine. Queries and
    inserts release the interpreter lock while the engine works.
    """

    directory: Path
    _engine: engine.Engine | None = field(default=None, init=False)
    _trouble: str = field(default="", init=False)
    _opening: threading.Lock = field(default_factory=threading.Lock, init=False)
    _meters: dict[str, _Meters] = field(default_factory=dict[str, _Meters], init=False)

    def open(self) -> None:
        """Open the engine, create the database and run the migrations that are missing.

        Does nothing when it is open. Files that a killed process left in the temporary
        directories (they may hold prompts) are deleted first. Raises StoreUnavailable when the
        engine cannot be opened, and ConfigurationError when its schema is not ours.
        """
        with self._opening:
            if self._engine is not None:
                return
            with self._translated(errors.of_open):
                self._sweep()
                self._create()
            self._engine = engine.engine(self._path, DATABASE)

    def query(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> QueryRows:
        """The rows of a SELECT, all in memory.

        Parameters are bound by the engine, `{name:Type}` in the text; aware datetimes keep their
        microseconds. `settings` are ClickHouse's, over a limit of 30 s and 1 GiB. Raises
        StoreUnavailable and StoreRejected.
        """
        with self._reading() as client:
            result = client.query(
                sql, parameters=bound(parameters), settings={**_QUERY_LIMITS, **(settings or {})}
            )
            return QueryRows(tuple(result.column_names), result.result_rows)

    def command(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run a statement that returns nothing. Raises as `query` does."""
        with self._reading() as client:
            client.command(sql, parameters=bound(parameters))

    @contextlib.contextmanager
    def sandbox(self, settings: Mapping[str, object]) -> Generator[Sandbox]:
        """A read-only handle in an empty database, for a query that is not ours.

        Nothing that it raises changes the store's state: a query that fails is no sign that others
        do. Raises StoreUnavailable.
        """
        with self._reading():
            pass  # leaves an idle handle: without any other, the engine starts and ends with ours
        with sandbox(self._path, settings) as opened:
            yield opened

    def insert(
        self,
        table: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Insert rows in one part per month; they are on disk (fsynced) when it returns.

        A column that a row does not name takes its default. Datetimes must be aware. Raises
        StoreUnavailable (nothing or everything of it may be stored: insert the same again) and
        StoreRejected (a row cannot be stored; nothing was).
        """
        if rows:
            body = b"\n".join([orjson.dumps(row, _json_default, orjson.OPT_UTC_Z) for row in rows])
            self._insert(table, body, len(rows), settings)

    def insert_lines(
        self,
        table: str,
        lines: Sequence[bytes],
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """As `insert`, of rows that are JSON objects already, each on one line."""
        if lines:
            self._insert(table, b"\n".join(lines), len(lines), settings)

    def state(self) -> StoreState:
        """The last known state; does not ask the engine."""
        if self._engine is None:
            return StoreState(ready=False, reason=self._trouble or "the store is not open")
        return StoreState(ready=not self._trouble, reason=self._trouble)

    def ready(self) -> bool:
        """Whether the store is open and its last insert or statement did not find it down."""
        return self.state().ready

    def close(self) -> None:
        """Close the engine once the calls under way have ended. Calls after it raise
        StoreUnavailable."""
        with self._opening:
            opened, self._engine = self._engine, None
            if opened is not None:
                opened.close()

    @property
    def _path(self) -> Path:
        return self.directory / "engine"

    @property
    def _temporary(self) -> Path:
        return self.directory / "tmp"

    def _sweep(self) -> None:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for temporary in (self._temporary, self._path / "tmp"):
            if temporary.exists():
                shutil.rmtree(temporary)
        self._temporary.mkdir(mode=0o700)

    def _create(self) -> None:
        reader = engine.open_reader(self._path)
        try:
            failpoints.hit("store")
            reader.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic")
            reader.command(f"CREATE DATABASE IF NOT EXISTS {EMPTY_DATABASE} ENGINE = Atomic")
            reader.command(f"USE {DATABASE}")
            migrate.migrate(reader, lock=self.directory / "migrations.lock")
        finally:
            reader.close()

    def _opened(self) -> engine.Engine:
        if self._engine is None:
            raise StoreUnavailable("the store is not open")
        return self._engine

    @contextlib.contextmanager
    def _reading(self) -> Generator[engine.Reader]:
        opened = self._opened()
        with self._translated(errors.of_statement), opened.readers.lend() as client:
            failpoints.hit("store")
            yield client

    def _insert(
        self,
        table: str,
        body: bytes,
        count: int,
        settings: Mapping[str, Any] | None,
    ) -> None:
        opened = self._opened()
        statement = _insert_statement(table, {**_INSERT_SETTINGS, **(settings or {})})
        meters = self._meters_of(table)
        started = time.perf_counter()
        try:
            with (
                self._translated(lambda error: errors.of_insert(error, table)),
                opened.writers.lend() as writer,
            ):
                failpoints.hit("store")
                with spooled(body, self._temporary) as path:
                    result = writer.query(statement(path))
                _require(result.rows_read(), count, table)
        except (StoreUnavailable, StoreRejected):
            meters.failed.inc()
            raise
        meters.ok.inc()
        meters.rows.inc(count)
        meters.seconds.observe(time.perf_counter() - started)

    @contextlib.contextmanager
    def _translated(
        self, translate: Callable[[Exception], StoreUnavailable | StoreRejected]
    ) -> Generator[None]:
        """Engine errors as ours, without their text; the state follows them."""
        try:
            yield
        except failpoints.Fault as fault:
            translated: StoreUnavailable | StoreRejected = StoreUnavailable(f"the store: {fault}")
        except (ClickHouseError, chdb.ChdbError, RuntimeError, OSError) as error:
            translated = translate(error)
        except StoreUnavailable as unavailable:
            translated = unavailable
        else:
            self._trouble = ""
            return
        if isinstance(translated, StoreUnavailable):
            # One costly read is no sign that others fail.
            if not isinstance(translated, errors.StatementTooCostly):
                self._trouble = translated.detail
            _log.warning("%s", translated.detail)
        raise translated from None

    def _meters_of(self, table: str) -> _Meters:
        meters = self._meters.get(table)
        if meters is None:
            meters = self._meters[table] = _Meters(
                metrics.STORE_INSERTS.labels(table, "ok"),
                metrics.STORE_INSERTS.labels(table, "failed"),
                metrics.STORE_ROWS.labels(table),
                metrics.STORE_INSERT_SECONDS.labels(table),
            )
        return meters


def _require(taken: int, given: int, table: str) -> None:
    """A second look at what the engine says: an insert that is not whole has not happened."""
    if taken != given:
        raise StoreUnavailable(f"the store took {taken} of {given} rows of {table}")


def _insert_statement(table: str, settings: Mapping[str, Any]) -> Callable[[str], str]:
    """The statement that inserts a file, by the file's path."""
    name = _identifier(table)
    values = ", ".join(f"{_identifier(name)} = {_literal(v)}" for name, v in settings.items())
    return lambda path: (
        f"INSERT INTO {name} FROM INFILE {_literal(path)} SETTINGS {values} FORMAT JSONEachRow"
    )


def _identifier(name: str) -> str:
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"{name!r} is not a table, column or setting name")
    return name


def _literal(value: object) -> str:
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _json_default(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be stored")
