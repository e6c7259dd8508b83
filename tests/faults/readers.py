"""The workers' group, as the broker knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, TopicPartition


class Readers:
    """Asks about the group, and puts it back, without being in it."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        topic = settings["KAFKA_TOPIC"]
        partitions = settings["KAFKA_PARTITIONS"]
        self._beginnings = [TopicPartition(topic, number, 0) for number in range(partitions)]
        self._client = Consumer(
            {
                "bootstrap.servers": settings["KAFKA_BOOTSTRAP_SERVERS"],
                "group.id": f"{topic}.store",
                "enable.auto.commit": False,
            }
        )

    def records(self) -> int:
        """All that were ever appended."""
        return sum(self._end(each) for each in self._beginnings)

    def lag(self) -> int:
        """Those that were appended and not committed."""
        committed = self._client.committed(self._beginnings, timeout=20)
        return sum(self._end(each) - max(0, each.offset) for each in committed)

    def start_over(self) -> None:
        """Have everything delivered again. Nobody may be in the group."""
        self._client.commit(offsets=self._beginnings, asynchronous=False)

    def close(self) -> None:
        self._client.close()

    def _end(self, place: TopicPartition) -> int:
        return self._client.get_watermark_offsets(place, timeout=20)[1]
