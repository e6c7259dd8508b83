"""Tells the log what happened to incidents: the outbox, in order, each event at least once.

An event is deleted from the outbox when the log has acknowledged it. A relay that dies in between
sends it again, and so does one that loses its turn to another without noticing; readers know an
event by its id, and its place by its sequence. Of one incident the next event goes out only when
the one before is acknowledged, because of several under way one can fail and a later one be read.
Incidents do not wait for each other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager

from nilometer import failpoints
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.log.envelope import Envelope
from nilometer.log.port import Log, LogUnavailable, Position, RecordTooLarge
from nilometer.observability import metrics
from nilometer.workflows import outbox
from nilometer.workflows.loop import Loop
from nilometer.workflows.outbox import Notice

DOOR = "incidents"
"""The door of these records, in their envelope."""
DOOR_VERSION = 1
NAME = "incident events"
"""What only one process at a time does."""

_BATCH = 1000
_INTERVAL = 0.1

_log = logging.getLogger(__name__)

_Numbered = tuple[int, Notice]


class Relay:
    """Hands over what waits, in a thread of its own, until `stop`. Of all processes on a database
    one does it at a time."""

    def __init__(
        self,
        database: Database,
        log: Log,
        *,
        alone: Callable[[], AbstractContextManager[bool]],
        interval: float = _INTERVAL,
        batch: int = _BATCH,
    ) -> None:
        """`interval` is how often it looks. It is not woken by what is written: a batch costs one
        commit of the log for each event of one incident, and readers of the log are not in haste.
        """
        self._database = database
        self._log = log
        self._alone = alone
        self._batch = batch
        self._loop = Loop("incident-relay", self.look, interval)

    def start(self) -> None:
        """Begin, in a thread."""
        self._loop.start()

    def stop(self) -> None:
        """End after the batch under way, and wait for it."""
        self._loop.stop()

    def look(self) -> bool:
        """Hand over a batch, if it is this one's turn; whether there may be more. Raises
        DatabaseUnavailable and LogUnavailable."""
        if not self._waiting(1):
            return False
        with self._alone() as mine:
            return mine and self.relay() == self._batch

    def relay(self) -> int:
        """Hand over a batch; how many events that were. Raises as `look`. For one at a time."""
        waiting = self._waiting(self._batch)
        told: list[int] = []
        try:
            for wave in waves(waiting):
                self._append(wave, told)
        finally:
            if told:
                failpoints.hit("outbox_appended")
                self._forget(told)
        return len(waiting)

    def _waiting(self, most: int) -> list[_Numbered]:
        with self._database.read(EVERY_ROW) as session:
            return outbox.oldest(session, most)

    def _forget(self, numbers: Sequence[int]) -> None:
        with self._database.concurrent(EVERY_ROW) as session:
            outbox.forget(session, numbers)
        metrics.OUTBOX_RELAYED.inc(len(numbers))

    def _append(self, wave: Iterable[_Numbered], told: list[int]) -> None:
        """Append these at once and wait for all; `told` gets those that the log has. Raises
        LogUnavailable when it does not have some."""
        under_way: list[tuple[int, Notice, Future[Position]]] = []
        refusal: BaseException | None = None
        for number, notice in wave:
            try:
                under_way.append((number, notice, self._log.append_soon(record_of(notice))))
            except LogUnavailable as error:
                refusal = error
                break
            except RecordTooLarge as error:
                _pass_over(notice, error)
                told.append(number)
        # Each is waited for: the log resolves every one, and soon. (`concurrent.futures.wait` costs
        # more than the append.)
        for number, notice, future in under_way:
            failed = future.exception()
            if isinstance(failed, RecordTooLarge):
                _pass_over(notice, failed)
            elif failed is not None:
                refusal = refusal or failed
                continue
            told.append(number)
        if refusal is not None:
            raise refusal


def _pass_over(notice: Notice, error: RecordTooLarge) -> None:
    """The log never takes it: the database alone has it, and the others must not wait."""
    _log.error("event %s is not told to the log: %s", notice.event_id, error.detail)


def waves(waiting: Sequence[_Numbered]) -> Iterable[list[_Numbered]]:
    """What can be under way together: first the first event of each incident, then the second."""
    lanes: dict[tuple[int, str], list[_Numbered]] = {}
    for numbered in waiting:
        notice = numbered[1]
        lanes.setdefault((notice.project_id, notice.lane), []).append(numbered)
    for each in lanes.values():
        each.sort(key=lambda numbered: numbered[1].sequence)
    for turn in range(max(map(len, lanes.values()), default=0)):
        yield [each[turn] for each in lanes.values() if len(each) > turn]


def record_of(notice: Notice) -> Envelope:
    """The record that readers of the log get: its payload is the event as JSON."""
    return Envelope(
        project_id=notice.project_id,
        uuid=notice.event_id,
        door=DOOR,
        door_version=DOOR_VERSION,
        accepted_at=clock.to_micros(notice.occurred_at),
        config_version=0,
        payload=notice.record,
        trace_context=notice.trace_context,
        sequence=f"{notice.project_id}:{notice.lane}",
    )
