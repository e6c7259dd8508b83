"""The store's tables, copied by partition in the order of their keys.

What the engine reads as current (FINAL) is what is copied: one row a key. The rows go over in the
engine's own binary form, so that nothing of a value can change on the way. A chunk is one insert
into one partition, whole or not there; the greatest key of the target's partition says where to go
on after a stop. What was inserted twice all the same is equal, and the engine reads one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from nilometer import failpoints
from nilometer.clickhouse.names import literal
from nilometer.clickhouse.sandbox import EngineFault
from nilometer.clickhouse.store import DATABASE, Store, StoreUnavailable
from nilometer.migrate_data.report import Progress, Tally

FORM = "RowBinaryWithNamesAndTypes"
CHUNK_BYTES = 16 << 20

_TOKEN = "insert_deduplication_token"  # noqa: S105
# What a store makes itself. `usage_days` is made of `calls`.
_NOT_MOVED = ("schema_migrations", "migrations_lock", "usage_days")
_TABLES = """
SELECT name, partition_key, sorting_key FROM system.tables
WHERE database = {database:String} AND engine LIKE '%MergeTree'
  AND name NOT IN {others:Array(String)}
ORDER BY name != 'events', name = 'event_ids', name
"""
_COLUMNS = """
SELECT name, type FROM system.columns
WHERE database = {database:String} AND table = {table:String}
  AND default_kind NOT IN ('MATERIALIZED', 'ALIAS')
ORDER BY position
"""
# As long as it takes: a move is nobody's request. One thread reads a partition in the order of its
# key, without sorting it: half a gigabyte in blocks of megabytes took under 300 MB of memory.
_READING = {
    "max_execution_time": 0,
    "max_memory_usage": 1 << 30,
    "max_threads": 1,
    "max_block_size": 8192,
    "preferred_block_size_bytes": 4 << 20,
    "optimize_read_in_order": 1,
}
_HASHING = {"max_execution_time": 0, "max_memory_usage": 1 << 30, "max_threads": 2}


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of one table: what is copied and compared at a time. All words are the
    engine's."""

    table: str
    columns: tuple[str, ...]
    key: tuple[tuple[str, str], ...]
    """Names and types, in the order of the table."""
    condition: str
    rows: int

    @property
    def project(self) -> str:
        """The column that says whose a row is."""
        return "project_id" if "project_id" in self.columns else "0"

    @property
    def source(self) -> str:
        """A FROM of its rows."""
        return f"FROM {DATABASE}.{self.table} FINAL WHERE {self.condition}"


