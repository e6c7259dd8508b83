"""One client of a consumer group: what librdkafka is told, and what it says of its partitions.

Its rules, found by trying: a client serves one call at a time, and a call from a second thread
waits without end behind one that polls; a rebalance is carried out only inside a poll; a commit is
answered only after a rebalance has ended; and a synchronous one repeats for as long as the broker
is away. So everything here is called under one lock, and commits are asynchronous, with a deadline.

And its `close`, which takes what is assigned back by callbacks: the answer to the second of two is
dropped when the group's thread ends just then (`rd_kafka_cgrp_op_serve`, 2.12 to 2.16; the like in
its issues 4041 and 4884), and who waits for it holds the interpreter's lock, so that the whole
process stands still for good. So everything is given back before it, as in ordinary work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from nilometer.log.kafka.connection import (
    KafkaConnection,
    client_logger,
    error_of,
    is_fatal,
    sentence,
)
from nilometer.log.port import LogUnavailable

logger = logging.getLogger(__name__)

_PREFETCH_KIB = 32 * 1024
_COMMITTED_SECONDS = 10.0
_GIVE_BACK_SECONDS = 8.0  # less than a reader's close waits
_SLICE = 0.02


@dataclass(frozen=True, slots=True)
class Membership:
    """How a consumer takes part in its group. Durations are seconds.

    - `session_timeout`: without a heartbeat for so long it is held for dead.
    - `handover`: how long a rebalance waits for the records in hand of the partitions that go.
    - `idle_after`: without a poll for so long the consumer keeps itself in the group.
    - `instance_id`: a name that stays over restarts (static membership), so that a restart within
      the session timeout moves no partition.
    """

    session_timeout: float = 20
    handover: float = 5
    idle_after: float = 2
    instance_id: str | None = None

    def options(self, group_id: str, largest_message: int) -> dict[str, Any]:
        """The options of the client."""
        options: dict[str, Any] = {
            "group.id": group_id,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": round(self.session_timeout * 1000),
            "heartbeat.interval.ms": min(3000, round(self.session_timeout * 1000 / 4)),
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "check.crcs": True,
            "socket.timeout.ms": 10_000,
            "queued.max.messages.kbytes": _PREFETCH_KIB,
            # The default, a second, would show in the time until an event can be read.
            "fetch.queue.backoff.ms": 50,
            "fetch.max.bytes": max(16 * 1024 * 1024, largest_message),
            "message.max.bytes": largest_message,
            "receive.message.max.bytes": max(100_000_000, 2 * largest_message),
        }
        if self.instance_id is not None:
            options["group.instance.id"] = self.instance_id
        return options


class GroupClient:
    """A client that has joined a group. Every method is called under the caller's lock.

    `refusal` is why nothing is handed out, if that does not pass by itself. `on_assign` gets the
    partitions that come, with the group's committed offsets (None where there is none);
    `on_revoke` those that go, and returns the offsets to commit of them; `on_lost` those that are
    another's already; `on_commit` the offsets that the broker has now. All are called within
    `serve`, `consume` and `close`, and none within librdkafka's own close.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        options: Mapping[str, Any],
        topic: str,
        *,
        on_assign: Callable[[dict[int, int | None]], None],
        on_revoke: Callable[[list[int]], dict[int, int]],
        on_lost: Callable[[list[int]], None],
        on_commit: Callable[[dict[int, int]], None],
    ) -> None:
        self.joined = False
        self.refusal: KafkaError | None = None
        self.commit_pending = False
        self.commit_error: KafkaError | None = None
        self._topic = topic
        self._paused = False
        self._leaving = False
        self._stays_known = "group.instance.id" in options
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        self._on_lost = on_lost
        self._on_commit = on_commit
        self._client = Consumer(
            {**connection.options(), **options, "on_commit": self._committed},
            logger=client_logger,
        )
        self._client.subscribe(
            [topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def consume(self, count: int, timeout: float) -> list[Message]:
        """Up to `count` messages, waiting up to `timeout` seconds until there are so many."""
        return self._sorted(self._client.consume(count, timeout))

    def serve(self, timeout: float) -> list[Message]:
        """Let rebalances and commits go on; a message that comes nevertheless."""
        message = self._client.poll(timeout)
        return [] if message is None else self._sorted([message])

    def pause(self) -> None:
        """Fetch nothing more, and forget what was fetched ahead: behind it a rebalance waits."""
        if not self._paused:
            self._paused = True
            self._client.pause(self._client.assignment())

    def resume(self) -> None:
        """Fetch again."""
        if self._paused:
            self._client.resume(self._client.assignment())
            self._paused = False

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Send a commit; `on_commit`, or `commit_error`, tells how it went."""
        self.commit_error = None
        self.commit_pending = True
        try:
            self._client.commit(offsets=self._places(offsets), asynchronous=True)
        except KafkaException as exception:
            self.commit_error = error_of(exception)
            self.commit_pending = False

    def offsets_since(
        self, partitions: Sequence[int], since: int, timeout: float
    ) -> dict[int, int]:
        """The first offset of each partition that was appended at or after `since` (microseconds),
        where there is one. Raises LogUnavailable."""
        # Kafka counts milliseconds: rounded down, so that none is left out.
        asked = self._places(dict.fromkeys(partitions, since // 1000))
        try:
            found = self._client.offsets_for_times(asked, timeout=timeout)
        except KafkaException as exception:
            raise LogUnavailable(
                f"Kafka does not tell which records are that old: {sentence(error_of(exception))}"
            ) from exception
        return {each.partition: each.offset for each in found if each.offset >= 0}

    def start_at(self, offsets: Mapping[int, int]) -> None:
        """Read on from these offsets."""
        places = self._places(offsets)
        self._client.incremental_unassign(places)
        self._client.incremental_assign(places)
        if self._paused:
            self._client.pause(places)

    def close(self) -> None:
        """Give the partitions back and leave the group. With an instance id only commit what is
        finished: the group keeps the partitions for a session timeout. So it does where the group
        does not come to rest in time."""
        self._leaving = True
        left = False
        try:
            left = self._give_back(time.monotonic() + _GIVE_BACK_SECONDS)
        except KafkaException as exception:
            logger.warning("leaving a group: %s", sentence(error_of(exception)))
        finally:
            if left:
                self._client.close()
            else:
                del self._client  # ends it without those callbacks, and without a word to the group

    def _give_back(self, deadline: float) -> bool:
        """Whether the group was left, and the library's close finds nothing that is assigned."""
        self.pause()
        self._serve_waiting(deadline)
        if self._stays_known:  # to unsubscribe would have the group give its partitions to others
            self._commit_finished(self._client.assignment())
        else:
            self._client.unsubscribe()  # which is put off while the group rebalances
        self._serve_waiting(deadline)
        while (waits := self.commit_pending or self._is_member()) and time.monotonic() < deadline:
            self._client.poll(_SLICE)
        return not self._stays_known and not waits

    def _is_member(self) -> bool:
        """Not after an unsubscribe that was carried out: then it has no id any more."""
        return not self._stays_known and bool(self._client.memberid())

    def _serve_waiting(self, deadline: float) -> None:
        """Every rebalance that librdkafka has told of so far."""
        while self._client.poll(0) is not None and time.monotonic() < deadline:
            pass

    def _places(self, offsets: Mapping[int, int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, number, at) for number, at in offsets.items()]

    def _assigned(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self.joined = True
        if not partitions:
            return
        if self._leaving:  # a client that is being closed gets no answers any more
            client.incremental_assign(partitions)
            return
        try:
            found = client.committed(partitions, timeout=_COMMITTED_SECONDS)
        except KafkaException as exception:
            logger.warning("committed offsets: %s", sentence(error_of(exception)))
            found = []
        if not found or any(each.error for each in found):
            # The client asks again by itself; only a gap could then go unseen.
            self._on_assign({each.partition: None for each in partitions})
            client.incremental_assign(partitions)
        else:
            self._start(client, found)
        if self._paused:
            client.pause(partitions)

    def _start(self, client: Consumer, found: list[TopicPartition]) -> None:
        known = {each.partition: each.offset if each.offset >= 0 else None for each in found}
        self._on_assign(known)
        beginnings = {
            partition: OFFSET_BEGINNING if offset is None else offset
            for partition, offset in known.items()
        }
        client.incremental_assign(self._places(beginnings))

    def _revoked(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit_finished(partitions)
        self._let_go(client, partitions)

    def _commit_finished(self, partitions: list[TopicPartition]) -> None:
        offsets = self._on_revoke([each.partition for each in partitions])
        if offsets:
            self.commit(offsets)

    def _lost(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self._on_lost([each.partition for each in partitions])
        self._let_go(client, partitions)

    def _let_go(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        """A partition that goes while it is paused would still be so when it comes back, as the
        library remembers (its issue 1849), and a `resume` before that would not reach it."""
        if self._paused:
            client.resume(partitions)
        client.incremental_unassign(partitions)

    def _committed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        failed = error or next((each.error for each in partitions if each.error), None)
        if failed is not None:
            self.commit_error = failed
        self.commit_pending = False
        self._on_commit({each.partition: each.offset for each in partitions if not each.error})

    def _sorted(self, messages: list[Message]) -> list[Message]:
        """Those that are records; the others tell what hinders the client."""
        records: list[Message] = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
            elif is_fatal(error) or error.code() in _LASTING:
                self.refusal = error
            else:
                logger.warning("reading from Kafka: %s", sentence(error))
        return records


_LASTING = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
