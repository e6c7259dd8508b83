"""Fills a tiny disk with a log, makes room again, and checks what became of each record.

    python -m tests.log.filling DIRECTORY statvfs|sqlite

`sqlite` hides the free space from the log, so that SQLite itself meets the full disk. Asserts; ends
with status 0 when every promise was kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

from nilometer.log.port import LogFull
from nilometer.log.sqlite import SqliteLog, disk
from tests.log.logs import drain, envelope, eventually, numbers, open_log

BALLAST = 1_500_000
SMALL_BALLAST = 200_000


def fill(log: SqliteLog, first: int, size: int) -> list[int]:
    """Append until the disk is full; the numbers acknowledged."""
    acknowledged: list[int] = []
    with contextlib.suppress(LogFull):
        for number in range(first, first + 10_000):
            log.append_blocking(envelope(number, size=size))
            acknowledged.append(number)
    return acknowledged


async def all_refused(log: SqliteLog, first: int) -> None:
    """Of a batch that is larger than the disk, and than one statement, nothing stays."""
    results = await asyncio.gather(
        *(log.append(envelope(first + number, size=30_000)) for number in range(200)),
        return_exceptions=True,
    )
    assert all(isinstance(each, LogFull) for each in results), results


def main() -> None:
    directory, way = Path(sys.argv[1]), sys.argv[2]
    if way == "sqlite":
        disk.free_bytes = lambda directory: 1 << 40
    ballast = directory / "ballast"
    ballast.write_bytes(b"\0" * BALLAST)
    small_ballast = directory / "small-ballast"
    small_ballast.write_bytes(b"\0" * SMALL_BALLAST)
    where = directory / "log"
    log = open_log(where, segment_bytes=300_000)
    acknowledged = fill(log, 0, 60_000)
    assert len(acknowledged) >= 5, acknowledged
    asyncio.run(all_refused(log, 1000))
    if way == "statvfs":
        assert not log.state().ready
        assert "full" in log.state().reason
    ballast.unlink()
    eventually(lambda: log.state().ready)
    again = fill(log, 2000, 60_000)
    assert len(again) >= 5, again
    expected = acknowledged + again
    small_ballast.unlink()  # a group needs a little room to be registered
    assert numbers(drain(log.consumer("a"))) == expected
    log.close()
    reopened = open_log(where, segment_bytes=300_000)
    records = drain(reopened.consumer("b"), commit=False)
    assert numbers(records) == expected
    assert [each.position.offset for each in records] == list(range(len(expected)))


if __name__ == "__main__":
    main()
