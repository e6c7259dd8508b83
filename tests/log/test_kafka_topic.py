"""The topic that a log is given, or makes."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from nilometer.errors import ConfigurationError
from nilometer.log.kafka import (
    Cluster,
    KafkaConnection,
    KafkaLog,
    TopicFacts,
    TopicPlan,
    describe_topic,
    objections,
)
from nilometer.log.kafka.topic import open_topic
from nilometer.log.port import LogUnavailable
from tests.log.kafka_logs import open_kafka_log
from tests.log.logs import envelope, numbers, read_all
from tests.services import KafkaService


@pytest.fixture
def cluster(kafka: KafkaService) -> Cluster:
    return Cluster(KafkaConnection(kafka.bootstrap), timeout=10)


def test_a_topic_is_created_with_what_the_promises_need(
    kafka: KafkaService, cluster: Cluster
) -> None:
    topic = kafka.new_topic()
    assert describe_topic(cluster, topic) is None
    open_kafka_log(kafka.bootstrap, topic, partitions=7, plan={"retention_hours": 48}).close()
    facts = describe_topic(cluster, topic)
    assert facts == TopicFacts(
        name=topic,
        partitions=7,
        replicas=1,
        in_sync=1,
        most_in_sync=1,
        leaderless=0,
        min_insync_replicas=1,
        max_message_bytes=32 * 1024 * 1024,
        retention_seconds=48 * 3600,
        cleanup_policy="delete",
        timestamp_type="LogAppendTime",
        unclean_election=False,
    )


def test_a_topic_that_is_there_is_taken_as_it_is(kafka: KafkaService) -> None:
    topic = kafka.new_topic()
    open_kafka_log(kafka.bootstrap, topic, partitions=2).close()
    with contextlib.closing(open_kafka_log(kafka.bootstrap, topic, partitions=9)) as log:
        assert log.facts.partitions == 2
        log.append_blocking(envelope(1))


def test_a_new_topic_that_one_broker_does_not_know_of_yet_is_waited_for(
    kafka: KafkaService, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process makes it at this moment: one broker lists it, the next has never heard."""
    topic = kafka.new_topic()
    open_kafka_log(kafka.bootstrap, topic, partitions=2).close()
    known, asked = cluster.topic_config, list[str]()

    def late(name: str) -> dict[str, str]:
        asked.append(name)
        if len(asked) < 3:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        return known(name)

    monkeypatch.setattr(cluster, "topic_config", late)
    plan = TopicPlan(topic, partitions=2, allow_single_replica=True)
    assert open_topic(cluster, plan).partitions == 2


def test_the_records_of_one_sequence_are_in_one_partition_whoever_appends(
    kafka: KafkaService,
) -> None:
    topic = kafka.new_topic()
    partitions: dict[str, set[int]] = {f"event {number}": set() for number in range(8)}
    for _ in range(2):
        with contextlib.closing(open_kafka_log(kafka.bootstrap, topic, partitions=8)) as log:
            for sequence, found in partitions.items():
                record = replace(envelope(1), sequence=sequence)
                found.add(log.append_blocking(record).partition)
    assert all(len(found) == 1 for found in partitions.values())
    assert len(set.union(*partitions.values())) > 1


def test_a_cluster_with_too_few_brokers_is_refused_with_what_to_do_and_no_topic_made(
    kafka: KafkaService, cluster: Cluster
) -> None:
    topic = kafka.new_topic()
    with pytest.raises(ConfigurationError, match="has 1 of the 3 brokers") as refused:
        KafkaLog(KafkaConnection(kafka.bootstrap), TopicPlan(topic))
    assert "NILOMETER_KAFKA_ALLOW_SINGLE_REPLICA=true" in refused.value.detail
    assert describe_topic(cluster, topic) is None


def test_a_topic_that_one_broker_alone_has_is_refused_with_what_to_do(kafka: KafkaService) -> None:
    topic = kafka.new_topic()
    open_kafka_log(kafka.bootstrap, topic).close()
    with pytest.raises(ConfigurationError, match=r"replicas: 1, min\.insync\.replicas: 1") as error:
        KafkaLog(KafkaConnection(kafka.bootstrap), TopicPlan(topic))
    assert "NILOMETER_KAFKA_ALLOW_SINGLE_REPLICA=true" in error.value.detail


def test_a_topic_with_too_few_replicas_in_sync_takes_nothing_and_says_so(
    kafka: KafkaService, cluster: Cluster
) -> None:
    topic = kafka.new_topic()
    config = {"min.insync.replicas": "2"}
    cluster.create_topic(topic, partitions=1, replicas=1, config=config)
    with pytest.raises(LogUnavailable, match="too few replicas in sync: 1 of 2"):
        open_kafka_log(kafka.bootstrap, topic)


def test_a_topic_for_larger_messages_than_the_library_sends_is_taken(
    kafka: KafkaService, cluster: Cluster
) -> None:
    topic = kafka.new_topic()
    config = {"max.message.bytes": str(2**31 - 1)}
    cluster.create_topic(topic, partitions=1, replicas=1, config=config)
    with contextlib.closing(open_kafka_log(kafka.bootstrap, topic)) as log:
        assert log.facts.max_message_bytes == 1_000_000_000
        log.append_blocking(envelope(1))
        assert numbers(read_all(log.consumer("a"), 1)) == [1]


def test_a_compacted_topic_is_refused(kafka: KafkaService, cluster: Cluster) -> None:
    topic = kafka.new_topic()
    config = {"cleanup.policy": "compact,delete"}
    cluster.create_topic(topic, partitions=1, replicas=1, config=config)
    with pytest.raises(ConfigurationError, match="compacted"):
        open_kafka_log(kafka.bootstrap, topic)


def test_a_name_that_is_none_is_refused_by_the_cluster(kafka: KafkaService) -> None:
    with pytest.raises(ConfigurationError, match="refuses the topic not a name"):
        open_kafka_log(kafka.bootstrap, "not a name")


def test_a_cluster_that_is_not_there_is_told_in_time() -> None:
    with pytest.raises(LogUnavailable, match="does not"):
        open_kafka_log("127.0.0.1:1", "any", answer_timeout=1)


STRONG = TopicFacts(
    name="t",
    partitions=64,
    replicas=3,
    in_sync=3,
    most_in_sync=3,
    leaderless=0,
    min_insync_replicas=2,
    max_message_bytes=1_000_000,
    retention_seconds=3600,
    cleanup_policy="delete",
    timestamp_type="LogAppendTime",
    unclean_election=False,
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"replicas": 2}, []),
        ({"min_insync_replicas": 1}, ["only one broker has"]),
        ({"replicas": 1}, ["only one broker has"]),
        ({"unclean_election": True}, ["without all records become the leader"]),
        ({"cleanup_policy": "compact"}, ["compacted"]),
    ],
)
def test_what_is_wrong_with_a_topic_is_said_in_sentences(
    changes: dict[str, Any], said: list[str]
) -> None:
    found = objections(replace(STRONG, **changes), TopicPlan("t"))
    assert len(found) == len(said)
    assert all(part in sentence for part, sentence in zip(said, found, strict=True))


def test_a_weak_topic_is_taken_where_that_is_said_but_a_compacted_one_never() -> None:
    plan = TopicPlan("t", allow_single_replica=True)
    weak = replace(STRONG, replicas=1, min_insync_replicas=1, unclean_election=True)
    assert objections(weak, plan) == []
    assert objections(replace(weak, cleanup_policy="compact"), plan)
