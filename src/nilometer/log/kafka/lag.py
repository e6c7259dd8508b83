"""How much the topic holds and how far each group is behind, as the cluster tells."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, Message, TopicPartition

from nilometer.log.append_times import AppendTimes
from nilometer.log.kafka.cluster import Cluster
from nilometer.log.kafka.connection import KafkaConnection, client_logger
from nilometer.log.port import Lag

_PEEK_EVERY = 10.0
_PEEK_SECONDS = 2.0
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
        self._oldest = _OldestTimes(connection, topic)

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
        committed = self._cluster.committed(group_id, self._topic)
        positions = {
            partition: max(committed.get(partition, start), start)
            for partition, start in holdings.starts.items()
        }
        behind = {
            partition: position
            for partition, position in positions.items()
            if position < holdings.ends[partition]
        }
        records = sum(holdings.ends[partition] - at for partition, at in behind.items())
        return Lag(records, self._oldest_at(group_id, behind))

    def close(self) -> None:
        """Release the connection that looked at single records."""
        self._oldest.close()

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
            oldest = self._oldest.of(group_id, before)
            if oldest is None:
                return None
            times.append(oldest)
        return min(times, default=None)


class _OldestTimes:
    """Looks at the records that groups stand at, now and then: their time stamps.

    Between two looks a group's time is that of the look before, which is early and never late.
    """

    def __init__(self, connection: KafkaConnection, topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self._known: dict[str, tuple[float, int]] = {}
        self._client: Consumer | None = None

    def of(self, group_id: str, places: Mapping[int, int]) -> int | None:
        """The append time of the oldest of these records; None when it cannot be told."""
        known = self._known.get(group_id)
        if known is not None and time.monotonic() - known[0] < _PEEK_EVERY:
            return known[1]
        stamps = self._look(places)
        if len(stamps) < len(places):
            return known[1] if known else None
        oldest = min(stamps.values())
        self._known[group_id] = time.monotonic(), oldest
        return oldest

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _look(self, places: Mapping[int, int]) -> _Offsets:
        client = self._client = self._client or self._connect()
        client.assign([TopicPartition(self._topic, number, at) for number, at in places.items()])
        stamps: _Offsets = {}
        deadline = time.monotonic() + _PEEK_SECONDS
        while len(stamps) < len(places) and time.monotonic() < deadline:
            for message in client.consume(len(places), 0.1):
                self._note(message, stamps)
        client.unassign()
        return stamps

    @staticmethod
    def _note(message: Message, stamps: _Offsets) -> None:
        partition = message.partition()
        if message.error() is None and partition is not None:
            stamps.setdefault(partition, message.timestamp()[1] * 1000)

    def _connect(self) -> Consumer:
        options = {
            **self._connection.options(),
            "group.id": f"{self._topic}.looking",  # asked for by the library; nothing joins it
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "queued.max.messages.kbytes": 4096,
            "queued.min.messages": 1,
        }
        return Consumer(options, logger=client_logger)
