"""From the store to Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from nilometer.importers.parquet.partition import Partition, add
from nilometer.importers.store.columns import SELECTED
from nilometer.importers.store.columns import Exported as Values
from nilometer.importers.store.store import TraceStore

_NEW = "run_id NOT IN (SELECT run_id FROM exports WHERE folder = ?)"
_CALLS = f"""
SELECT lower(repo_slug), event_date, {SELECTED} FROM sessions WHERE {_NEW}
ORDER BY 1, 2, trace_hash"""  # noqa: S608  (our own names)
_LEFT = f"SELECT DISTINCT lower(repo_slug), event_date FROM moves WHERE {_NEW}"  # noqa: S608
_GONE = """
SELECT DISTINCT moves.trace_hash FROM moves JOIN sessions USING (trace_hash)
WHERE lower(moves.repo_slug) IS ? AND moves.event_date = ?
  AND (lower(sessions.repo_slug) IS NOT ? OR sessions.event_date <> ?)"""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did: files written anew, and how many calls they have."""

    files: int
    calls: int


def export(store: TraceStore, root: Path, *, everything: bool = False) -> Exported:
    """Bring the files under `root` up to the store: by what runs inserted or updated that are not
    there yet, or with `everything` by every call. Files that other stores wrote to are kept up, not
    replaced.

    Killed at any moment, the next export does the rest. Raises InvalidInput, Unavailable and
    OSError.
    """
    folder = str(root.resolve())
    with store.transaction():
        if everything or not root.is_dir():
            store.database.execute("DELETE FROM exports WHERE folder = ?", (folder,))
        runs = store.database.execute(
            "SELECT id FROM runs WHERE ended_at IS NOT NULL AND id NOT IN"
            " (SELECT run_id FROM exports WHERE folder = ?)",
            (folder,),
        ).fetchall()
    files = calls = 0
    written: set[Partition] = set()
    for partition, rows in _partitions(store, folder):
        calls += add(root, partition, rows, _gone(store, partition))
        files += 1
        written.add(partition)
    for partition in _left(store, folder) - written:
        calls += add(root, partition, (), _gone(store, partition))
        files += 1
    with store.transaction():
        store.database.executemany(
            "INSERT INTO exports VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(folder, *row) for row in runs],
        )
    return Exported(files, calls)


def _partitions(store: TraceStore, folder: str) -> Iterator[tuple[Partition, Iterator[Values]]]:
    found: Iterator[tuple[Any, ...]] = store.database.execute(_CALLS, (folder,))
    for key, rows in groupby(found, lambda row: (row[0], row[1])):
        yield Partition(*key), (row[2:] for row in rows)


def _left(store: TraceStore, folder: str) -> set[Partition]:
    """Partitions that calls moved away from."""
    return {Partition(*row) for row in store.database.execute(_LEFT, (folder,))}


def _gone(store: TraceStore, partition: Partition) -> frozenset[str]:
    key = (partition.repo, partition.day)
    return frozenset(row[0] for row in store.database.execute(_GONE, (*key, *key)))
