"""The ClickHouse user of SQL that is not ours: it may read, one project at a time, and no more."""

from __future__ import annotations

from collections.abc import Mapping

from nilometer.clickhouse.address import DATABASE, Address
from nilometer.doctor.clickhouse import (
    SERVER,
    TABLES,
    USERS_SQL,
    ClickHouse,
    no_rows_into,
    refusal,
)
from nilometer.doctor.finding import Check, Verdict, failed, ok, skipped, warning

READER = "clickhouse.reader"

_AUTHENTICATION = frozenset({192, 193, 194, 516})
_REFUSALS = frozenset({164, 497})  # READONLY, ACCESS_DENIED
_READONLY, _UNKNOWN_SETTING = 164, 115
_NO_TABLE = frozenset({60, 81})
_REMEDY = f"Make the user as {USERS_SQL} does."
# As the query of a user is sent, but for its project.
_LIMITS: Mapping[str, object] = {"readonly": 1, "max_execution_time": 4}
_PROJECT = "SQL_nilometer_project"
_NOBODY = 0  # no project has this id


class Reader:
    """That user; without one, such SQL runs as Nilometer's own, read-only all the same."""

    def __init__(self, clickhouse: ClickHouse, address: Address | None) -> None:
        self._clickhouse = clickhouse
        self._reader = address

    def checks(self) -> list[Check]:
        """The checks of this part."""
        after = (SERVER,)
        return [
            Check(READER, self.reader, needs=after, remedy=_REMEDY),
            Check("clickhouse.policies", self.policies, needs=(READER,), remedy=_REMEDY),
        ]

    def reader(self) -> Verdict:
        """It takes the settings of a query, and may not write."""
        if self._reader is None:
            return warning(
                "SQL that users write runs as Nilometer's own user: the server's grants and row "
                "policies fence no tenant.",
                f"Run {USERS_SQL}, and set NILOMETER_CLICKHOUSE_READER_URL.",
            )
        name = self._reader.user
        problem = self._refusal("SELECT 1", _LIMITS)
        if problem in _AUTHENTICATION:
            return failed(f"ClickHouse refuses the user {name} or the password.", _REMEDY)
        if problem == _READONLY:
            return failed(
                f"The user {name} is read-only by its profile, and cannot be given limits.",
                "Give it a profile without `readonly`: each request sets it itself.",
            )
        if problem is not None:
            return failed(f"The user {name} cannot query (error {problem}).", _REMEDY)
        return self._writing(name)

    def _writing(self, name: str) -> Verdict:
        for table in TABLES:
            problem = self._refusal(no_rows_into(table), {})
            if problem in _NO_TABLE:
                return skipped("clickhouse.migrations", "There are no tables yet.")
            if problem not in _REFUSALS:
                return failed(
                    f"The user {name} may insert into {DATABASE}.{table}; it is to read alone.",
                    f"REVOKE ALL ON *.* FROM {name}, then grant what {USERS_SQL} grants.",
                )
        return ok(f"The user {name} may read and not write.")

    def policies(self) -> Verdict:
        """Without a project the tables show nothing; with one that nobody has, no row."""
        if self._reader is None:
            return skipped(READER, "There is no user for SQL of users.")
        open_tables: list[str] = []
        for table in TABLES:
            statement = f"SELECT count() FROM {DATABASE}.{table}"  # noqa: S608  (ours)
            if self._refusal(statement, _LIMITS) is None:
                open_tables.append(table)
                continue
            problem = self._refusal(statement, {**_LIMITS, _PROJECT: _NOBODY})
            if problem == _UNKNOWN_SETTING:
                return failed(
                    f"The server does not take the setting {_PROJECT}.",
                    "Add SQL_ to custom_settings_prefixes in its config.xml.",
                )
            if problem in _NO_TABLE:
                return skipped("clickhouse.migrations", "There are no tables yet.")
            if problem is not None:
                return failed(
                    f"The user {self._reader.user} cannot read {DATABASE}.{table} "
                    f"(error {problem}).",
                    _REMEDY,
                )
        if open_tables:
            return failed(
                f"No row policy holds for {self._reader.user} on {', '.join(open_tables)}: it sees "
                "every project's rows.",
                f"Run the CREATE ROW POLICY statements of {USERS_SQL}.",
            )
        return ok(f"Row policies show {self._reader.user} one project at a time.")

    def _refusal(self, statement: str, settings: Mapping[str, object]) -> int | None:
        assert self._reader is not None, "asked only of one that there is"
        return refusal(self._clickhouse, self._reader, statement, settings)
