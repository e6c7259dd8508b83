"""How far a group is behind is told for each partition too."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from confluent_kafka import Producer

from nilometer.log.port import Log
from tests.log.kafka_logs import open_kafka_log
from tests.log.logs import envelope, eventually, read_all
from tests.services import KafkaService


def behind(log: Log) -> Mapping[int, int] | None:
    group = log.state().groups.get("a")
    return group and group.partitions


def test_the_partitions_that_are_behind_are_told_with_their_records(kafka: KafkaService) -> None:
    topic = kafka.new_topic()
    with closing(open_kafka_log(kafka.bootstrap, topic, partitions=4)) as log:
        consumer = log.consumer("a")
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        for number in (1, 1, 1, 3):
            producer.produce(topic, b"x", partition=number)
        assert producer.flush(30) == 0
        eventually(lambda: behind(log) == {1: 3, 3: 1})
        assert log.state().groups["a"].records == 4
        found = []
        while len(found) < 4:
            found += consumer.poll(max_records=10, max_bytes=1000, timeout=1)
        consumer.commit([each for each in found if each.position.partition == 1])
        eventually(lambda: behind(log) == {3: 1})


def test_the_groups_of_a_topic_whose_name_begins_the_same_are_not_counted(
    kafka: KafkaService,
) -> None:
    topic = kafka.new_topic()
    for name in (topic, f"{topic}.eu"):
        with closing(open_kafka_log(kafka.bootstrap, name)) as each:
            each.append_blocking(envelope(1))
            read_all(each.consumer("store"), 1)
    # The first state of a log has the groups that the cluster tells.
    with closing(open_kafka_log(kafka.bootstrap, topic)) as log:
        assert set(log.state().groups) == {"store"}
