"""One reader of a group over the partitions that it is given."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, Message

from nilometer.log.kafka.connection import KafkaConnection, is_fatal, sentence
from nilometer.log.kafka.membership import GroupClient, Membership
from nilometer.log.kafka.progress import Progress
from nilometer.log.port import LogUnavailable, Position, Record
from nilometer.observability import metrics

logger = logging.getLogger(__name__)

HEADER = "nilometer"

_SLICE = 0.1  # how long a close may wait for a poll
_CHUNK = 500
_COMMIT_SECONDS = 15.0
_JOIN_SECONDS = 30.0
_ASK_SECONDS = 10.0
_LEAVE_SECONDS = 10.0
_LEAVE_UNHEARD = 1.0

# Another reader has this one's name, and its partitions: it hands the records out again.
_GONE = frozenset({KafkaError.FENCED_INSTANCE_ID})

# What passes by itself, soon, and with the next attempt. A commit of a generation that has ended
# among them: most partitions stay where they are when readers come and go, and those that went are
# no longer to be committed once the client was told.
_PASSING = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError._WAIT_COORD,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._TRANSPORT,  # noqa: SLF001
    }
)


class KafkaConsumer:
    """Reads a group's records. See `nilometer.log.port.Consumer`.

    A reader that does not poll, because a batch takes long or waits for the store, stays in its
    group for as long as its process lives: a thread lets rebalances go on meanwhile. A partition
    that goes to another reader is given up when what is in hand of it has been committed, or after
    `handover` seconds.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        topic: str,
        group_id: str,
        membership: Membership,
        largest_message: int,
        answers: Callable[[], bool] = lambda: True,
    ) -> None:
        """`answers` says whether the cluster does, as far as is known."""
        self._topic = topic
        self._answers = answers
        self._group_id = group_id
        self._membership = membership
        self._progress = Progress()
        self._waiting: deque[Record] = deque()  # fetched, not handed out
        self._polled_at = time.monotonic()
        self._closing = threading.Event()
        self._closed = False
        self._left = threading.Event()
        self._leaving: float | None = None  # since when
        self._lock = threading.Lock()
        self._client = GroupClient(
            connection,
            membership.options(group_id, largest_message),
            topic,
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
            on_commit=self._progress.commit,
        )
        self._keeper = threading.Thread(target=self._keep, name="kafka-member", daemon=True)
        self._keeper.start()

    def poll(self, *, max_records: int, max_bytes: int, timeout: float) -> list[Record]:
        """See the port. Raises LogUnavailable once closed, and when the cluster refuses this
        reader; a cluster that is away shows in the log's state."""
        deadline = time.monotonic() + timeout
        self._check_open()  # who closes it may keep the lock for good
        try:
            with self._lock:
                self._check_open()
                self._client.resume()
                self._fetch_first(deadline)
                self._fetch_more(max_records, max_bytes)
                self._check_refusal()
                return self._cut(max_records, max_bytes)
        finally:
            self._polled_at = time.monotonic()

    def commit(self, records: Sequence[Record]) -> None:
        """See the port. The broker's copies of the offset are as many as it keeps of its own topic
        for them."""
        partitions = {record.position.partition for record in records}
        # Told before the lock is asked for: a rebalance that has it may wait for this.
        self._progress.finish(records)
        if not partitions:
            return
        self._check_open()
        with self._lock:
            self._check_open()
            self._commit(partitions)
            self._polled_at = time.monotonic()

    def rewind(self, since: int) -> None:
        """See the port. Times are the broker's, to the millisecond."""
        with self._lock:
            self._check_open()
            deadline = time.monotonic() + _JOIN_SECONDS
            self._serve_until(lambda: self._client.joined, deadline, "join")
            positions = self._progress.positions()
            found = self._client.offsets_since(list(positions), since, _ASK_SECONDS)
            back = {
                partition: offset
                for partition, offset in found.items()
                if offset < (positions[partition] or 0)
            }
            if back:
                self._go_back(back)

    def close(self) -> None:
        """See the port. May be called from another thread, and again. A cluster that is away is not
        told: the library asks it without end, in a thread that is left to that."""
        self._closing.set()
        if first := self._leaving is None:
            self._leaving = time.monotonic()
            threading.Thread(target=self._leave, name="kafka-leave", daemon=True).start()
        while not self._left.wait(_SLICE):
            patience = _LEAVE_SECONDS if self._answers() else _LEAVE_UNHEARD
            if time.monotonic() - self._leaving > patience:
                if first:
                    logger.warning("the group %s is not told of a reader's end", self._group_id)
                return

    def _leave(self) -> None:
        try:
            with self._lock:
                if not self._closed:
                    self._closed = True
                    self._client.close()
                    self._waiting.clear()
            self._keeper.join()
        finally:
            self._left.set()

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise LogUnavailable(f"this consumer of the group {self._group_id} is closed")

    def _check_refusal(self) -> None:
        refusal = self._client.refusal
        if refusal is not None and not self._waiting:
            if not is_fatal(refusal):
                self._client.refusal = None  # the next poll shows whether it lasts
            raise LogUnavailable(f"Kafka hands out nothing to this consumer: {sentence(refusal)}")

    def _fetch_first(self, deadline: float) -> None:
        while not self._waiting and not self._closing.is_set():
            left = deadline - time.monotonic()
            self._take_in(self._client.consume(1, max(0.0, min(left, _SLICE))))
            if left <= 0:
                return

    def _fetch_more(self, max_records: int, max_bytes: int) -> None:
        """What else has been fetched ahead, as far as it is wanted now."""
        while (wanted := max_records - len(self._waiting)) > 0 and _size(self._waiting) < max_bytes:
            messages = self._client.consume(min(wanted, _CHUNK), 0)
            if not messages:
                return
            self._take_in(messages)

    def _take_in(self, messages: Sequence[Message]) -> None:
        assigned = set(self._progress.assigned)
        records = map(_record, messages)
        self._waiting.extend(each for each in records if each.position.partition in assigned)

    def _cut(self, max_records: int, max_bytes: int) -> list[Record]:
        records: list[Record] = []
        size = 0
        while self._waiting and len(records) < max_records:
            size += _bytes(self._waiting[0])
            if records and size > max_bytes:
                break
            records.append(self._waiting.popleft())
        lacking = self._progress.hand_out([record.position for record in records])
        for partition, count in lacking.items():
            self._tell_lost(partition, count)
        return records

    def _tell_lost(self, partition: int, count: int) -> None:
        metrics.LOG_LOST.inc(count)
        logger.error(
            "%d records of the Kafka topic %s, partition %d, were deleted before the group %s had "
            "read them: its retention is too short for how far the group is behind",
            count,
            self._topic,
            partition,
            self._group_id,
        )

    def _commit(self, partitions: set[int]) -> None:
        deadline = time.monotonic() + _COMMIT_SECONDS
        while self._progress.to_commit(partitions):
            error = self._commit_once(partitions, deadline)
            if error is None:
                return
            if error.code() in _GONE:
                logger.warning("the group %s has moved on: %s", self._group_id, sentence(error))
                return
            if error.code() not in _PASSING or time.monotonic() > deadline:
                raise LogUnavailable(f"Kafka does not take the group's offsets: {sentence(error)}")
            self._take_in(self._client.serve(_SLICE))

    def _commit_once(self, partitions: set[int], deadline: float) -> KafkaError | None:
        """One attempt; why it failed. Raises LogUnavailable when nobody tells."""
        self._client.commit(self._progress.to_commit(partitions))

        def settled() -> bool:
            return self._client.commit_error is not None or not self._progress.to_commit(partitions)

        self._serve_until(settled, deadline, "commit")
        return self._client.commit_error

    def _serve_until(self, condition: Callable[[], bool], deadline: float, what: str) -> None:
        """Let the client work until the condition holds. Raises LogUnavailable at the deadline."""
        while not condition():
            if self._closing.is_set() or time.monotonic() > deadline:
                raise LogUnavailable(
                    f"the group {self._group_id} could not {what} on Kafka in time"
                )
            self._take_in(self._client.serve(_SLICE))

    def _go_back(self, offsets: Mapping[int, int]) -> None:
        """Durably first: after a crash in between the records are read again all the same."""
        self._client.commit(offsets)
        deadline = time.monotonic() + _COMMIT_SECONDS
        self._serve_until(lambda: not self._client.commit_pending, deadline, "rewind")
        error = self._client.commit_error
        if error is not None:
            raise LogUnavailable(f"Kafka does not take the group's offsets: {sentence(error)}")
        kept = {each: offsets[each] for each in self._progress.assigned if each in offsets}
        self._progress.rewind(kept)
        self._drop(kept)
        self._client.start_at(kept)

    def _drop(self, partitions: Mapping[int, int] | Sequence[int]) -> None:
        kept = [each for each in self._waiting if each.position.partition not in partitions]
        self._waiting = deque(kept)

    def _assigned(self, starts: dict[int, int | None]) -> None:
        self._progress.assign(starts)

    def _revoked(self, partitions: list[int]) -> dict[int, int]:
        # Only another thread's commit can be waited for.
        if threading.current_thread() is self._keeper and not self._closing.is_set():
            self._progress.wait_finished(partitions, self._membership.handover)
        offsets = self._progress.to_commit(partitions)
        self._lost(partitions)
        return offsets

    def _lost(self, partitions: list[int]) -> None:
        self._progress.revoke(partitions)
        self._drop(partitions)

    def _keep(self) -> None:
        """Stay in the group while nobody polls."""
        idle_after = self._membership.idle_after
        while not self._closing.wait(idle_after / 4):
            if time.monotonic() - self._polled_at < idle_after:
                continue
            with self._lock:
                if self._closing.is_set() or time.monotonic() - self._polled_at < idle_after:
                    continue
                self._client.pause()
                self._take_in(self._client.serve(0))


def _record(message: Message) -> Record:
    """A message that something else wrote has no header of ours: its reader finds it broken."""
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    headers: dict[str, Any] = dict(message.headers() or {})
    return Record(Position(partition, offset), headers.get(HEADER) or b"", message.value() or b"")


def _bytes(record: Record) -> int:
    return len(record.headers) + len(record.payload)


def _size(records: deque[Record]) -> int:
    return sum(map(_bytes, records))
