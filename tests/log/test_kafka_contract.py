"""The port's contract, on Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nilometer.log.kafka import KafkaLog
from tests.log.contract import LogContract, OpenLog
from tests.log.kafka_logs import open_kafka_log
from tests.services import KafkaService


class TestKafkaLog(LogContract):
    """In one partition, so that all records have an order."""

    @pytest.fixture
    def open_log(self, kafka: KafkaService) -> Iterator[OpenLog]:
        topic = kafka.new_topic()
        opened: list[KafkaLog] = []

        def open_again() -> KafkaLog:
            opened.append(open_kafka_log(kafka.bootstrap, topic, partitions=self.partitions))
            return opened[-1]

        yield open_again
        for log in opened:
            log.close()


class TestKafkaLogOfManyPartitions(TestKafkaLog):
    partitions = 5
