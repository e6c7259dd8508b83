"""The thread that makes metrics of observations and hands them to the lanes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from nilometer.errors import NilometerError
from nilometer.sdk.delivery.ledger import Ledger
from nilometer.sdk.delivery.queue import Bell, BoundedQueue
from nilometer.sdk.delivery.records import Assembles, Queued
from nilometer.sdk.delivery.sender import Sender
from nilometer.sdk.sinks.port import Record

_LOG = logging.getLogger(__name__)

INVALID = "invalid"
MOST_AT_ONCE = 200


class Writer:
    """Waits `linger` seconds after the first observation, so that those of a busy time share a
    write to the disk. `lock` is held by who writes: the thread, or the end of the process."""

    def __init__(
        self,
        queue: BoundedQueue,
        bell: Bell,
        ledger: Ledger,
        assembler: Assembles,
        senders: Sequence[Sender],
        *,
        linger: float,
    ) -> None:
        self._queue = queue
        self._bell = bell
        self._ledger = ledger
        self._assembler = assembler
        self._senders = senders
        self._linger = linger
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._hurried = False
        self._told = 0.0
        self.thread = threading.Thread(target=self._run, name="nilometer-writer", daemon=True)

    def hurry(self) -> None:
        """Write what there is, now."""
        self._hurried = True
        self._bell.ring()

    def stop(self) -> None:
        """End the thread after what it is writing."""
        self._ending.set()
        self._bell.ring()

    def drain(self) -> None:
        """Hand over everything in the queue."""
        with self._lock:
            while taken := self._queue.take(MOST_AT_ONCE):
                self._hand_over(taken)

    def _run(self) -> None:
        while not self._ending.is_set():
            self._bell.wait()
            if not self._hurried and not self._ending.is_set():
                self._bell.wait(self._linger)
            self._hurried = False
            self.drain()

    def _hand_over(self, taken: Sequence[Queued]) -> None:
        metrics: list[Record] = []
        for seen in taken:
            try:
                metrics.append(self._assembler.metric(seen))
            except Exception as error:  # noqa: BLE001  (one odd call must not stop the others)
                self._ledger.drop_queued(INVALID)
                self._tell(error)
            time.sleep(0)  # the callers' threads come first
        if not metrics:
            return
        self._ledger.hand_over(len(metrics))
        for sender in self._senders:
            sender.lane.put(metrics)
            sender.wake()

    def _tell(self, error: Exception) -> None:
        """At most once a minute. A NilometerError names a field, and never its content."""
        now = time.monotonic()
        if now - self._told < 60 and self._told:
            return
        self._told = now
        detail = str(error) if isinstance(error, NilometerError) else type(error).__name__
        _LOG.warning("a call could not be counted: %s", detail)
