"""The store: ClickHouse, in this process or on a server, behind one class."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from nilometer import failpoints
from nilometer.clickhouse import errors, migrate
from nilometer.clickhouse.address import DATABASE, Server
from nilometer.clickhouse.binding import bound, divided
from nilometer.clickhouse.engine import Engine, Reader
from nilometer.clickhouse.errors import StoreRejected, StoreUnavailable
from nilometer.clickhouse.names import identifier
from nilometer.clickhouse.sandbox import Sandbox
from nilometer.observability import metrics

__all__ = ["DATABASE", "QueryRows", "Store", "StoreRejected", "StoreState", "StoreUnavailable"]

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


class Store:
    """ClickHouse with our tables, and every way Nilometer talks to it.

    Thread-safe: each call has a handle of its own. A directory is opened by one process at a time
    and, within it, no other directory beside it (chDB's rule); that process must not fork after
    `open`; subprocesses are fine. A server takes any number of both. Queries and inserts release
    the interpreter lock while the engine works.
    """

    def __init__(self, where: Path | Server) -> None:
        self._engine = _engine_of(where)
        self._is_open = False
        self._trouble = ""
        self._opening = threading.Lock()
        self._meters: dict[str, _Meters] = {}

    def open(self, *, migrating: bool = True) -> None:
        """Open the engine, create the database and run the migrations that are missing. Without
        `migrating`, define nothing: raises SchemaBehind where something is missing.

        Does nothing when it is open. Raises StoreUnavailable when the engine cannot be opened, and
        ConfigurationError when its schema is not ours, or of a release that serves ours no more.
        """
        with self._opening:
            if self._is_open:
                return
            with self._translated(errors.of_open):
                failpoints.hit("store")
                self._engine.open(migrating=migrating)
            self._is_open = True

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
        sql, parameters = divided(sql, parameters or {}, self._engine.longest_value)
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
        self._require_open()
        try:
            failpoints.hit("store")
        except failpoints.Fault as fault:
            raise StoreUnavailable(f"the store: {fault}") from None
        with self._engine.sandbox(settings) as opened:
            yield opened

    def everywhere(self, table: str) -> str:
        """A system table for a FROM: of all hosts, where the store is on a cluster."""
        return self._engine.layout.everywhere(table)

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

    def schema(self) -> tuple[int, int]:
        """The newest migration that the store has, and the newest that this release knows."""
        with self._reading() as client:
            return migrate.versions(client)

    def insert_encoded(
        self, table: str, body: bytes, form: str, *, settings: Mapping[str, Any] | None = None
    ) -> int:
        """As `insert`, of rows that are in a format of ClickHouse's, names of columns included.
        Returns how many rows there were."""
        return self._insert(table, body, None, settings, form)

    def state(self) -> StoreState:
        """The last known state; does not ask the engine."""
        if not self._is_open:
            return StoreState(ready=False, reason=self._trouble or "the store is not open")
        return StoreState(ready=not self._trouble, reason=self._trouble)

    def ready(self) -> bool:
        """Whether the store is open and its last insert or statement did not find it down."""
        return self.state().ready

    def close(self) -> None:
        """Close the engine once the calls under way have ended. Calls after it raise
        StoreUnavailable."""
        with self._opening:
            was_open, self._is_open = self._is_open, False
            if was_open:
                self._engine.close()

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailable("the store is not open")

    @contextlib.contextmanager
    def _reading(self) -> Generator[Reader]:
        self._require_open()
        with self._translated(errors.of_statement), self._engine.reading() as client:
            failpoints.hit("store")
            yield client

    def _insert(
        self,
        table: str,
        body: bytes,
        count: int | None,
        settings: Mapping[str, Any] | None,
        form: str = "JSONEachRow",
    ) -> int:
        self._require_open()
        meters = self._meters_of(identifier(table))
        fixed = {identifier(name): value for name, value in (settings or {}).items()}
        started = time.perf_counter()
        try:
            with self._translated(lambda error: errors.of_insert(error, table)):
                failpoints.hit("store")
                taken = self._engine.insert(table, body, {**_INSERT_SETTINGS, **fixed}, form)
                _require(taken, taken if count is None else count, table)
        except (StoreUnavailable, StoreRejected):
            meters.failed.inc()
            raise
        meters.ok.inc()
        meters.rows.inc(taken)
        meters.seconds.observe(time.perf_counter() - started)
        return taken

    @contextlib.contextmanager
    def _translated(
        self, translate: Callable[[Exception], StoreUnavailable | StoreRejected]
    ) -> Generator[None]:
        """Engine errors as ours, without their text; the state follows them."""
        try:
            yield
        except failpoints.Fault as fault:
            translated: StoreUnavailable | StoreRejected = StoreUnavailable(f"the store: {fault}")
        except StoreUnavailable as unavailable:
            translated = unavailable
        except self._engine.faults as error:
            translated = translate(error)
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


def _engine_of(where: Path | Server) -> Engine:
    """The engine; only its own driver is loaded (chDB's library is 200 MB)."""
    if isinstance(where, Server):
        from nilometer.clickhouse.network import Network

        return Network(where)
    from nilometer.clickhouse.embedded import Embedded

    return Embedded(where)


def _json_default(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be stored")
