"""The consumer that carries accepted records from the log to the store.

A plain thread: poll, map, write, dead-letter what cannot be stored, commit the offset. When a part
that it needs is down it waits and tries again, and no record is blamed for it.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from nilometer import failpoints
from nilometer.blobs.types import BlobsUnavailable
from nilometer.clickhouse.store import Store, StoreUnavailable
from nilometer.database.engine import DatabaseUnavailable
from nilometer.errors import NilometerError, Unavailable
from nilometer.log.port import Consumer, Log, LogUnavailable, Record
from nilometer.observability import metrics
from nilometer.pipeline.batch import (
    Bad,
    Carried,
    Tombstoned,
    drop_tombstoned,
    located,
    map_batch,
    write_batch,
)
from nilometer.pipeline.call_cost import OverridesOf, book_prices
from nilometer.pipeline.dead_letters import DeadLetters, NewDeadLetter
from nilometer.pipeline.packing import Pack, unpacked
from nilometer.pipeline.share import DeadLetterShare
from nilometer.pipeline.tally import Tally
from nilometer.pipeline.turns import Turns
from nilometer.pipeline.writer import Arriving, unheard

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25  # also how long a stop may wait for an idle pipeline
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 10.0
_COMMIT_PATIENCE = 1.0  # of a stop


@dataclass(frozen=True, slots=True)
class PipelineState:
    """What the pipeline does, for readiness and `/metrics`.

    `reason` is "" while it runs, else `not_started`, `stopped`, `store`, `database`, `log`,
    `blobs`, `newer_version`, `bad_release` or `error`; `detail` is a sentence that says what to
    do. In the last three nothing changes by itself: mend the cause, then restart or `resume()`.
    """

    running: bool
    reason: str
    detail: str


class Paused(NilometerError):
    """The pipeline must not go on by itself."""


class LogUnreadable(Unavailable):
    """The log cannot hand out its next records and says why: a damaged file, say."""

    code = "log_unreadable"


_BAD_RELEASE = (
    "Too large a share of the recent events cannot be stored, which looks like a bad release "
    "rather than bad events. Mend it and restart, or resume to try again; nothing is lost."
)
_RUNNING = PipelineState(running=True, reason="", detail="")


class Pipeline:
    """One consumer of a group, in a thread of its own. Start, stop and resume from any thread."""

    def __init__(
        self,
        *,
        log: Log,
        store: Store,
        dead_letters: DeadLetters,
        batch_records: int = 2000,
        batch_bytes: int = 16 * 1024 * 1024,
        batch_events: int = 5000,
        linger: float = 0.2,
        dead_letter_share: float = 0.5,
        dead_letter_window: int = 200,
        group: str = "store",
        tombstoned: Tombstoned = lambda _: (),
        overrides_of: OverridesOf = book_prices,
        pack: Pack = unpacked,
        arriving: Arriving = unheard,
        courtesy: float = 0,
        patience: float = 60,
    ) -> None:
        """A record can hold many events: a batch ends with the record that brings its events to
        `batch_events`. `linger` is how many seconds it waits for more records; `dead_letter_share`
        of the last `dead_letter_window` events may be dead-lettered before the pipeline stops.
        The records of `tombstoned` projects are dropped; it is asked anew for every batch.
        `overrides_of` gives a project's price overrides; asked for every call, it must answer from
        memory. `pack` keeps large values beside the rows, as `Packer.lines` does. `arriving` hears
        whose calls are stored.

        `courtesy` is for a process that also answers clients: seconds to pause in every
        millisecond or so of mapping while other threads want the interpreter. Two that both want it
        change places all the time, and each change costs an acknowledgement more than the mapping
        itself. `patience` is how many seconds a part may take over a batch before `state` says that
        it is stuck.
        """
        self._log = log
        self._store = store
        self._dead_letters = dead_letters
        self._batch_records = batch_records
        self._batch_bytes = batch_bytes
        self._batch_events = batch_events
        self._linger = linger
        self._share = DeadLetterShare(dead_letter_share, dead_letter_window)
        self._most_bad = dead_letter_window
        self._tombstoned = tombstoned
        self._overrides_of = overrides_of
        self._pack = pack
        self._arriving = arriving
        self._turns = Turns()
        self._group = group
        self._courtesy = courtesy
        self._patience = patience
        # The part that has a batch at present, by its reason, and since when (monotonic).
        self._asked: tuple[str, float] | None = None
        self._entering = threading.Lock()
        self._consumer: Consumer | None = None
        self._hand: list[Record] = []
        self._tally = Tally()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._state = PipelineState(
            running=False, reason="not_started", detail="The pipeline has not been started."
        )

    def start(self) -> None:
        """Begin, in a thread. Does nothing when it has begun."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stopping.clear()
        self._wake.clear()
        self._state = _RUNNING
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Finish the batch in hand and end, waiting up to `timeout` seconds for it.

        A batch that waits for a part that is down is left to the next start: its records were not
        committed and come again. So is one that the log keeps for longer than a second.
        """
        self._stopping.set()
        self._wake.set()
        thread, deadline = self._thread, time.monotonic() + timeout
        if thread is None:
            self._end()
            return
        while thread.is_alive() and (left := deadline - time.monotonic()) > 0:
            thread.join(min(left, _COMMIT_PATIENCE / 4))
            self._give_up_commit()
        if thread.is_alive():
            _log.warning("the pipeline did not finish its batch within %s s", timeout)

    def _give_up_commit(self) -> None:
        asked, consumer = self._asked, self._consumer
        if asked is None or consumer is None or asked[0] != "log":
            return
        if time.monotonic() - asked[1] > _COMMIT_PATIENCE:
            consumer.close()

    def resume(self) -> None:
        """Try again now, with an empty window of dead letters. For an operator, after a pause.

        It runs when this returns, unless it was never started or is stopped; whether it goes on
        is for the next batch to show.
        """
        self._share.forget()
        with self._entering:
            if self._state.reason in _WAITING_REASONS:
                self._change(_RUNNING)
        self._wake.set()

    def state(self) -> PipelineState:
        """What it does at present; never blocks. A part that keeps a batch for longer than a
        minute is reported as if it were down, though nothing has failed yet."""
        state, asked = self._state, self._asked
        if not state.running or asked is None:
            return state
        reason, since = asked
        seconds = time.monotonic() - since
        if seconds <= self._patience:
            return state
        detail = f"The {reason} has not finished a batch for {seconds:.0f} s."
        return PipelineState(running=False, reason=reason, detail=detail)

    def run_once(self, timeout: float) -> int:
        """One batch in the calling thread, instead of `start`: how many records were finished.

        Raises Unavailable when a part is down and Paused when it must not go on; the batch then
        stays in hand for the next call.
        """
        if not self._hand:
            self._take(timeout)
        if not self._hand:
            return 0
        with self._turns.turn():
            return self._finish_hand()

    def settle(self, timeout: float) -> None:
        """Wait until the batch now under way has ended: all that follow see every tombstone of
        before the call. Raises Unavailable when that takes longer."""
        self._turns.wait(timeout)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                self.run_once(_POLL_SECONDS)
            except Unavailable as error:
                failures += 1
                self._wait(_reason_of(error), error.detail, _backoff(failures))
            except Paused as pause:
                self._wait(pause.code, pause.detail, None)
            except Exception as error:  # noqa: BLE001  (the thread must not end unseen)
                failures += 1
                detail = f"The pipeline failed: {located(error)}. Report it; it tries again."
                self._wait("error", detail, _backoff(failures))
            else:
                failures = 0
                self._enter(_RUNNING)
        self._end()

    def _take(self, timeout: float) -> None:
        """Take a batch in hand: what there is, and after `linger` what has come since, so that
        inserts are few and large under load.

        Each poll's records are in hand before anything else can fail: the log does not hand them
        out again, and the next commit would pass them.
        """
        self._hand = self._poll(self._batch_records, self._batch_bytes, timeout)
        room = self._batch_bytes - sum(len(record.payload) for record in self._hand)
        if not self._hand or len(self._hand) >= self._batch_records or room <= 0:
            return
        self._stopping.wait(self._linger)
        self._hand = self._hand + self._poll(self._batch_records - len(self._hand), room, 0)

    def _poll(self, records: int, size: int, timeout: float) -> list[Record]:
        try:
            if self._consumer is None:
                self._consumer = self._log.consumer(self._group)
            return self._consumer.poll(max_records=records, max_bytes=size, timeout=timeout)
        except Unavailable:
            raise
        except NilometerError as error:
            # What is wrong, and with which file, is for the operator; tried again, because a file
            # that is restored can be read.
            raise LogUnreadable(error.detail) from error

    def _finish_hand(self) -> int:
        """Give the records of the hand their effect, as many as make a batch, then commit as far
        as that went."""
        mapped, newer = map_batch(
            self._hand,
            max_events=self._batch_events,
            courtesy=self._courtesy,
            overrides_of=self._overrides_of,
        )
        wanted = drop_tombstoned(mapped, self._tombstoned)
        with self._asking("store"):
            settled = write_batch(
                self._store,
                wanted,
                most_bad=self._most_bad,
                written=self._tally.written,
                pack=self._pack,
                arriving=self._arriving,
            )
        bad = [[isinstance(outcome, Bad) for outcome in each.outcomes] for each in settled]
        admitted = self._share.admitted(bad)
        finished = settled[:admitted]
        self._dead_letter(finished)
        failpoints.hit("before_commit")
        self._commit(len(finished))
        for outcomes in bad[:admitted]:
            self._share.count(outcomes)
        self._tally.finished(finished)
        if admitted < len(settled):
            raise Paused(_BAD_RELEASE, code="bad_release")
        if newer is not None and len(settled) == len(wanted):
            raise Paused(newer.detail, code="newer_version")
        return len(finished)

    def _dead_letter(self, finished: Sequence[Carried]) -> None:
        letters = [
            self._letter(outcome)
            for each in finished
            for outcome in each.outcomes
            if isinstance(outcome, Bad)
        ]
        if letters:
            with self._asking("database"):
                self._dead_letters.add(letters)

    def _commit(self, count: int) -> None:
        if count and self._consumer is not None:
            with self._asking("log"):
                self._consumer.commit(self._hand[:count])
            self._hand = self._hand[count:]

    @contextlib.contextmanager
    def _asking(self, reason: str) -> Generator[None]:
        """For the length of the block a part has the batch."""
        self._asked = reason, time.monotonic()
        try:
            yield
        finally:
            self._asked = None

    def _letter(self, bad: Bad) -> NewDeadLetter:
        # A record that is bad as a whole is kept as the log has it: its headers may say more than
        # this release knows.
        alone, record = bad.envelope, bad.record
        whole = alone is None or alone.payload is record.payload
        return NewDeadLetter(
            project_id=alone.project_id if alone else 0,
            uuid=alone.uuid if alone else "",
            consumer=self._group,
            reason=bad.reason,
            detail=bad.detail,
            headers=record.headers if alone is None or whole else alone.headers(),
            payload=record.payload if alone is None else alone.payload,
            attempts=1,
            partition=record.position.partition,
            offset=record.position.offset,
        )

    def _wait(self, reason: str, detail: str, seconds: float | None) -> None:
        """Wait for a stop, an operator, or (unless None) the seconds."""
        self._enter(PipelineState(running=False, reason=reason, detail=detail))
        self._wake.wait(seconds)
        if not self._stopping.is_set():
            self._wake.clear()

    def _enter(self, state: PipelineState) -> None:
        with self._entering:
            self._change(state)

    def _change(self, state: PipelineState) -> None:
        before, self._state = self._state, state
        if before.reason == state.reason:
            return
        if before.reason in _WAITING_REASONS:
            metrics.PIPELINE_WAITING.labels(before.reason).set(0)
        if state.reason in _WAITING_REASONS:
            metrics.PIPELINE_WAITING.labels(state.reason).set(1)
            _log.warning("the pipeline waits (%s): %s", state.reason, state.detail)
        elif state.running:
            _log.info("the pipeline runs again")

    def _end(self) -> None:
        consumer, self._consumer, self._hand = self._consumer, None, []
        self._tally = Tally()
        if consumer is not None:
            consumer.close()
        self._enter(
            PipelineState(running=False, reason="stopped", detail="The pipeline was stopped.")
        )


_WAITS: dict[type[Unavailable], str] = {
    StoreUnavailable: "store",
    DatabaseUnavailable: "database",
    LogUnavailable: "log",
    LogUnreadable: "log",
    BlobsUnavailable: "blobs",
}
_WAITING_REASONS = frozenset({*_WAITS.values(), "newer_version", "bad_release", "error"})


def _reason_of(error: Unavailable) -> str:
    for kind, reason in _WAITS.items():
        if isinstance(error, kind):
            return reason
    return "error"


def _backoff(failures: int) -> float:
    """Doubling from 0.1 s to 10 s, with jitter so that workers do not return together."""
    return min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(failures, 10)) * random.uniform(0.5, 1)  # noqa: S311