class Tables:
    """The tables of two stores that have the same schema. Blocks; raises StoreUnavailable."""

    def __init__(self, source: Store, target: Store, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._source = source
        self._target = target
        self._chunk_bytes = chunk_bytes

    def partitions(self) -> list[Partition]:
        """Those of the source that have rows: of `events` first, of `event_ids` last."""
        return [
            each for table in _tables(self._source) for each in _partitions(self._source, table)
        ]

    def names(self) -> list[str]:
        """The tables."""
        return [name for name, *_ in _tables(self._source)]

    def copy(self, partition: Partition, progress: Progress, *, afresh: bool = False) -> int:
        """Copy what the target lacks of a partition, in the order of its key; how many rows that
        were. `afresh` looks at nothing that is there."""
        after = None if afresh else self._last(partition)
        copied = 0
        for body in self._bodies(partition, after):
            # A replicated table remembers what it was given. Rows that it has lost since, or that
            # were changed, are to be written all the same: as another batch.
            token = {_TOKEN: uuid4().hex} if afresh else None
            rows = self._target.insert_encoded(partition.table, body, FORM, settings=token)
            failpoints.hit("moved_chunk")
            copied += rows
            progress.advance(rows)
        return copied

    def tallies(
        self, partition: Partition, until: datetime | None = None
    ) -> tuple[dict[int, Tally], dict[int, Tally]]:
        """Rows and hashes by project, the source's and the target's, by one statement. `until` is
        for a target in use: what was accepted later is left out."""
        return _tallies(self._source, partition, until), _tallies(self._target, partition, until)

    def strangers(self) -> list[str]:
        """The tables of the target that have rows."""
        asked = "SELECT count() FROM (SELECT 1 FROM {}.{} LIMIT 1)"
        found: list[str] = []
        for name, *_ in _tables(self._target):
            if self._target.query(asked.format(DATABASE, name)).rows[0][0]:
                found.append(name)
        return found

    def _last(self, partition: Partition) -> tuple[Any, ...] | None:
        names = [name for name, _ in partition.key]
        descending = ", ".join(f"{name} DESC" for name in names)
        rows = self._target.query(
            f"SELECT {', '.join(names)} FROM {DATABASE}.{partition.table} "  # noqa: S608
            f"WHERE {partition.condition} ORDER BY {descending} LIMIT 1",
            settings=_HASHING,
        ).rows
        return rows[0] if rows else None

    def _bodies(self, partition: Partition, after: tuple[Any, ...] | None) -> Iterator[bytes]:
        """Inserts of the rows after this key, each with its header."""
        names = ", ".join(partition.columns)
        select = f"SELECT {names} {partition.source}"
        order = ", ".join(name for name, _ in partition.key)
        parameters: dict[str, Any] = {}
        rest = select
        if after is not None:
            condition, parameters = _after(partition.key, after)
            rest += f" AND {condition}"
        try:
            with self._source.sandbox(_READING) as reader:
                header = reader.read(f"{select} AND 0", FORM)
                blocks = reader.stream(f"{rest} ORDER BY {order}", FORM, parameters)
                yield from _chunks(header, blocks, self._chunk_bytes)
        except EngineFault as fault:
            raise StoreUnavailable(
                f"the source's table {partition.table} cannot be read (error {fault.code}, "
                f"{fault.name})"
            ) from None


def _chunks(header: bytes, blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The blocks put together to about `size` bytes; a header goes first, once."""
    held: list[bytes] = []
    length = 0
    for block in blocks:
        rows = block.removeprefix(header)
        if not rows:
            continue
        held.append(rows)
        length += len(rows)
        if length >= size:
            yield header + b"".join(held)
            held, length = [], 0
    if held:
        yield header + b"".join(held)


def _after(key: Sequence[tuple[str, str]], values: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    """The condition of the rows after a key, and what it binds. The first column alone, too: the
    engine skips by it what it would not by all of them."""
    parameters = {f"after_{number}": value for number, value in enumerate(values)}
    places = [f"{{after_{number}:{kind}}}" for number, (_, kind) in enumerate(key)]
    names = [name for name, _ in key]
    whole = f"({', '.join(names)}) > ({', '.join(places)})"
    return f"{names[0]} >= {places[0]} AND {whole}", parameters


def _tables(store: Store) -> list[tuple[str, str, str]]:
    parameters = {"database": DATABASE, "others": list(_NOT_MOVED)}
    return [(row[0], row[1], row[2]) for row in store.query(_TABLES, parameters).rows]


def _partitions(store: Store, table: tuple[str, str, str]) -> list[Partition]:
    name, expression, sorting = table
    columns: dict[str, str] = dict(
        store.query(_COLUMNS, {"database": DATABASE, "table": name}).rows
    )
    expression = expression or "0"
    found = store.query(
        f"SELECT toString({expression}), count() FROM {DATABASE}.{name} FINAL "  # noqa: S608
        f"GROUP BY {expression} ORDER BY {expression}",
        settings=_HASHING,
    ).rows
    key = tuple((each.strip(), columns[each.strip()]) for each in sorting.split(","))
    return [
        Partition(name, tuple(columns), key, f"{expression} = {_value(value)}", rows)
        for value, rows in found
    ]


def _value(text: str) -> str:
    """A partition's value as the engine compares it: bare, a number lets it skip the others."""
    return text if text.isdigit() else literal(text)


def _tallies(store: Store, partition: Partition, until: datetime | None) -> dict[int, Tally]:
    source, parameters = partition.source, {}
    if until is not None and "accepted_at" in partition.columns:
        source += " AND accepted_at < {until:DateTime64(6, 'UTC')}"
        parameters = {"until": until}
    row = f"formatRow('RowBinary', {', '.join(partition.columns)})"
    rows = store.query(
        f"SELECT {partition.project} AS project, count(), sum(sipHash64({row})) "
        f"{source} GROUP BY project",
        parameters,
        settings=_HASHING,
    ).rows
    return {project: Tally(count, digest) for project, count, digest in rows}
