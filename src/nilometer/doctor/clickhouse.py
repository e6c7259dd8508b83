"""The ClickHouse server: there, of this release, with users that may what they must and no more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from urllib3.exceptions import HTTPError

from nilometer.clickhouse import errors
from nilometer.clickhouse.address import DATABASE, Address, Server
from nilometer.clickhouse.network import connections
from nilometer.clickhouse.network_sandbox import ReadOnly, ServerError
from nilometer.doctor import clickhouse_rules, clickhouse_schema, clocks
from nilometer.doctor.configuration import SETTINGS
from nilometer.doctor.finding import Check, Verdict, failed, ok, skipped, warning
from nilometer.errors import NilometerError

SERVER = "clickhouse.server"
USERS_SQL = "deploy/clickhouse/users.sql"

TESTED = (26, 9)
"""The version of the engine that this release is tested with."""

TABLES = ("events", "event_ids", "calls")
"""Those of projects, which the reader sees through row policies."""

_REMEDY = "See that the server of NILOMETER_CLICKHOUSE_URL runs and is reachable from here."
_AUTHENTICATION = frozenset({192, 193, 194, 516})
_DENIED, _READONLY = 497, 164
_NO_TABLE = frozenset({60, 81})

_SETTINGS = """
SELECT name, value FROM system.settings
WHERE name IN ('readonly', 'http_max_field_value_size', 'max_partitions_per_insert_block')
UNION ALL
SELECT name, value FROM system.merge_tree_settings
WHERE name = 'non_replicated_deduplication_window'
"""
_CLUSTER = """
SELECT (SELECT count() FROM system.clusters WHERE cluster = {cluster:String}) AS replicas,
    (SELECT count(DISTINCT shard_num) FROM system.clusters WHERE cluster = {cluster:String})
        AS shards,
    (SELECT groupArray(macro) FROM system.macros WHERE macro IN ('shard', 'replica')) AS macros,
    (SELECT count() FROM system.tables WHERE database = {database:String}
        AND engine LIKE '%MergeTree' AND engine NOT LIKE 'Replicated%') AS plain,
    (SELECT countIf(is_readonly) FROM system.replicas WHERE database = {database:String})
        AS read_only,
    (SELECT max(absolute_delay) FROM system.replicas WHERE database = {database:String}) AS delay,
    (SELECT min(toUInt64(value)) FROM system.merge_tree_settings
        WHERE name = 'replicated_deduplication_window') AS window
