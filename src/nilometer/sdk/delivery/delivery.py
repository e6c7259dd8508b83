"""Delivery as a whole: what a manager has of it, from the first call to the end of the process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nilometer.sdk.delivery.breaker import CircuitBreaker
from nilometer.sdk.delivery.lane import Lane
from nilometer.sdk.delivery.ledger import Ledger, Stats
from nilometer.sdk.delivery.queue import Bell, BoundedQueue
from nilometer.sdk.delivery.records import METRICS, Assembles, Form, Queued, Store
from nilometer.sdk.delivery.sender import Sender
from nilometer.sdk.delivery.spool import Spool
from nilometer.sdk.delivery.writer import Writer

_LOG = logging.getLogger(__name__)

FAULT = "fault"
_POLL = 0.1
_JOIN = 0.5
_TO_DISK = 10.0
"""Seconds in which what is in memory is to be on disk, at the end; more is a disk that hangs."""
_FORK = 3.0
"""Seconds that a fork waits for the writer: its first price takes one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much, and how often. Seconds and bytes; docs/usage.md says what each is for."""

    queue_size: int = 20_000
    queue_bytes: int = 64 * 1024 * 1024
    batch_size: int = 2000
    flush_interval: float = 1.0
    linger: float = 0.05
    max_attempts: int = 3
    retry_base_delay: float = 1.0
    breaker_threshold: int = 5
    breaker_timeout: float = 30.0
    spool_bytes: int = 256 * 1024 * 1024
    exit_timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class Destination:
    """A store and, if it has one, the folder of its spool. `form` is that of what it stores."""

    sink: Store
    spool: Path | None
    form: Form = METRICS


class Delivery:
    """Takes observations and sees to it that the stores get them. Threads start with the first."""

    def __init__(
        self,
        destinations: Callable[[], Sequence[Destination]],
        assembler: Assembles,
        limits: Limits,
    ) -> None:
        self._destinations = destinations
        self._assembler = assembler
        self.limits = limits
        self._set_up()

    def _set_up(self) -> None:
        limits = self.limits
        destinations = self._destinations()
        self._start_lock = threading.RLock()
        self._started = self._closed = self._ended = self._sent = False
        self.sinks = [each.sink for each in destinations]
        self._ledger = Ledger(sink.name for sink in self.sinks)
        bell = Bell()
        self._queue = BoundedQueue(self._ledger, bell, limits.queue_size, limits.queue_bytes)
        self._senders = [self._sender(each) for each in destinations]
        self._writer = Writer(
            self._queue, bell, self._ledger, self._assembler, self._senders, linger=limits.linger
        )

    def _sender(self, destination: Destination) -> Sender:
        limits, sink, folder = self.limits, destination.sink, destination.spool
        lane = Lane(
            self._ledger,
            self._ledger.accounts[sink.name],
            None if folder is None else Spool(folder, limits.spool_bytes, destination.form),
            local=sink.local,
            most_in_memory=limits.queue_size,
            most_bytes=limits.queue_bytes,
            form=destination.form,
            max_attempts=limits.max_attempts,
        )
        breaker = CircuitBreaker(
            threshold=limits.breaker_threshold,
            timeout=limits.breaker_timeout,
            base=limits.retry_base_delay,
        )
        return Sender(
            sink, lane, breaker, batch_size=limits.batch_size, interval=limits.flush_interval
        )

    def submit(self, seen: Queued) -> None:
        """Take a call, or count it as dropped. Never raises, never waits."""
        try:
            if self._queue.put(seen) and not self._started:
                self._start()
        except Exception as error:  # noqa: BLE001  (it never harms its host)
            self.fault(error)

    def fault(self, error: Exception) -> None:
        """A call that could not even be looked at."""
        self._ledger.refuse(FAULT)
        _LOG.debug("a call could not be recorded", exc_info=error)

    def flush(self, timeout: float) -> bool:
        """Send everything, within so many seconds: True when nothing is left, in memory or on disk.
        What a process before this one left is part of it."""
        deadline = time.monotonic() + max(timeout, 0)
        self._start()
        for sender in self._senders:
            sender.lane.adopt()
        probe = True
        while True:
            self._writer.empty(min(_POLL, max(deadline - time.monotonic(), 0)))
            for sender in self._senders:
                sender.hurry(probe=probe)
            probe = False
            with self._ledger.changed:
                rest = deadline - time.monotonic()
                if self._ledger.changed.wait_for(self._at_rest, min(_POLL, max(rest, 0))):
                    return True
            if rest <= 0:
                return False

    def persist(self) -> None:
        """Bring to disk everything that is only in memory, as far as there is a spool. Asks no
        store."""
        self._writer.empty(_TO_DISK)
        for sender in self._senders:
            sender.lane.persist()

    def close(self, timeout: float) -> bool:
        """Flush, then leave the rest on disk and let go of everything. True when nothing is left.
        Calls recorded later are dropped, and counted.

        Another thread that closes too waits for the first. A signal's handler that closes in the
        middle of it does all of it over: it may be the last thing that this process does.
        """
        if not self._start_lock.acquire(timeout=timeout + _TO_DISK):
            return False
        try:
            if not self._ended:
                self._sent = self._end(time.monotonic() + timeout)
                self._ended = True
            return self._sent
        finally:
            self._start_lock.release()

    def _end(self, deadline: float) -> bool:
        """What `close` does; whether the stores have everything."""
        if self._started or not self._at_rest():
            self.flush(deadline - time.monotonic())
        self._closed = True
        self._queue.close()
        if not self._at_rest():  # what came while that was done
            self.flush(deadline - time.monotonic())
            self._writer.empty(_TO_DISK)
        sent = self._at_rest()
        self._writer.stop()
        for sender in self._senders:
            sender.stop()
        for thread in self._threads():
            if thread.is_alive():
                thread.join(_JOIN)
        self.persist()
        for sender in self._senders:
            sender.lane.close()
            sender.sink.close()
        return sent

    @property
    def closed(self) -> bool:
        """Whether it takes no more."""
        return self._closed

    def stats(self) -> Stats:
        """The counts of this moment."""
        breakers = {each.sink.name: each.breaker.state for each in self._senders}
        with self._ledger.lock:
            self._queue.settle()
            return self._ledger.stats(breakers)

    def held_here(self) -> bool:
        """Whether this thread is in the middle of something that another one may wait for."""
        return (
            self._ledger.held_here()
            or self._writer.held_here()
            or any(sender.lane.held_here() for sender in self._senders)
        )

    def before_fork(self) -> bool:
        """Let the writer come to the end of what it is at: a child could never get the locks of
        what it loads. Whether `after_fork_in_parent` is to be called."""
        return self._writer.hold(_FORK)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._writer.let_go()

    def after_fork(self) -> None:
        """Start over, in a child: what was waiting is the parent's, threads and locks are gone."""
        for sender in self._senders:
            sender.lane.abandon()
        self._set_up()

    def _start(self) -> None:
        """Start the threads, once. Who finds another at it waits for nothing: that one starts them,
        or ends."""
        if not self._start_lock.acquire(blocking=False):
            return
        try:
            if self._started or self._closed:
                return
            self._started = True
            for thread in self._threads():
                thread.start()
        except RuntimeError:  # the interpreter is ending: `close` does what they would have
            _LOG.debug("no thread can be started any more")
        finally:
            self._start_lock.release()

    def _threads(self) -> list[threading.Thread]:
        return [self._writer.thread, *(sender.thread for sender in self._senders)]

    def _at_rest(self) -> bool:
        with self._ledger.lock:
            self._queue.settle()
            return self._ledger.at_rest()
