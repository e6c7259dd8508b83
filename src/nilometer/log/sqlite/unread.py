"""The records of a closed log that its groups have not read, for who moves them elsewhere.

Reads only: nothing is committed, unlinked or rewound. (SQLite finishes what a killed process was
writing, as it does for any reader.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from nilometer.log.port import Position, Record
from nilometer.log.sqlite import segment
from nilometer.log.sqlite.groups import GroupOffsets
from nilometer.log.sqlite.log import read_marker
from nilometer.log.sqlite.segments import inspect_whole
from nilometer.log.sqlite.writer import PARTITION

_SECOND = 1_000_000


class UnreadRecords:
    """Those from the offset that the slowest group has committed. Iterate as often as needed.

    After an unclean stop the groups count as `rewind_seconds` further back, because the store may
    have lost what it was given last. Raises LogCorrupt when a record that is needed is missing.
    """

    def __init__(self, directory: Path, *, rewind_seconds: float) -> None:
        end = read_marker(directory / "clean")
        committed, stood = _groups(
            directory, 0 if end is not None else int(rewind_seconds * _SECOND)
        )
        self._segments = inspect_whole(directory, committed, end)
        oldest = self._segments[0].base if self._segments else 0
        self.start = max(min(stood.values(), default=oldest), oldest)
        self.end = max((each.end for each in self._segments), default=self.start)

    def __len__(self) -> int:
        return self.end - self.start

    def __iter__(self) -> Iterator[Record]:
        for each in self._segments:
            if each.end <= self.start:
                continue
            reader = segment.connect_reader(each.path, sealed=each.sealed)
            with contextlib.closing(reader) as connection:
                first = max(self.start, each.base)
                rows = segment.read(connection, first, each.end)
                for expected, (offset, (headers, payload)) in enumerate(rows, first):
                    if offset != expected:
                        raise segment.corrupt(each.path, f"it lacks offset {expected}")
                    yield Record(Position(PARTITION, offset), headers, payload)


def _groups(directory: Path, rewind: int) -> tuple[dict[str, int], dict[str, int]]:
    """What each group has committed, and where it stood so many microseconds before the last."""
    path = directory / "groups.sqlite"
    if not path.exists():
        return {}, {}
    with contextlib.closing(GroupOffsets(path, keep=rewind)) as groups:
        committed = dict(groups.committed)
        if not rewind:
            return committed, committed
        since = groups.last_activity() - rewind
        return committed, {name: groups.lowest_since(name, since) for name in committed}
