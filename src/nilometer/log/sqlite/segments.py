"""The segments of one log in order: the last is written, the others wait to be read and unlinked.

One thread writes (`append`, `upkeep`, `roll`); any thread reads the properties and `find`.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import logging
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nilometer.log.sqlite import disk, segment
from nilometer.log.sqlite.segment import LogCorrupt, Row, Segment, SegmentWriter

logger = logging.getLogger(__name__)


class Segments:
    """The records of a log over all its segments. Opens them all, or raises LogCorrupt.

    `lock` guards which segments are kept: hold it to decide on an offset that must stay readable.
    """

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int,
        thorough: bool,
        committed: Mapping[str, int],
        expected_end: int | None,
    ) -> None:
        self.lock = threading.RLock()
        self._directory = directory
        self._segment_bytes = segment_bytes
        segment.sweep(directory)
        kept = _inspect_all(directory, thorough=thorough)
        _check_whole(directory, kept, committed, expected_end)
        start = max(committed.values(), default=0)
        self._kept = tuple(kept or [segment.create(directory, start)])
        self._last_at = max((each.last_at or 0 for each in self._kept), default=0)
        self._unsealed = [SegmentWriter(each) for each in self._kept[:-1] if not each.sealed]
        self._kept[-1].sealed = False
        self._active = SegmentWriter(self._kept[-1])

    @property
    def kept(self) -> tuple[Segment, ...]:
        """The segments, oldest first; never empty."""
        return self._kept

    @property
    def start(self) -> int:
        """The oldest offset kept."""
        return self._kept[0].base

    @property
    def end(self) -> int:
        """The offset that the next record will get; those before it are on disk."""
        return self._kept[-1].end

    @property
    def last_at(self) -> int:
        """The append time of the newest record, 0 without one."""
        return self._last_at

    @property
    def depth(self) -> int:
        """Records kept."""
        return sum(each.end - each.base for each in self._kept)

    @property
    def size(self) -> int:
        """Bytes on disk, estimated between two checkpoints."""
        return sum(each.size for each in self._kept)

    def append(self, rows: Sequence[Row], now: int) -> int:
        """Append the records durably, all or none; the offset of the first.

        Append times never go back, whatever the clock does: readers search by them.
        """
        if self._active.segment.size >= self._segment_bytes:
            self.roll()
        at = max(now, self._last_at)
        first = self._active.append(rows, at)
        self._last_at = at
        return first

    def upkeep(self) -> None:
        """What may wait until the records' senders are answered: checkpoints."""
        try:
            self._active.checkpoint()
        except sqlite3.OperationalError as error:
            self._unless_no_room(error)

    def roll(self) -> None:
        """Start a new segment, unless the active one is empty."""
        if self._active.segment.end == self._active.segment.base:
            return
        fresh = segment.create(self._directory, self.end)
        writer = SegmentWriter(fresh)
        self._unsealed.append(self._active)
        self._active = writer
        with self.lock:
            self._kept = (*self._kept, fresh)
        self.seal_rest()

    def roll_if_started_before(self, moment: int) -> None:
        """Roll when the active segment's first record is that old, so that it can be unlinked."""
        first_at = self._active.segment.first_at
        if first_at is not None and first_at < moment:
            self.roll()

    def seal_rest(self) -> None:
        """Seal what is no longer written; a reader or a full disk only puts it off."""
        for writer in list(self._unsealed):
            if writer.segment not in self._kept or self._seal(writer):
                writer.close()
                self._unsealed.remove(writer)

    def unlink_oldest(self, may: Callable[[Segment], bool]) -> Segment | None:
        """Unlink the oldest segment if `may` agrees; never the active one."""
        with self.lock:
            oldest = self._kept[0]
            if len(self._kept) == 1 or not may(oldest):
                return None
            self._kept = self._kept[1:]
        oldest.unlink()
        # Each removal is on disk before the next, so that a crash cannot leave a gap.
        disk.sync_directory(self._directory)
        return oldest

    def find(self, offset: int) -> Segment | None:
        """The segment that holds the offset, or the next one after it; None past the end."""
        kept = self._kept
        index = bisect.bisect_right(kept, offset, key=lambda each: each.base) - 1
        for each in kept[max(index, 0) :]:
            if offset < each.end:
                return each
        return None

    def first_since(self, since: int) -> int:
        """The first kept offset appended at or after `since` (microseconds), or the end."""
        for each in self._kept:
            if each.last_at is not None and each.last_at >= since:
                try:
                    return segment.first_since(each, since)
                except sqlite3.Error as error:
                    raise segment.corrupt(each.path, str(error)) from error
        return self.end

    def close(self) -> None:
        """Seal what can be sealed and release every file."""
        for writer in (*self._unsealed, self._active):
            self._seal(writer)  # if it cannot, the next open recovers the WAL
            writer.close()

    def abandon(self) -> None:
        """Release every file as it is, after a failure."""
        for writer in (*self._unsealed, self._active):
            with contextlib.suppress(sqlite3.Error):
                writer.close()

    def _seal(self, writer: SegmentWriter) -> bool:
        try:
            return writer.seal()
        except sqlite3.OperationalError as error:
            self._unless_no_room(error)
            return False

    def _unless_no_room(self, error: sqlite3.Error) -> None:
        """A checkpoint that finds no room is tried again later: the WAL has it all."""
        if not disk.is_no_room(error, self._directory):
            raise error


def inspect_whole(
    directory: Path, committed: Mapping[str, int], expected_end: int | None
) -> list[Segment]:
    """The segments of a log that no process has open, oldest first. Raises LogCorrupt when one that
    a group needs is missing."""
    kept = _inspect_all(directory, thorough=False)
    _check_whole(directory, kept, committed, expected_end)
    return kept


def _inspect_all(directory: Path, *, thorough: bool) -> list[Segment]:
    paths = sorted(directory.glob(f"{'[0-9]' * 20}{segment.SUFFIX}"))
    return [
        segment.inspect(path, thorough=thorough and (path == paths[-1] or segment.has_wal(path)))
        for path in paths
    ]


def _check_whole(
    directory: Path,
    kept: Sequence[Segment],
    committed: Mapping[str, int],
    expected_end: int | None,
) -> None:
    """Refuse a log that lacks records which a group has not read, or has read but lost since."""
    read_by_all = min(committed.values(), default=0)
    for each, following in itertools.pairwise(kept):
        if each.end != following.base and read_by_all < following.base:
            raise _missing(each.path, each.end, following.base)
    if kept and read_by_all < kept[0].base and committed:
        raise _missing(kept[0].path, read_by_all, kept[0].base)
    end = kept[-1].end if kept else 0
    reached = max(expected_end or 0, max(committed.values(), default=0))
    if end < reached and (kept or read_by_all < reached):
        raise _missing(kept[-1].path if kept else directory, end, reached)


def _missing(path: Path, start: int, end: int) -> LogCorrupt:
    return LogCorrupt(
        f"the log lacks the records from offset {start} to {end - 1}, at {path}. Restore the "
        "missing file from a copy. To go on without those records, move the segments before the "
        "gap elsewhere and remove `clean` and `groups.sqlite`: every group then reads again from "
        "the oldest record."
    )
