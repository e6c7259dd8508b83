"""What the writer's thread does: append within the limits, then seal, roll and unlink."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nilometer.log.append_times import AppendTimes
from nilometer.log.port import LogFull
from nilometer.log.sqlite import disk
from nilometer.log.sqlite.consumer import Tail
from nilometer.log.sqlite.groups import GroupOffsets
from nilometer.log.sqlite.segment import Row, Segment
from nilometer.log.sqlite.segments import Segments

logger = logging.getLogger(__name__)

UPKEEP_SECONDS = 0.5
UPKEEP_SECONDS_WHEN_FULL = 0.1
# The free space is asked for at most this often: in 20 ms nobody fills the reserve, and if somebody
# does, SQLite itself reports the full disk.
LOOK_SECONDS = 0.02
# An active segment is rolled when it is this old, or its oldest records would be kept for ever
# where there is little traffic.
_ROLL_AFTER = 3600 * 1_000_000
_LEAST_FREE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, durations in microseconds; see `SqliteLog`."""

    segment_bytes: int
    max_bytes: int
    disk_reserve: int
    keep: int
    rewind: int
    needs_readers: bool = True


class SegmentStorage:
    """Appends batches to the segments, refuses them when there is no room, and makes room.

    Read segments are kept for `keep`. When the log or the disk is nearly full they go earlier,
    oldest first, but never one that a group has not read, or would read again after an unclean
    stop (`rewind`).
    """

    def __init__(
        self,
        directory: Path,
        limits: Limits,
        *,
        segments: Segments,
        groups: GroupOffsets,
        times: AppendTimes,
        tail: Tail,
        clock: Callable[[], int],
    ) -> None:
        self._directory = directory
        self._limits = limits
        self._segments = segments
        self._groups = groups
        self._times = times
        self._tail = tail
        self._clock = clock
        self._free = disk.free_bytes(directory)
        self._looked = self._tended = time.monotonic()
        self._largest = 0
        self.refusal: str | None = None
        """Why the last batch was refused or the next one would be; None while there is room."""

    def append(self, rows: Sequence[Row]) -> int:
        """Make the records durable, all or none; the offset of the first. Raises LogFull."""
        sizes = [len(headers) + len(payload) for headers, payload in rows]
        self._largest = max(sizes)
        self.refusal = self._why_full(sum(sizes))
        if self.refusal is not None:
            raise LogFull(self.refusal)
        try:
            first = self._segments.append(rows, self._clock())
        except (OSError, sqlite3.OperationalError) as error:
            if not disk.is_no_room(error, self._directory):
                raise
            self.refusal = "the disk of the log is full"
            raise LogFull(self.refusal) from error
        self._times.add(first, self._segments.last_at)
        self._tail.advance(first + len(rows))
        return first

    def upkeep(self) -> None:
        """Checkpoint when due; now and then, and often while there is no room, make room."""
        self._segments.upkeep()
        interval = UPKEEP_SECONDS_WHEN_FULL if self.refusal is not None else UPKEEP_SECONDS
        if time.monotonic() - self._tended < interval:
            return
        try:
            self._tend(self._clock())
        except (OSError, sqlite3.OperationalError) as error:
            if not disk.is_no_room(error, self._directory):
                raise
        # Ready again only when there is room for the largest record that was refused.
        self.refusal = self._why_full(self._largest if self.refusal is not None else 0)
        self._tended = time.monotonic()

    def _tend(self, now: int) -> None:
        while gone := self._segments.unlink_oldest(lambda oldest: self._may_go(oldest, now)):
            logger.info("log segment %s was read by every group and is unlinked", gone.path.name)
        self._segments.seal_rest()
        self._segments.roll_if_started_before(now - max(self._limits.keep, _ROLL_AFTER))

    def _may_go(self, oldest: Segment, now: int) -> bool:
        if (oldest.last_at or 0) > now - self._limits.keep and not self._is_nearly_full():
            return False
        # Without a group nobody has read anything yet; unless nobody has to.
        needed = [
            self._groups.lowest_since(name, now - self._limits.rewind)
            for name in self._groups.committed
        ]
        if not needed:
            return not self._limits.needs_readers
        return min(needed) >= oldest.end

    def _is_nearly_full(self) -> bool:
        soon = 2 * self._limits.segment_bytes
        return (
            self.refusal is not None
            or self._segments.size + soon > self._limits.max_bytes
            or self._free_now() < self._limits.disk_reserve + soon
        )

    def _why_full(self, coming: int) -> str | None:
        if self._segments.size + coming > self._limits.max_bytes:
            return f"the log has reached its limit of {self._limits.max_bytes} bytes"
        if self._free_now() - coming < max(self._limits.disk_reserve, _LEAST_FREE):
            return "the disk of the log is full"
        return None

    def _free_now(self) -> int:
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._free = disk.free_bytes(self._directory)
            self._looked = time.monotonic()
        return self._free
