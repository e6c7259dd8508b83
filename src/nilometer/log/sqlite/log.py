"""The log of the embedded profile."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nilometer.log.append_times import AppendTimes
from nilometer.log.envelope import Envelope
from nilometer.log.port import Lag, LogFull, LogState, LogUnavailable, Position
from nilometer.log.sqlite import disk, segment
from nilometer.log.sqlite.boot import Boot
from nilometer.log.sqlite.consumer import SqliteConsumer, Tail
from nilometer.log.sqlite.groups import GroupOffsets
from nilometer.log.sqlite.segment import LogCorrupt
from nilometer.log.sqlite.segments import Segments
from nilometer.log.sqlite.storage import Limits, SegmentStorage
from nilometer.log.sqlite.writer import ThreadFuture, Waiting, Writer

logger = logging.getLogger(__name__)

_SECOND = 1_000_000
# With fewer segments than this the size limit could be reached with nothing to unlink.
_LEAST_SEGMENTS = 4


def now_micros() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


def exit_at_once(error: BaseException) -> None:  # noqa: ARG001  (logged by the writer)
    """End the process with status 70: after a failed fsync the page cache cannot be trusted."""
    os._exit(os.EX_SOFTWARE)


class SqliteLog:
    """A log in a directory of this machine: SQLite segments, one writer, group commit.

    Opens or creates it at construction. Raises ConfigurationError when the directory is in use,
    and LogCorrupt when a file is damaged or missing.

    - `segment_bytes`: size at which a new segment is begun; at most a quarter of `max_bytes`.
    - `max_bytes`: size at which appends raise LogFull.
    - `keep_seconds`: how long a segment stays after every group has read it; when room runs short,
      only as long as `rewind_seconds` asks.
    - `disk_reserve`: free bytes of the disk below which appends raise LogFull.
    - `rewind_seconds`: after the machine went down every group is put back to where it stood this
      long before the last activity.
    - `needs_readers`: while no group has ever read, nothing is deleted; False for a log that is
      only there for who wants it.
    - `on_fatal`: called once from the writer's thread, after every sender was refused, when the
      disk cannot be trusted any more. By default the process exits with status 70.
    - `max_queued_bytes`: records waiting for the disk, above which appends raise LogUnavailable.
    - `clock`: microseconds since the epoch, for tests of retention.
    """

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int,
        max_bytes: int,
        keep_seconds: float,
        disk_reserve: int,
        rewind_seconds: float,
        needs_readers: bool = True,
        on_fatal: Callable[[BaseException], None] | None = None,
        max_queued_bytes: int = 64 * 1024 * 1024,
        clock: Callable[[], int] = now_micros,
    ) -> None:
        self._directory = directory
        self._limits = Limits(
            segment_bytes=min(segment_bytes, max_bytes // _LEAST_SEGMENTS),
            max_bytes=max_bytes,
            disk_reserve=disk_reserve,
            keep=int(keep_seconds * _SECOND),
            rewind=int(rewind_seconds * _SECOND),
            needs_readers=needs_readers,
        )
        self._clock = clock
        self._consumers: dict[str, SqliteConsumer] = {}
        self._opening = threading.Lock()
        self._closed = False
        self._failed = False
        self._on_fatal = on_fatal or exit_at_once
        with contextlib.ExitStack() as undo:
            self._open(undo)
            undo.pop_all()
        self._times = _index_times(self._segments, self._groups)
        self._tail = Tail(self._segments.end)
        self._storage = SegmentStorage(
            directory,
            self._limits,
            segments=self._segments,
            groups=self._groups,
            times=self._times,
            tail=self._tail,
            clock=clock,
        )
        self._writer = Writer(
            self._storage,
            max_queued_bytes=max_queued_bytes,
            distrust=self._boot.distrust,
            on_fatal=self._note_fatal,
        )
        self._writer.start()

    async def append(self, envelope: Envelope) -> Position:
        """Append one record; see the port. Costs the loop one queue entry and one future."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Position] = loop.create_future()
        self._writer.submit(Waiting((envelope.headers(), envelope.payload), future, loop))
        return await future

    def append_blocking(self, envelope: Envelope) -> Position:
        """Append one record from a plain thread; see the port."""
        return self.append_soon(envelope).result()

    def append_soon(self, envelope: Envelope) -> ThreadFuture:
        """Append one record from a plain thread, which goes on meanwhile; see the port."""
        future: ThreadFuture = concurrent.futures.Future()
        self._writer.submit(Waiting((envelope.headers(), envelope.payload), future, None))
        return future

    def consumer(self, group: str) -> SqliteConsumer:
        """A reader of the group; one that is still open is closed and replaced."""
        with self._opening:
            if self._closed:
                raise LogUnavailable("the log is closed")
            if group in self._consumers:
                self._consumers[group].close()
            self._register(group)
            consumer = SqliteConsumer(
                group,
                segments=self._segments,
                groups=self._groups,
                tail=self._tail,
                clock=self._clock,
                translate=self._translate,
            )
            self._consumers[group] = consumer
            return consumer

    def state(self) -> LogState:
        """The present state, from memory. Lag times are exact to a tenth of a second or, in a log
        with a long backlog, a little early."""
        broken, full = self._writer.refusal(), self._storage.refusal
        reason = broken or full
        end = self._segments.end
        return LogState(
            ready=reason is None,
            reason=reason or "",
            depth=self._segments.depth,
            size=self._segments.size,
            groups={
                name: self._lag(committed, end)
                for name, committed in self._groups.committed.copy().items()
            },
            full=broken is None and full is not None,
        )

    def close(self) -> None:
        """Write what was accepted, leave the marker of a clean stop, release everything."""
        with self._opening:
            if self._closed:
                return
            self._closed = True
        self._writer.close()
        self._tail.close()
        for consumer in self._consumers.values():
            consumer.close()
        if self._failed:
            self._segments.abandon()
            self._groups.close()
        else:
            self._close_cleanly()
        self._lock.release()

    def _open(self, undo: contextlib.ExitStack) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        disk.sync_directory(self._directory.parent)
        self._lock = disk.DirectoryLock(self._directory)
        undo.callback(self._lock.release)
        self._boot = Boot(self._directory)
        expected_end = read_marker(self._marker)
        self._groups = GroupOffsets(self._directory / "groups.sqlite", keep=self._limits.rewind)
        undo.callback(self._groups.close)
        self._segments = Segments(
            self._directory,
            segment_bytes=self._limits.segment_bytes,
            thorough=expected_end is None,
            committed=self._groups.committed,
            expected_end=expected_end,
        )
        undo.callback(self._segments.abandon)
        disk.remove_durably(self._marker)
        if expected_end is None:
            self._recover_groups()
        self._boot.note()

    @property
    def _marker(self) -> Path:
        return self._directory / "clean"

    def _recover_groups(self) -> None:
        """After an unclean stop: what a killed process had written is there, in the operating
        system's memory; when that went down too, the store may have lost what it was given."""
        if self._boot.goes_on():
            logger.warning("the log was not closed cleanly; groups go on where they stood")
        else:
            self._rewind_groups()

    def _rewind_groups(self) -> None:
        """Put every group back. What is unlinked already was read long enough ago."""
        activity = max(self._segments.last_at, self._groups.last_activity())
        for name, committed in self._groups.committed.copy().items():
            stood = self._groups.lowest_since(name, activity - self._limits.rewind)
            target = max(stood, self._segments.start)
            self._groups.rewind(name, target, activity)
            logger.warning(
                "the machine went down under the log: group %s reads %d records again",
                name,
                max(committed - target, 0),
            )

    def _register(self, group: str) -> None:
        # No segment may be unlinked between choosing the start and registering it.
        with self._segments.lock:
            try:
                self._groups.register(group, self._segments.start, self._clock())
            except sqlite3.Error as error:
                raise self._translate(error) from error

    def _translate(self, error: sqlite3.Error) -> LogUnavailable:
        """What a failed write of the group offsets means: no room, or the end."""
        if disk.is_no_room(error, self._directory):
            return LogFull("the disk of the log is full")
        self._writer.fail(error)
        return LogUnavailable("the group's offset could not be made durable")

    def _note_fatal(self, error: BaseException) -> None:
        self._failed = True
        self._on_fatal(error)

    def _lag(self, committed: int, end: int) -> Lag:
        waiting = max(end - committed, 0)
        return Lag(waiting, self._times.at(committed) if waiting else None)

    def _close_cleanly(self) -> None:
        try:
            self._segments.close()
            self._groups.close()
            disk.write_durably(self._marker, f"{self._segments.end}\n")
        except (OSError, sqlite3.Error) as error:
            if not disk.is_no_room(error, self._directory):
                self._writer.fail(error)
                return
            logger.warning("no room for the marker of a clean stop; the next start reads again")


def read_marker(path: Path) -> int | None:
    """The end of the log as a clean stop left it; None after any other. Raises LogCorrupt."""
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise LogCorrupt(
            f"the marker {path} does not hold an offset; remove it to start as after a crash"
        ) from None


def _index_times(segments: Segments, groups: GroupOffsets) -> AppendTimes:
    """Seeded with where each segment starts and, exactly, where each group stands."""
    known = {each.base: each.first_at for each in segments.kept}
    for committed in groups.committed.values():
        found = segments.find(committed)
        if found is not None:
            known[committed] = segment.appended_at(found, committed)
    times = AppendTimes()
    for offset, at in sorted(known.items()):
        if at is not None:
            times.add(offset, at, exact=True)
    return times
