"""Two streams of calls made one, with each call once and of each the fullest telling.

Both are in the order of `trace_hash`, each call at most once in each, so that no more than a batch
of either is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nilometer.importers.parquet.arrow import arrow, compute

KEY = "trace_hash"
RANK = "standing"
"""Of two rows of a call the one stands that is greater by it; of two that are the same by it, the
first: what one database wrote before is older than what it writes now."""

Table = Any


def merged(mine: Iterable[Table], theirs: Iterable[Table]) -> Iterator[Table]:
    """Tables of the merged stream; of two rows that are the same by RANK, mine."""
    for pair in aligned(mine, theirs):
        yield best(arrow().concat_tables([each for each in pair if each is not None]))


def aligned(
    mine: Iterable[Table], theirs: Iterable[Table]
) -> Iterator[tuple[Table | None, Table | None]]:
    """What both streams have of one range of calls after the other; None for nothing."""
    streams = [iter(mine), iter(theirs)]
    held: list[Table | None] = [None, None]
    while True:
        for side, stream in enumerate(streams):
            if held[side] is None:
                held[side] = next((each for each in stream if len(each)), None)
        waiting = [each for each in held if each is not None]
        if not waiting:
            return
        upto = min(each[KEY][len(each) - 1].as_py() for each in waiting)
        ready: list[Table | None] = [None, None]
        for side, each in enumerate(held):
            if each is not None and (count := _not_after(each, upto)):
                ready[side] = each.slice(0, count)
                held[side] = each.slice(count) if count < len(each) else None
        yield ready[0], ready[1]


def best(table: Table) -> Table:
    """Each call once, in order."""
    ordered = table.sort_by([(KEY, "ascending"), (RANK, "descending")])  # stable
    if len(ordered) < 2:
        return ordered
    keys = ordered[KEY].combine_chunks()
    differs = compute().not_equal(keys.slice(1), keys.slice(0, len(keys) - 1))
    return ordered.filter(arrow().concat_arrays([arrow().array([True]), differs]))


def _not_after(table: Table, key: str) -> int:
    """How many rows of an ordered table have this key or one before it."""
    return compute().sum(compute().less_equal(table[KEY], key)).as_py()
