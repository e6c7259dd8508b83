"""ClickHouse on a server, over HTTP.

Statements and inserts go through clickhouse-connect; untrusted queries as they are, see
`network_sandbox`. HTTP keeps no state, so one client serves all threads: its pool gives each a
connection, and a server that was away is back with the next call.

What is tried again by itself is what cannot have been done: a connection that was not made, and,
for a SELECT, one that was cut. An insert whose answer is lost is StoreUnavailable; the pipeline
asks what is stored before it tries again.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Generator, Mapping
from typing import Any, Protocol, cast

import clickhouse_connect
import zstandard
from clickhouse_connect.driver import httputil
from clickhouse_connect.driver.exceptions import ClickHouseError, StreamCompleteException
from clickhouse_connect.driver.summary import QuerySummary
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from nilometer.clickhouse import migrate, migration_lock
from nilometer.clickhouse.address import DATABASE, Address, Server
from nilometer.clickhouse.engine import QueryResult, Reader
from nilometer.clickhouse.errors import StoreUnavailable
from nilometer.clickhouse.layout import Layout
from nilometer.clickhouse.names import identifier
from nilometer.clickhouse.network_sandbox import ReadOnly, ServerError
from nilometer.clickhouse.sandbox import EMPTY_DATABASE, Sandbox

CONNECTIONS = 16  # kept open, of each user; more are opened when more threads ask at once
CONNECT_SECONDS = 5
# A definition that is sent to a cluster waits for its hosts: 180 s (distributed_ddl_task_timeout).
_DEFINE_SECONDS = 200
_QUORUM_SECONDS = 30
_PROJECT = re.compile(r"\bproject_id = (\d+)\b")


class Client(Protocol):
    """`clickhouse_connect.driver.httpclient.HttpClient`."""

    database: str | None

    def query(
        self,
        query: str,
        parameters: dict[str, Any] | None = ...,
        settings: dict[str, Any] | None = ...,
    ) -> QueryResult:
        """All rows of a SELECT."""
        ...

    def command(
        self,
        cmd: str,
        parameters: dict[str, Any] | None = ...,
        data: bytes | None = ...,
        settings: dict[str, Any] | None = ...,
        *,
        transport_settings: dict[str, str] | None = ...,
    ) -> object:
        """Any other statement, with the data of an insert."""
        ...

    def close(self) -> None:
        """Close the client."""
        ...


class Network:
    """The engine behind an address."""

    faults = (ClickHouseError, StreamCompleteException, ServerError, HTTPError, OSError)
    # A server takes 128 KiB (http_max_field_value_size); it counts the bytes as they are decoded.
    longest_value: int | None = 100_000

    def __init__(self, server: Server) -> None:
        self._server = server
        self.layout = Layout(server.cluster)
        self._pool: PoolManager | None = None
        self._client: Client | None = None
        self._sandboxes: PoolManager | None = None

    def open(self, *, migrating: bool = True) -> None:
        """As `Engine` says. Definitions are made only where some are missing: a user without the
        right to make them can open a store that another has brought up to date."""
        pool = connections(self._server.address)
        try:
            self._prepare(pool, migrating=migrating)
            self._client = self._connected(pool, DATABASE, self._server.timeout)
        except BaseException:
            pool.clear()
            raise
        self._pool = pool
        self._sandboxes = connections(self._server.reader or self._server.address)

    @contextlib.contextmanager
    def reading(self) -> Generator[Reader]:
        """The client of all."""
        yield cast("Reader", self._opened())

    def insert(
        self, table: str, body: bytes, settings: Mapping[str, Any], form: str = "JSONEachRow"
    ) -> int:
        """One part per month. The token is the batch's: sent again, replicated tables take it once
        (see `layout` for the others); one among the settings goes first."""
        token = hashlib.blake2b(b"%s\n%s" % (table.encode(), body), digest_size=16).hexdigest()
        answer = self._opened().command(
            f"INSERT INTO {table} FORMAT {identifier(form)}",
            data=zstandard.compress(body, 1),
            settings={
                "insert_deduplication_token": token,
                **settings,
                **self._quorum(),
                # The answer comes when all is done, and its status is the insert's.
                "wait_end_of_query": 1,
                "send_progress_in_http_headers": 0,
            },
            transport_settings={"Content-Encoding": "zstd"},
        )
        return answer.written_rows if isinstance(answer, QuerySummary) else 0

    @contextlib.contextmanager
    def sandbox(self, settings: Mapping[str, object]) -> Generator[Sandbox]:
        """Each query is a request of its own, which carries the settings and `readonly`."""
        address = self._server.reader or self._server.address
        if self._sandboxes is None:
            raise StoreUnavailable("the store is not open")
        fixed = {**settings, **self._policy(settings), "readonly": 1}
        opened = ReadOnly(self._sandboxes, address, EMPTY_DATABASE, fixed, self._server.timeout)
        yield Sandbox(opened, self.faults)

    def close(self) -> None:
        """As `Engine` says."""
        for pool in (self._pool, self._sandboxes):
            if pool is not None:
                pool.clear()
        self._pool = self._sandboxes = self._client = None

    def _opened(self) -> Client:
        if self._client is None:
            raise StoreUnavailable("the store is not open")
        return self._client

    def _policy(self, settings: Mapping[str, object]) -> dict[str, object]:
        """What the reader's row policies ask for: the project that the tables are filtered to."""
        projects = set(_PROJECT.findall(str(settings.get("additional_table_filters", ""))))
        if self._server.reader is None or len(projects) != 1:
            return {}
        return {"SQL_nilometer_project": projects.pop()}

    def _quorum(self) -> dict[str, Any]:
        if not self._server.insert_quorum:
            return {}
        return {
            "insert_quorum": self._server.insert_quorum,
            "insert_quorum_timeout": _QUORUM_SECONDS * 1000,
        }

    def _prepare(self, pool: PoolManager, *, migrating: bool) -> None:
        if self._is_prepared(self._connected(pool, None, self._server.timeout)):
            return
        if not migrating:
            raise migrate.SchemaBehind("the ClickHouse server lacks tables of this release")
        client = self._connected(pool, None, max(self._server.timeout, _DEFINE_SECONDS))
        for name in (DATABASE, EMPTY_DATABASE):
            statement = self.layout.rendered(f"CREATE DATABASE IF NOT EXISTS {name}")
            client.command(f"{statement} ENGINE = Atomic")
        client.database = DATABASE
        reader = cast("Reader", client)
        lock = migration_lock.held(reader, self.layout)
        migrate.migrate(reader, lock=lock, layout=self.layout)

    def _is_prepared(self, client: Client) -> bool:
        databases = client.query(
            "SELECT countIf(name = {ours:String}), countIf(name = {empty:String}) "
            "FROM system.databases",
            {"ours": DATABASE, "empty": EMPTY_DATABASE},
        ).result_rows
        tables = client.query(
            "SELECT count() FROM system.tables "
            "WHERE database = {ours:String} AND name = 'schema_migrations'",
            {"ours": DATABASE},
        ).result_rows
        if databases != [(1, 1)] or tables != [(1,)]:
            return False
        client.database = DATABASE
        return not migrate.pending(cast("Reader", client))

    def _connected(self, pool: PoolManager, database: str | None, timeout: float) -> Client:
        address = self._server.address
        return cast("Any", clickhouse_connect).get_client(
            interface="https" if address.secure else "http",
            host=address.host,
            port=address.port,
            username=address.user,
            password=address.password,
            database=database,
            pool_mgr=pool,
            connect_timeout=CONNECT_SECONDS,
            send_receive_timeout=timeout,
            query_retries=1,
            compress="lz4",
            form_encode_query_params=True,  # a URL is too short for a batch's look-up
            autogenerate_session_id=False,  # sessions take one request at a time
            tz_mode="aware",
            settings={"session_timezone": "UTC"},
        )


def connections(address: Address) -> PoolManager:
    """Connections straight to the server: a proxy of the environment is not for it."""
    return cast("Any", httputil).get_pool_manager(
        maxsize=CONNECTIONS, verify=address.verify, ca_cert=address.ca_cert
    )
