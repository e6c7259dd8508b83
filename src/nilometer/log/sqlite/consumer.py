"""One reader of a group over the segments."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterator, Sequence

from nilometer.log.port import LogUnavailable, Position, Record
from nilometer.log.sqlite import segment
from nilometer.log.sqlite.groups import GroupOffsets
from nilometer.log.sqlite.segment import LogCorrupt, Row, Segment
from nilometer.log.sqlite.segments import Segments
from nilometer.log.sqlite.writer import PARTITION


class Tail:
    """The end of the log as readers see it: grows with each commit, closes with the log."""

    def __init__(self, end: int) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._end = end
        self._closed = False

    def advance(self, end: int) -> None:
        """Let readers have everything before `end`."""
        with self._changed:
            self._end = end
            self._changed.notify_all()

    def wait_past(self, offset: int, timeout: float) -> int:
        """The end, as soon as it is past `offset`, or after `timeout` seconds as it is."""
        with self._changed:
            self._changed.wait_for(lambda: self._end > offset or self._closed, timeout)
            return self._end

    def close(self) -> None:
        """Wake every reader."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class SqliteConsumer:
    """Reads a group's records in order. See `nilometer.log.port.Consumer`.

    Only one consumer of a group reads at a time: a new one takes over and closes the one before.
    `translate` turns an error of the group's file into the one to raise.
    """

    def __init__(
        self,
        group: str,
        *,
        segments: Segments,
        groups: GroupOffsets,
        tail: Tail,
        clock: Callable[[], int],
        translate: Callable[[sqlite3.Error], LogUnavailable],
    ) -> None:
        self._group = group
        self._segments = segments
        self._groups = groups
        self._tail = tail
        self._clock = clock
        self._translate = translate
        self._lock = threading.Lock()
        self._closed = False
        self._open_segment: Segment | None = None
        self._connection: sqlite3.Connection | None = None
        self._position = groups.committed[group]

    def poll(self, *, max_records: int, max_bytes: int, timeout: float) -> list[Record]:
        """The next records; see the port. Raises LogUnavailable once closed, and LogCorrupt,
        again at every poll, when the next record cannot be read."""
        self._check_open()
        end = self._tail.wait_past(self._position, timeout)
        with self._lock:
            self._check_open()
            records = self._collect(end, max_records, max_bytes)
            if records:
                self._position = records[-1].position.offset + 1
            return records

    def commit(self, records: Sequence[Record]) -> None:
        """See the port. Raises LogUnavailable when the commit could not be made durable; the
        records count as not committed."""
        if records:
            end = max(record.position.offset for record in records) + 1
            with self._writing():
                self._groups.commit(self._group, end, self._clock())

    def rewind(self, since: int) -> None:
        """See the port."""
        # No segment may be unlinked between finding the offset and committing to it.
        with self._segments.lock, self._writing():
            target = self._segments.first_since(since)
            self._groups.rewind(self._group, target, self._clock())
            self._position = min(self._position, target)

    def close(self) -> None:
        """See the port. May be called from another thread, and again."""
        with self._lock:
            self._closed = True
            self._release()

    @contextlib.contextmanager
    def _writing(self) -> Generator[None]:
        with self._lock:
            self._check_open()
            try:
                yield
            except sqlite3.Error as error:
                raise self._translate(error) from error

    def _check_open(self) -> None:
        if self._closed:
            raise LogUnavailable(f"this consumer of the group {self._group} is closed")

    def _collect(self, end: int, max_records: int, max_bytes: int) -> list[Record]:
        records: list[Record] = []
        # Closing ends the read transaction, which would keep the WAL from starting over.
        with contextlib.closing(self._rows(end)) as rows:
            try:
                records.extend(_bounded(rows, max_records, max_bytes))
            except LogCorrupt:
                if not records:
                    raise  # else those before it first; the next poll meets it again
        return records

    def _rows(self, end: int) -> Generator[tuple[int, Row]]:
        position = self._position
        while position < end and (found := self._segments.find(position)) is not None:
            position = max(position, found.base)
            for offset, row in self._read(found, position, min(end, found.end)):
                if offset != position:
                    break
                yield offset, row
                position += 1
            if position < min(end, found.end):
                raise LogCorrupt(f"the log segment {found.path} lacks offset {position}")

    def _read(self, found: Segment, start: int, end: int) -> Iterator[tuple[int, Row]]:
        try:
            if self._connection is None or self._open_segment is not found:
                self._release()
                self._connection = segment.connect_reader(found.path, sealed=found.sealed)
                self._open_segment = found
            yield from segment.read(self._connection, start, end)
        except sqlite3.Error as error:
            self._release()
            raise LogCorrupt(f"the log segment {found.path} cannot be read: {error}") from error

    def _release(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._open_segment = None


def _bounded(rows: Iterator[tuple[int, Row]], max_records: int, max_bytes: int) -> Iterator[Record]:
    size = 0
    for count, (offset, (headers, payload)) in enumerate(rows):
        size += len(headers) + len(payload)
        if count and size > max_bytes:
            return
        yield Record(Position(PARTITION, offset), headers, payload)
        if count + 1 >= max_records:
            return