"""


class Refused(NilometerError):
    """The server refused a statement; of its text only number and name are kept."""

    code = "clickhouse_refused"

    def __init__(self, number: int, name: str) -> None:
        super().__init__(f"ClickHouse refuses it (error {number}, {name})")
        self.number = number


class ClickHouse:
    """The store of the distributed profile; capture has no use for it."""

    def __init__(self, server: Server | None, seconds: float) -> None:
        self._server = server
        # Less than a check has, so that the reason is told and not only that there was no answer.
        self._seconds = max(0.5, seconds - 1)

    def checks(self) -> list[Check]:
        """The checks of this part."""
        first = () if self._server else (SETTINGS,)
        after = (SERVER,)
        checks = [
            Check(SERVER, self.server, needs=first, remedy=_REMEDY),
            Check("clickhouse.migrations", self.migrations, needs=after, remedy=_REMEDY),
            Check("clickhouse.user", self.user, needs=after, remedy=_REMEDY),
            Check("clickhouse.limits", self.limits, needs=after, remedy=_REMEDY),
            Check("clickhouse.clock", self.clock, needs=after, remedy=_REMEDY),
        ]
        if self._server is not None and self._server.cluster:
            checks.append(Check("clickhouse.cluster", self.cluster, needs=after, remedy=_REMEDY))
        return checks

    def server(self) -> Verdict:
        """It answers this user, in a version that will do."""
        where = f"{self._address.host}:{self._address.port}"
        try:
            [row] = self._rows("SELECT version() AS version")
        except Refused as refused:
            if refused.number in _AUTHENTICATION:
                return failed(
                    f"ClickHouse at {where} refuses the user {self._address.user} or the password.",
                    f"Mend NILOMETER_CLICKHOUSE_URL; {USERS_SQL} makes the user.",
                )
            raise
        version = str(row["version"])
        if tuple(map(int, version.split(".")[:2])) < TESTED:
            return warning(
                f"ClickHouse {version} answers at {where}; this release is tested with "
                f"{'.'.join(map(str, TESTED))}.",
                "Upgrade the server.",
            )
        return ok(f"ClickHouse {version} answers at {where}.")

    def migrations(self) -> Verdict:
        """The version of the tables. Nothing is migrated."""
        try:
            record = self._rows(clickhouse_schema.RECORD)
        except Refused as refused:
            if refused.number not in _NO_TABLE:
                raise
            record = []
        return clickhouse_schema.judged(record, movable=True)

    def user(self) -> Verdict:
        """Nilometer's own user may read and write the tables: it inserts no row into each."""
        for table in TABLES:
            problem = refusal(self, self._address, no_rows_into(table))
            if problem in _NO_TABLE:
                return _no_tables()
            if problem is not None:
                return failed(
                    f"The user {self._address.user} may not insert into {DATABASE}.{table} "
                    f"(error {problem}).",
                    f"Grant what {USERS_SQL} grants to Nilometer's own user.",
                )
        return ok(f"The user {self._address.user} may read and write the tables.")

    def limits(self) -> Verdict:
        """Settings that statements and inserts meet."""
        values = {row["name"]: int(row["value"]) for row in self._rows(_SETTINGS, readonly=False)}
        return clickhouse_rules.limits(values, self._settled)

    def cluster(self) -> Verdict:
        """Replicas of every table, which keep up, on hosts that deduplicate."""
        server = self._settled
        parameters = {"cluster": server.cluster, "database": DATABASE}
        [found] = self._rows(_CLUSTER, parameters=parameters)
        return clickhouse_rules.cluster(found, server)

    def clock(self) -> Verdict:
        """The server's clock."""
        before = clocks.local()
        [row] = self._rows("SELECT toUnixTimestamp64Micro(now64(6)) / 1000000 AS now")
        after = clocks.local()
        return clocks.judged("ClickHouse", clocks.skew(float(row["now"]), before, after))

    @property
    def _settled(self) -> Server:
        assert self._server is not None, "the checks need the setting"
        return self._server

    @property
    def _address(self) -> Address:
        return self._settled.address

    def _rows(
        self,
        statement: str,
        *,
        parameters: Mapping[str, str] | None = None,
        readonly: bool = True,
    ) -> list[dict[str, Any]]:
        settings = {"readonly": 1} if readonly else {}
        body = self.ask(self._address, statement, settings, parameters)
        return [json.loads(line) for line in body.splitlines()]

    def ask(
        self,
        address: Address,
        statement: str,
        settings: Mapping[str, object],
        parameters: Mapping[str, str] | None = None,
    ) -> bytes:
        """What one statement returns, as lines of JSON. Raises Refused and StoreUnavailable."""
        pool = connections(address)
        asked = ReadOnly(pool, address, "", settings, self._seconds)
        with closing(_Cleared(pool)):
            try:
                answer = asked.query(statement, "JSONEachRow", params=dict(parameters or {}))
            except ServerError as error:
                raise Refused(*errors.engine_error(error)) from None
            except (HTTPError, OSError) as error:
                raise errors.of_statement(error) from None
        return answer.bytes()


class _Cleared:
    """Connections that are closed with the question."""

    def __init__(self, pool: Any) -> None:
        self.close = pool.clear


def no_rows_into(table: str) -> str:
    """An insert that writes nothing and needs every right that an insert needs."""
    name = f"{DATABASE}.{table}"
    return f"INSERT INTO {name} SELECT * FROM {name} WHERE 0"  # noqa: S608  (ours)


def refusal(
    clickhouse: ClickHouse,
    address: Address,
    statement: str,
    settings: Mapping[str, object] | None = None,
) -> int | None:
    """The number of the error that a statement ends with; None when it is run."""
    try:
        clickhouse.ask(address, statement, settings or {})
    except Refused as refused:
        return refused.number
    return None


def _no_tables() -> Verdict:
    return skipped("clickhouse.migrations", "There are no tables yet.")
