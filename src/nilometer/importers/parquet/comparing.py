"""Whether the files of an export say what a store does."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson

from nilometer.errors import NilometerError
from nilometer.importers.parquet import merging, partition
from nilometer.importers.parquet.arrow import compute
from nilometer.importers.parquet.partition import FILE, Partition
from nilometer.importers.parquet.tables import tables
from nilometer.importers.store.columns import SELECTED
from nilometer.importers.store.store import TraceStore

_CALLS = f"""
SELECT lower(repo_slug), event_date, {SELECTED} FROM sessions
ORDER BY 1, 2, trace_hash"""  # noqa: S608  (our own names)
_KEPT = """
SELECT value FROM json_each(?) WHERE value IN (SELECT trace_hash FROM sessions) ORDER BY 1"""
_UNREADABLE = "a file that cannot be read"

Fault = tuple[str, str]
"""What is wrong, and where: the file, and the call if it is one."""


def faults(store: TraceStore, root: Path) -> Iterator[Fault]:
    """All of them. Each call must be in the file of its repository and day, once, in no other, and
    say the same there; a file may have a fuller telling of it, and calls, of another database."""
    rows: Iterable[tuple[Any, ...]] = store.database.execute(_CALLS)
    seen: set[str] = set()
    for key, group in groupby(rows, lambda row: (row[0], row[1])):
        place = Partition(*key)
        seen.add(place.path)
        yield from _of_file(store, root, place.path, (row[2:] for row in group))
    for path in sorted(_files(root) - seen):
        yield from _of_file(store, root, path, ())


def _files(root: Path) -> set[str]:
    return {
        str((Path(folder) / FILE).relative_to(root))
        for folder, _, names in os.walk(root)
        if FILE in names
    }


def _of_file(
    store: TraceStore, root: Path, path: str, rows: Iterable[tuple[Any, ...]]
) -> Iterator[Fault]:
    last: str | None = None
    try:
        for want, have in merging.aligned(tables(rows), partition.present(root, path)):
            keys: list[str] = [] if have is None else have[merging.KEY].to_pylist()
            if len(keys) != len({*keys}) or (keys and keys[0] == last):
                yield "twice in Parquet", path
            last = keys[-1] if keys else last
            found = _of_slice(store, want, have)
            yield from ((name, f"{path}: {call}") for name, call in found)
    except NilometerError as error:
        yield _UNREADABLE, f"{path}: {error.detail}"


def _of_slice(store: TraceStore, want: Any, have: Any) -> Iterator[Fault]:
    """Of the calls of one range of keys, as the store has them and as the file does."""
    if have is None:
        yield from (("missing in Parquet", call) for call in want[merging.KEY].to_pylist())
        return
    others = have if want is None else _among(have, want, is_in=False)
    if len(others):
        held = orjson.dumps(others[merging.KEY].to_pylist()).decode()
        for (call,) in store.database.execute(_KEPT, (held,)):
            yield "in a file of another repository or day", call
    if want is not None:
        missing = _among(want, have, is_in=False)[merging.KEY].to_pylist()
        yield from (("missing in Parquet", call) for call in missing)
        mine, theirs = _among(want, have), merging.best(_among(have, want))
        yield from (("not the same in Parquet", call) for call in _differing(mine, theirs))


def _among(table: Any, other: Any, *, is_in: bool = True) -> Any:
    """The rows whose calls are in the other table, or are not."""
    keys = other[merging.KEY].combine_chunks()
    found = compute().is_in(table[merging.KEY], keys)
    return table.filter(found if is_in else compute().invert(found))


def _differing(mine: Any, theirs: Any) -> list[str]:
    """Of two tables of the same calls in one order: those that differ, and are no fuller there."""
    if not len(mine):
        return []
    differs = compute().less(mine["completeness"], mine["completeness"])  # none
    for name in mine.column_names:
        one, other = mine[name], theirs[name]
        nulls = compute().xor(compute().is_null(one), compute().is_null(other))
        unequal = compute().coalesce(compute().not_equal(one, other), nulls)
        differs = compute().or_(differs, unequal)
    is_fuller = compute().greater(theirs[merging.RANK], mine[merging.RANK])
    told = compute().and_(differs, compute().invert(compute().fill_null(is_fuller, False)))
    return mine[merging.KEY].filter(told).to_pylist()
