"""How far a group is behind is told for each partition too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from random import Random

from confluent_kafka import Producer

from nilometer.log.kafka.cluster import Cluster
from nilometer.log.kafka.connection import KafkaConnection
from nilometer.log.kafka.lag import LagReader
from nilometer.log.port import Lag, Log, LogState
from nilometer.observability import metrics
from nilometer.process import _note_lag
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


def test_the_age_of_a_long_backlog_is_found_at_the_first_look(kafka: KafkaService) -> None:
    topic, partitions = kafka.new_topic(), 8
    open_kafka_log(kafka.bootstrap, topic, partitions=partitions).close()
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    record = Random(1).randbytes(2000)
    for number in range(partitions * 1500):  # 3 MB in each: more than is fetched at once
        producer.produce(topic, record, partition=number % partitions)
    assert producer.flush(90) == 0
    connection = KafkaConnection(kafka.bootstrap)
    with closing(LagReader(Cluster(connection, timeout=30), connection, topic)) as reader:
        lag = reader.lag(f"{topic}.a", reader.holdings(partitions))
    assert lag.records == partitions * 1500
    assert lag.oldest_at is not None


def test_an_age_that_is_not_known_is_not_told_as_0() -> None:
    groups = {"backlog": Lag(10, None), "idle": Lag(0, None)}
    _note_lag(LogState(ready=True, reason="", depth=10, size=None, groups=groups), "t.")

    def told(group: str) -> float | None:
        return metrics.REGISTRY.get_sample_value("nilometer_log_lag_seconds", {"group": group})

    seconds = told("t.backlog")
    assert seconds is not None
    assert math.isnan(seconds)
    assert told("t.idle") == 0
