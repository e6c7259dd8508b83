"""What every log promises, whichever way it keeps its records.

Two implementations (SQLite segments, Kafka) pass one set of contract tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from nilometer.errors import InvalidInput, Unavailable
from nilometer.log.envelope import Envelope


class LogUnavailable(Unavailable):
    """The record is not known to be durable: send it again later.

    It may be read all the same. A broker can keep what it could not acknowledge in time, and no
    writer can take that back; sent again, the record is then in the log twice, and its identity
    makes one event of it.
    """

    code = "log_unavailable"


class LogFull(LogUnavailable):
    """The log or its disk has reached its limit; it accepts again once readers catch up. The record
    will never be read."""

    code = "log_full"


class RecordTooLarge(InvalidInput):
    """The record is larger than the log takes, now and later. It will never be read."""

    code = "record_too_large"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a record stands. Offsets grow within a partition and are never used again."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Record:
    """A stored record, not yet decoded: a broken one must not stop its reader."""

    position: Position
    headers: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind: records waiting, and the append time (microseconds since the
    epoch) of the oldest one, or a little earlier; None when nothing waits, or when that time is not
    known yet. `partitions` has the records that wait in each partition that has some; it is empty
    where the log is of one piece."""

    records: int
    oldest_at: int | None
    partitions: Mapping[int, int] = field(default_factory=dict[int, int], compare=False)

    def seconds(self, now: int) -> float | None:
        """The age of that record at a time (microseconds since the epoch); 0 when nothing waits,
        None when the age is not known."""
        if self.oldest_at is None:
            return None if self.records else 0.0
        return max(0, now - self.oldest_at) / 1e6


@dataclass(frozen=True, slots=True)
class LogState:
    """A snapshot for readiness, metrics and `nilometer log lag`.

    `ready` is False when an append would fail; `reason` then says why, and `full` that it would be
    with LogFull. `depth` and `size` are the records and bytes kept; `size` is None where the log
    cannot tell. `as_of` is when all this was so (microseconds since the epoch), None for now: what
    was acknowledged since may be missing from it.
    """

    ready: bool
    reason: str
    depth: int
    size: int | None
    groups: dict[str, Lag] = field(default_factory=dict[str, Lag])
    full: bool = False
    as_of: int | None = None


class Consumer(Protocol):
    """One reader of a group. Used by one thread at a time; `close` may come from another.

    In a log of several partitions the readers of a group share them. A partition can go over to
    another reader at any time, and what was not committed of it is then handed out there, again.
    """

    def poll(self, *, max_records: int, max_bytes: int, timeout: float) -> list[Record]:
        """The next records, in order within each partition, at most so many and (but for a single
        larger one) so large.

        Blocks up to `timeout` seconds for the first; an empty list means that nothing came.
        Records are handed out again after a restart until they are committed.
        """
        ...

    def commit(self, records: Sequence[Record]) -> None:
        """Record durably that these, and all before them in their partitions, have had effect.

        Those of a partition that another reader has by now are left to it: it hands them out again.
        Raises LogUnavailable when it could not be done; the records count as not committed.
        """
        ...

    def rewind(self, since: int) -> None:
        """Go back, in the partitions that this reader has, so that every kept record appended at or
        after `since` (microseconds) is read again. Never moves forward."""
        ...

    def close(self) -> None:
        """Stop reading. What was not committed is handed out again to the next consumer."""
        ...


class Log(Protocol):
    """An append-only sequence of records that survives a crash at any instant."""

    async def append(self, envelope: Envelope) -> Position:
        """Append one record. Returning is the acknowledgement: the record is on disk (fsynced, or
        replicated as configured) and will be read at least once by every group.

        Raises LogUnavailable when that is not known in time (see there), LogFull at the size limit
        or on a full disk, and RecordTooLarge; after the last two it will never be read.
        """
        ...

    def append_blocking(self, envelope: Envelope) -> Position:
        """As `append`, for a caller in a plain thread."""
        ...

    def append_soon(self, envelope: Envelope) -> Future[Position]:
        """As `append_blocking`, but without waiting: the future has the position, or what `append`
        raises. Appends of which neither is known to have failed keep their order; of several under
        way one can fail and a later one be read. Raises LogUnavailable when too many wait."""
        ...

    def consumer(self, group: str) -> Consumer:
        """A reader of a group, which starts at the group's last commit, or at the oldest record
        for a new group."""
        ...

    def state(self) -> LogState:
        """The present state, or the last that is known; never blocks on a disk or a server."""
        ...

    def close(self) -> None:
        """Finish what was accepted, release every file and connection. Append raises after it."""
        ...
