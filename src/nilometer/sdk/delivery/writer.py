"""The thread that makes metrics of observations and hands them to the lanes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from nilometer.errors import NilometerError
from nilometer.sdk.delivery.ledger import Ledger, owned_here
from nilometer.sdk.delivery.queue import Bell, BoundedQueue
from nilometer.sdk.delivery.records import Assembles, Queued
from nilometer.sdk.delivery.sender import Sender
from nilometer.sdk.sinks.port import Record
from nilometer.sdk.turns import in_turns

_LOG = logging.getLogger(__name__)

INVALID = "invalid"
MOST_AT_ONCE = 200


class Writer:
    """Waits `linger` seconds after the first observation, so that those of a busy time share a
    write to the disk.

    Whoever wants the queue to be emptied asks the thread and waits for it: a signal's handler that
    ended the process in the middle of that work would lose what is in hand.
    """

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
        self._handed = 0
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

    def empty(self, timeout: float) -> bool:
        """Have everything that is in the queue by now handed over, within so many seconds; whether
        it is."""
        if not self.thread.is_alive():  # not started, or ended: at the interpreter's end
            self._drain()
            return True
        self.hurry()
        ledger = self._ledger
        with ledger.changed:
            self._queue.settle()
            until = ledger.left + len(ledger.queue)
            return ledger.changed.wait_for(lambda: self._handed >= until, timeout)

    def hold(self, timeout: float) -> bool:
        """Keep the thread from working, until `let_go`; whether it could be within so many
        seconds."""
        return self._lock.acquire(timeout=timeout)

    def let_go(self) -> None:
        """The end of `hold`, on the same thread."""
        self._lock.release()

    def held_here(self) -> bool:
        """Whether this thread is writing."""
        return owned_here(self._lock)

    def _run(self) -> None:
        while not self._ending.is_set():
            self._bell.wait()
            if not self._hurried and not self._ending.is_set():
                self._bell.wait(self._linger)
            self._hurried = False
            self._drain()

    def _drain(self) -> None:
        """Hand over everything in the queue."""
        while True:
            with self._lock:
                taken = self._queue.oldest(MOST_AT_ONCE)
                if not taken:
                    return
                self._hand_over(taken)

    def _hand_over(self, taken: Sequence[Queued]) -> None:
        metrics: list[Record] = []
        for seen in in_turns(taken):
            try:
                metrics.append(self._assembler.metric(seen))
            except Exception as error:  # noqa: BLE001  (one odd call must not stop the others)
                self._tell(error)
        self._queue.leave(len(taken), dropped=len(taken) - len(metrics), reason=INVALID)
        if metrics:
            for sender in self._senders:
                sender.lane.put(metrics)
                sender.wake()
        with self._ledger.changed:
            self._handed += len(taken)
            self._ledger.changed.notify_all()

    def _tell(self, error: Exception) -> None:
        """At most once a minute. A NilometerError names a field, and never its content."""
        now = time.monotonic()
        if now - self._told < 60 and self._told:
            return
        self._told = now
        detail = str(error) if isinstance(error, NilometerError) else type(error).__name__
        _LOG.warning("a call could not be counted: %s", detail)
