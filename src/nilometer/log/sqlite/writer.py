"""Group commit: many senders wait, one thread writes, one commit answers them all.

Whatever was queued while a commit ran goes into the next one. With one sender that is one record a
commit; with many, the batch grows by itself until the disk keeps up.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from nilometer.log.port import LogUnavailable, Position
from nilometer.log.sqlite.segment import Row
from nilometer.observability import metrics

logger = logging.getLogger(__name__)

PARTITION = 0
# Bounds the time of one commit, and how far a segment grows past its size.
MAX_COMMIT_BYTES = 8 * 1024 * 1024
IDLE_SECONDS = 0.5
# A commit that takes longer than this is a stuck disk, and readiness says so.
STUCK_SECONDS = 10.0

LoopFuture = asyncio.Future[Position]
ThreadFuture = concurrent.futures.Future[Position]


class Storage(Protocol):
    """Where batches go. Only the writer's thread calls it."""

    def append(self, rows: Sequence[Row]) -> int:
        """Make all records durable, or none; the offset of the first.

        Raises LogUnavailable to refuse the batch and go on. Anything else is fatal.
        """
        ...

    def upkeep(self) -> None:
        """Work that can wait until the senders are answered. Called after each batch and, when
        idle, about twice a second. Whatever it raises is fatal."""
        ...


class Waiting:
    """A record in the queue and the sender that waits for it."""

    __slots__ = ("future", "loop", "row", "size", "submitted")

    def __init__(
        self,
        row: Row,
        future: LoopFuture | ThreadFuture,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.row = row
        self.size = len(row[0]) + len(row[1])
        self.future = future
        self.loop = loop
        self.submitted = time.perf_counter()


class Writer:
    """The queue and the thread that empties it.

    After a fatal error `distrust` is called, every sender gets LogUnavailable, then `on_fatal` is
    called with the error, all from the writer's thread, and nothing is accepted any more.
    `distrust` comes first, because who is refused may end the process; it may be called twice.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        max_queued_bytes: int,
        distrust: Callable[[], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._storage = storage
        self._max_queued_bytes = max_queued_bytes
        self._distrust = distrust
        self._on_fatal = on_fatal
        self._changed = threading.Condition(threading.Lock())
        self._queue: deque[Waiting] = deque()
        self._queued_bytes = 0
        self._idle = False
        self._refusal: str | None = None
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def submit(self, waiting: Waiting) -> None:
        """Queue a record; its future is resolved when it is durable or refused.

        Never blocks on the disk. Raises LogUnavailable when the queue is full, or after `close`
        or a fatal error.
        """
        with self._changed:
            if self._refusal is not None:
                raise LogUnavailable(self._refusal)
            queued = self._queued_bytes + waiting.size
            if self._queue and queued > self._max_queued_bytes:
                raise LogUnavailable(
                    "too many records are waiting for the disk; try again shortly", retry_after=1
                )
            self._queued_bytes = queued
            self._queue.append(waiting)
            if self._idle:
                self._idle = False
                self._changed.notify()

    def refusal(self) -> str | None:
        """Why an append would fail or not return soon, None when all is well."""
        since = self._busy_since
        if self._refusal is None and since is not None:
            seconds = time.monotonic() - since
            if seconds > STUCK_SECONDS:
                return f"a commit of the log has been running for {seconds:.0f} s"
        return self._refusal

    def refuse(self, why: str) -> None:
        """Accept no more; what is queued is still written."""
        with self._changed:
            self._refusal = self._refusal or why
            self._changed.notify()

    def fail(self, error: BaseException) -> None:
        """Refuse everything queued and to come, then tell `on_fatal`."""
        self._distrust()
        logger.critical("the log cannot go on", exc_info=error)
        with self._changed:
            self._refusal = "the log has failed; the server must be restarted"
            abandoned, self._queue = self._queue, deque()
        _refuse_all(abandoned, LogUnavailable(self._refusal))
        self._on_fatal(error)

    def close(self) -> None:
        """Write what is queued, then stop."""
        self.refuse("the log is closed")
        self._thread.join()

    def _run(self) -> None:
        try:
            while (batch := self._take()) is not None:
                if batch:
                    self._write(batch)
                self._storage.upkeep()
        except BaseException as error:  # noqa: BLE001  (reported and handed on by `fail`)
            self.fail(error)
        finally:
            self._busy_since = None

    def _take(self) -> list[Waiting] | None:
        """The next batch; empty after a while without one; None when closed and drained."""
        with self._changed:
            self._busy_since = None
            if not self._queue and self._refusal is None:
                self._idle = True
                self._changed.wait(IDLE_SECONDS)
                self._idle = False
            if not self._queue and self._refusal is not None:
                return None
            self._busy_since = time.monotonic()
            return self._cut()

    def _cut(self) -> list[Waiting]:
        if self._queued_bytes <= MAX_COMMIT_BYTES:
            batch, self._queue = list(self._queue), deque()
            self._queued_bytes = 0
            return batch
        batch: list[Waiting] = []
        size = 0
        while self._queue and (not batch or size + self._queue[0].size <= MAX_COMMIT_BYTES):
            batch.append(self._queue.popleft())
            size += batch[-1].size
        self._queued_bytes -= size
        return batch

    def _write(self, batch: list[Waiting]) -> None:
        started = time.perf_counter()
        try:
            first = self._storage.append([waiting.row for waiting in batch])
        except LogUnavailable as error:
            _refuse_all(batch, error)
            return
        except BaseException:
            self._distrust()
            _refuse_all(batch, LogUnavailable("the record could not be made durable"))
            raise
        _acknowledge_all(batch, first)
        _observe(batch, started, time.perf_counter())


def _acknowledge_all(batch: Sequence[Waiting], first: int) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[LoopFuture, int]]] = {}
    for offset, waiting in enumerate(batch, first):
        if isinstance(waiting.future, concurrent.futures.Future):
            waiting.future.set_result(Position(PARTITION, offset))
        elif waiting.loop is not None:
            by_loop.setdefault(waiting.loop, []).append((waiting.future, offset))
    for loop, futures in by_loop.items():
        _call(loop, _set_results, futures)


def _refuse_all(batch: Sequence[Waiting], error: LogUnavailable) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[LoopFuture]] = {}
    for waiting in batch:
        if isinstance(waiting.future, concurrent.futures.Future):
            waiting.future.set_exception(copy.copy(error))
        elif waiting.loop is not None:
            by_loop.setdefault(waiting.loop, []).append(waiting.future)
    for loop, futures in by_loop.items():
        _call(loop, _set_errors, futures, error)


def _call(
    loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *arguments: object
) -> None:
    """One wake-up of the loop for the whole batch. A closed loop has nobody left to tell."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, *arguments)


def _set_results(futures: Sequence[tuple[LoopFuture, int]]) -> None:
    for future, offset in futures:
        if not future.done():  # the sender may have been cancelled
            future.set_result(Position(PARTITION, offset))


def _set_errors(futures: Sequence[LoopFuture], error: LogUnavailable) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(copy.copy(error))  # one each: a traceback belongs to its raiser


def _observe(batch: Sequence[Waiting], started: float, ended: float) -> None:
    metrics.FSYNC_SECONDS.observe(ended - started)
    metrics.COMMIT_RECORDS.observe(len(batch))
    observe = metrics.APPEND_SECONDS.observe
    for waiting in batch:
        observe(ended - waiting.submitted)
