"""Runs untrusted SQL: an answer of rows, or a streamed export."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from nilometer.clickhouse.sandbox import EngineFault, Sandbox
from nilometer.clickhouse.store import Store
from nilometer.query.sql import errors, grammar, limits, narrowing
from nilometer.query.sql.errors import SqlError
from nilometer.query.sql.refusal import Refusal
from nilometer.query.sql.selects import Compiled, Rows, compiled

_ROWS = "JSONCompactEachRowWithNamesAndTypes"
_FORMATTED = "SELECT formatQuerySingleLine({query:String})"


class ExportFormat(StrEnum):
    """How an export is written."""

    JSONL = "jsonl"
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"


# ClickHouse's name; whether blocks can follow each other; lines that each block begins with.
_FORMATS = {
    ExportFormat.JSONL: ("JSONEachRow", True, 0),
    ExportFormat.CSV: ("CSVWithNames", True, 1),
    ExportFormat.ARROW: ("ArrowStream", False, 0),
    ExportFormat.PARQUET: ("Parquet", False, 0),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query. `rows` are JSON arrays, as text; `types` are ClickHouse's, a name and a
    type each. `timings` are seconds by step. `canonical` is the query as it was understood."""

    columns: list[str]
    types: list[tuple[str, str]]
    rows: list[bytes]
    has_more: bool
    limit: int
    offset: int
    canonical: str
    timings: Mapping[str, float]


class SqlQueries:
    """Untrusted queries, each within the project of its first argument. Thread-safe.

    `seconds` is what one may take; an export may take six times as long.
    """

    def __init__(self, store: Store, *, seconds: int = limits.MOST_SECONDS) -> None:
        self._store = store
        self._seconds = seconds

    def run(self, project_id: int, sql: str, values: Mapping[str, Any] | None = None) -> Answer:
        """The answer of one SELECT: 100 rows, or as many as its LIMIT says up to 50,000.

        Raises SqlError, whose sentence names the place in `sql` and what to change, and
        StoreUnavailable.
        """
        started = time.perf_counter()
        with self._sandbox(project_id, self._seconds, limits.MOST_RESULT_BYTES) as sandbox:
            canonical = _canonical(sandbox, sql)
            query = _compiled(sql, canonical, project_id, values, limits.ANSWER)
            guarded = time.perf_counter()
            output = _run(sandbox, sql, query, _ROWS)
        names, types, *rows = output.removesuffix(b"\n").split(b"\n")
        columns: list[str] = orjson.loads(names)
        return Answer(
            columns=columns,
            types=list(zip(columns, orjson.loads(types), strict=True)),
            rows=rows[: query.limit],
            has_more=len(rows) > query.limit,
            limit=query.limit,
            offset=query.offset,
            canonical=canonical,
            timings={"guard": guarded - started, "execute": time.perf_counter() - guarded},
        )

    def export(
        self,
        project_id: int,
        sql: str,
        values: Mapping[str, Any] | None = None,
        *,
        output: ExportFormat,
    ) -> Generator[bytes]:
        """The rows of one SELECT as a file, piece by piece: all of them up to its LIMIT and
        1,000,000. JSONL and CSV are written as they are read; Arrow and Parquet are made in memory,
        up to 64 MiB. Close the generator to stop. Raises as `run` does, at any piece.
        """
        name, in_blocks, header = _FORMATS[output]
        size = 0 if in_blocks else limits.MOST_RESULT_BYTES
        with self._sandbox(project_id, 6 * self._seconds, size) as sandbox:
            canonical = _canonical(sandbox, sql)
            query = _compiled(sql, canonical, project_id, values, limits.EXPORT)
            if not in_blocks:
                with _explained(sql, query.renamed):
                    query = narrowing.narrowed(sandbox, query)
                yield _run(sandbox, sql, query, name)
                return
            with _explained(sql, query.renamed):
                blocks = sandbox.stream(query.sql, name, query.parameters)
                with contextlib.closing(blocks):
                    any_rows = yield from _without_headers(blocks, header)
            if header and not any_rows:
                yield _run(sandbox, sql, query, name)

    def _sandbox(
        self, project_id: int, seconds: int, result_bytes: int
    ) -> contextlib.AbstractContextManager[Sandbox]:
        return self._store.sandbox(
            limits.settings(project_id, seconds=seconds, result_bytes=result_bytes)
        )


def _canonical(sandbox: Sandbox, sql: str) -> str:
    """The query as the engine prints it, on one line."""
    if len(sql.encode()) > limits.LONGEST_QUERY:
        raise SqlError(f"A query has at most {limits.LONGEST_QUERY} bytes.", attr="query")
    try:
        return sandbox.read(_FORMATTED, "RawBLOB", {"query": sql}).decode()
    except EngineFault as fault:
        raise errors.of_syntax(sql, fault) from None
    except UnicodeDecodeError:
        raise SqlError(
            "An escape in a text makes bytes that are not UTF-8; write unhex('ff') for '\\xff'.",
            attr="query",
        ) from None


def _compiled(
    sql: str,
    canonical: str,
    project_id: int,
    values: Mapping[str, Any] | None,
    rows: Rows,
) -> Compiled:
    try:
        return compiled(grammar.parse(canonical), project_id, values or {}, rows)
    except Refusal as refusal:
        raise errors.located(sql, refusal) from None


def _run(sandbox: Sandbox, sql: str, query: Compiled, output: str) -> bytes:
    with _explained(sql, query.renamed):
        return sandbox.read(query.sql, output, query.parameters)


@contextlib.contextmanager
def _explained(sql: str, renamed: frozenset[str]) -> Generator[None]:
    try:
        yield
    except EngineFault as fault:
        raise errors.of_run(sql, fault, renamed) from None


def _without_headers(blocks: Iterator[bytes], lines: int) -> Generator[bytes, None, bool]:
    """The blocks as one document: the header of the first only. Returns whether there were any."""
    number = -1
    for number, block in enumerate(blocks):
        yield block if number == 0 else block.split(b"\n", lines)[lines]
    return number >= 0
