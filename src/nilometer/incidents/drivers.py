"""What drives the stages in the distributed profile: the topic of incident events, read by a group
of consumers for each stage.

A message is only a hint that a stage has something to do. Its worker then claims what is due, and
the database's claim decides what that is: a message that is lost, late, repeated or out of order
changes nothing, and what a lost one left is found by the runner's own look. Messages are committed
when the stage has looked and found nothing more, or after a while: the group's lag is what workers
have not kept up with.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

import orjson

from nilometer.errors import NilometerError
from nilometer.incidents.events import REGISTRY
from nilometer.log.port import Consumer, Log, Record
from nilometer.workflows.located import located

_RECORDS = 500
_BYTES = 8 * 1024 * 1024
_POLL_SECONDS = 0.5
_TURN_SECONDS = 5.0
_PAUSE_SECONDS = 1.0
_STOP_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Turns(Protocol):
    """The runner of a stage, as far as it is driven."""

    @property
    def queue(self) -> str:
        """What it works on."""
        ...

    def turn(self, timeout: float) -> bool:
        """Have it look, and wait until it has found nothing more."""
        ...


class Driver:
    """Reads the topic for one stage, in a thread of its own, until `stop`."""

    def __init__(self, log: Log, runner: Turns) -> None:
        self._log = log
        self._runner = runner
        self._concerns = consumed_by(runner.queue)
        self._stopping = threading.Event()
        self._consumer: Consumer | None = None
        self._hand: list[Record] = []
        self._thread = threading.Thread(target=self._run, name=f"drive-{runner.queue}", daemon=True)

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End, and leave the group. What waits for the log by then waits no longer: messages that
        were not committed come again, and change nothing."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
            if self._consumer is not None:
                self._consumer.close()
            self._thread.join()
        if self._consumer is not None:
            self._consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._drive()
            except NilometerError as error:
                if self._stopping.is_set():
                    return
                _log.warning("stage %s is driven later: %s", self._runner.queue, error.detail)
                self._stopping.wait(_PAUSE_SECONDS)
            except Exception as error:  # noqa: BLE001  (the thread must not end unseen)
                _log.error("stage %s is driven later: %s", self._runner.queue, located(error))
                self._stopping.wait(_PAUSE_SECONDS)

    def _drive(self) -> None:
        """Look for what messages tell of, and commit them. Those that could not be committed (the
        group may just be sharing its partitions out anew) stay in hand: the log does not hand them
        out again, and until the next message of their partition nothing else would commit them."""
        if self._consumer is None:
            self._consumer = self._log.consumer(self._runner.queue)
        if not self._hand:
            self._hand = self._consumer.poll(
                max_records=_RECORDS, max_bytes=_BYTES, timeout=_POLL_SECONDS
            )
        if any(map(self._concerns, self._hand)):
            self._runner.turn(_TURN_SECONDS)
        self._consumer.commit(self._hand)
        self._hand = []


def consumed_by(queue: str) -> Callable[[Record], bool]:
    """Whether a record tells of something that this stage may have to work on. So may what cannot
    be read, and what a newer release wrote."""
    others = frozenset(name for name, kind in REGISTRY.items() if queue not in kind.consumers)

    def concerns(record: Record) -> bool:
        try:
            return orjson.loads(record.payload)["type"] not in others
        except (ValueError, KeyError, TypeError):
            return True

    return concerns
