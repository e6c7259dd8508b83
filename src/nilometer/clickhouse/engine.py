"""What the store asks of ClickHouse, wherever it runs: in this process or behind an address.

`embedded` and `network` each have one engine of this form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from nilometer.clickhouse.layout import Layout
from nilometer.clickhouse.sandbox import Sandbox


class QueryResult(Protocol):
    """`clickhouse_connect.driver.query.QueryResult`."""

    @property
    def column_names(self) -> Sequence[str]:
        """The columns, in order."""
        ...

    @property
    def result_rows(self) -> list[tuple[Any, ...]]:
        """One tuple a row."""
        ...


class Reader(Protocol):
    """`clickhouse_connect.driver.client.Client`."""

    def query(
        self,
        query: str,
        parameters: dict[str, Any] | None = ...,
        settings: dict[str, Any] | None = ...,
    ) -> QueryResult:
        """All rows of a SELECT."""
        ...

    def command(self, cmd: str, parameters: dict[str, Any] | None = ...) -> object:
        """Run any other statement."""
        ...

    def close(self) -> None:
        """Close the handle."""
        ...


class Engine(Protocol):
    """ClickHouse's engine with our tables. Thread-safe.

    Its methods raise StoreUnavailable where they know the reason, and else what `faults` lists: the
    engine's and the driver's own errors.
    """

    @property
    def faults(self) -> tuple[type[Exception], ...]:
        """What its methods raise of others' errors."""
        ...

    @property
    def longest_value(self) -> int | None:
        """The most bytes of one bound value, if there is such a limit."""
        ...

    @property
    def layout(self) -> Layout:
        """How the tables lie."""
        ...

    def open(self, *, migrating: bool = True) -> None:
        """Connect, make the databases and run the migrations that are missing; without
        `migrating`, define nothing, and raise SchemaBehind where something is missing."""
        ...

    def reading(self) -> AbstractContextManager[Reader]:
        """A client for statements, for the length of the block."""
        ...

    def insert(
        self, table: str, body: bytes, settings: Mapping[str, Any], form: str = "JSONEachRow"
    ) -> int:
        """Insert rows in a format of ClickHouse's and return how many the engine took; they are on
        disk then."""
        ...

    def sandbox(self, settings: Mapping[str, object]) -> AbstractContextManager[Sandbox]:
        """A read-only handle in an empty database. It raises EngineFault and StoreUnavailable."""
        ...

    def close(self) -> None:
        """Close every handle, those in use when their calls end."""
        ...
