"""How much the topic holds and how far each group is behind, as the cluster tells."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from nilometer.log.append_times import AppendTimes
from nilometer.log.kafka.cluster import Cluster
from nilometer.log.kafka.connection import KafkaConnection, client_logger
from nilometer.log.port import Lag

_PEEK_EVERY = 10.0
_PEEK_SECONDS = 2.0
_ASK_SECONDS = 5.0
_STEP = 2_000_000  # microseconds
_TIMES_PER_PARTITION = 512

_Offsets = dict[int, int]


@dataclass(frozen=True, slots=True)
class Holdings:
    """The first offset of each partition and the one after the last."""

    starts: Mapping[int, int]
    ends: Mapping[int, int]

    @property
    def depth(self) -> int:
        """Records kept."""
        return sum(end - self.starts[partition] for partition, end in self.ends.items())


class LagReader:
    """Asks the cluster, and remembers when the topic was how long. For one thread.

    Append times are those of the moments at which this reader looked, a little early; of what was
    appended before it began, the time stamp of the record itself.
    """

    def __init__(self, cluster: Cluster, connection: KafkaConnection, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._times: dict[int, AppendTimes] = {}
        self._connection = connection
        self._views: dict[str, _GroupView] = {}

    def holdings(self, partitions: int) -> Holdings:
        """What the topic holds. Raises KafkaException."""
        # In this order: a start that moves in between is at most an end.
        starts = self._cluster.starts(self._topic, partitions)
        return Holdings(starts, self._cluster.ends(self._topic, partitions))

    def remember(self, holdings: Holdings, at: int) -> None:
        """At this time (microseconds) or later everything after `ends` was appended."""
        for partition, end in holdings.ends.items():
            times = self._times.setdefault(
                partition, AppendTimes(step=_STEP, max_entries=_TIMES_PER_PARTITION)
            )
            times.add(end, at)

    def lag(self, group_id: str, holdings: Holdings) -> Lag:
        """How far a group is behind; one that has committed nothing begins at the first record.
        Raises KafkaException."""
        committed = self._view(group_id).committed(holdings.starts)
        positions = {
            partition: max(committed.get(partition, start), start)
            for partition, start in holdings.starts.items()
        }
        behind = {
            partition: position
            for partition, position in positions.items()
            if position < holdings.ends[partition]
        }
        waiting = {partition: holdings.ends[partition] - at for partition, at in behind.items()}
        return Lag(sum(waiting.values()), self._oldest_at(group_id, behind), waiting)

    def close(self) -> None:
        """Release the connections."""
        for view in self._views.values():
            view.close()

    def _view(self, group_id: str) -> _GroupView:
        if group_id not in self._views:
            self._views[group_id] = _GroupView(self._connection, self._topic, group_id)
        return self._views[group_id]

    def _oldest_at(self, group_id: str, behind: Mapping[int, int]) -> int | None:
        times: list[int] = []
        before: _Offsets = {}  # appended before this reader began
        for partition, offset in behind.items():
            at = self._times[partition].at(offset) if partition in self._times else None
            if at is None:
                before[partition] = offset
            else:
                times.append(at)
        if before:
            oldest = self._view(group_id).oldest_at(before)
            if oldest is None:
                return None
            times.append(oldest)
        return min(times, default=None)


class _GroupView:
    """Looks at one group without joining it.

    By a consumer's client: the admin client of librdkafka 2.16 ends the process when it asks for a
    group's offsets while the group's coordinator changes (seen, in `rd_kafka_handle_OffsetFetch`).
    """

    def __init__(self, connection: KafkaConnection, topic: str, group_id: str) -> None:
        self._topic = topic
        self._known: tuple[float, int] | None = None
        options = {
            **connection.options(),
            "group.id": group_id,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "queued.max.messages.kbytes": 4096,
            "queued.min.messages": 1,
            # For so long a partition is not fetched when it finds the queue full of another's.
            "fetch.queue.backoff.ms": 50,
        }
        self._client = Consumer(options, logger=client_logger)

    def committed(self, partitions: Iterable[int]) -> _Offsets:
        """The offsets that the group has committed. Raises KafkaException."""
        asked = [TopicPartition(self._topic, number) for number in partitions]
        found = self._client.committed(asked, timeout=_ASK_SECONDS)
        failed = next((each.error for each in found if each.error), None)
        if failed is not None:
            raise KafkaException(failed)
        return {each.partition: each.offset for each in found if each.offset >= 0}

    def oldest_at(self, places: Mapping[int, int]) -> int | None:
        """The append time of the oldest of these records, by its time stamp; None when it cannot
        be told. Looked at now and then: in between, the time of the look before, which is early
        and never late."""
        known = self._known
        if known is not None and time.monotonic() - known[0] < _PEEK_EVERY:
            return known[1]
        stamps = self._look(places)
        if len(stamps) < len(places):
            return known[1] if known else None
        oldest = min(stamps.values())
        self._known = time.monotonic(), oldest
        return oldest

    def close(self) -> None:
        self._client.close()

    def _look(self, places: Mapping[int, int]) -> _Offsets:
        client = self._client
        client.assign([TopicPartition(self._topic, number, at) for number, at in places.items()])
        stamps: _Offsets = {}
        deadline = time.monotonic() + _PEEK_SECONDS
        while len(stamps) < len(places) and time.monotonic() < deadline:
            for message in client.consume(len(places), 0.1):
                _note(message, stamps)
        client.unassign()
        return stamps


def _note(message: Message, stamps: _Offsets) -> None:
    partition = message.partition()
    if message.error() is None and partition is not None:
        stamps.setdefault(partition, message.timestamp()[1] * 1000)
