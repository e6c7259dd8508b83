"""The topic: created as the promises need it, and what a topic that exists lacks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException

from nilometer.errors import ConfigurationError
from nilometer.log.kafka.cluster import Cluster, PartitionReplicas
from nilometer.log.kafka.connection import error_of, sentence
from nilometer.log.port import LogUnavailable

_SAFE_REPLICAS = 2
# What a batch of one record takes beside the record: headers of the batch, the record and the
# envelope's, which are under 1 kB.
LARGEST_MESSAGE = 1_000_000_000
"""What librdkafka sends and takes at most, in bytes, whatever the topic would."""

_BATCH_OVERHEAD = 2048

_CREATION_SECONDS = 30.0
_LOOK_EVERY = 0.05


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """How a topic is created.

    - `partitions` bounds how many workers can share the work, for good: 64 of them map and insert
      some hundred thousand events a second, and 192 replicas are little to a cluster of three.
    - `min_insync_replicas` copies exist of each record that was acknowledged.
    - `allow_single_replica` takes a topic or a cluster with fewer than two, for trials.
    """

    name: str
    partitions: int = 64
    replication_factor: int = 3
    min_insync_replicas: int = 2
    retention_hours: float = 168
    max_message_bytes: int = 32 * 1024 * 1024
    allow_single_replica: bool = False

    @property
    def largest_record(self) -> int:
        """Bytes of headers and payload that fit into one message of the topic it creates."""
        return self.max_message_bytes - _BATCH_OVERHEAD

    def config(self, replicas: int) -> dict[str, str]:
        """The topic's own settings, which do not follow the cluster's defaults."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(round(self.retention_hours * 3_600_000)),
            "retention.bytes": "-1",
            "max.message.bytes": str(self.max_message_bytes),
            "min.insync.replicas": str(min(self.min_insync_replicas, replicas)),
            "unclean.leader.election.enable": "false",
            # By the broker's clock: a host whose clock is wrong must not have its records deleted
            # early, and a rewind needs times that grow.
            "message.timestamp.type": "LogAppendTime",
            "compression.type": "producer",
        }


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What a topic is at present. `replicas` and `in_sync` are those of its weakest partition,
    `most_in_sync` of its strongest, and `leaderless` the partitions without a leader."""

    name: str
    partitions: int
    replicas: int
    in_sync: int
    most_in_sync: int
    leaderless: int
    min_insync_replicas: int
    max_message_bytes: int
    retention_seconds: float | None
    cleanup_policy: str
    timestamp_type: str
    unclean_election: bool
    retention_bytes: int | None = None

    @property
    def largest_record(self) -> int:
        """Bytes of headers and payload that fit into one message."""
        return self.max_message_bytes - _BATCH_OVERHEAD


def describe_topic(cluster: Cluster, name: str) -> TopicFacts | None:
    """The facts of a topic, None when there is none.

    Raises LogUnavailable when the cluster does not answer, and ConfigurationError when it does not
    tell: a name that is none, a permission that is missing.
    """
    try:
        found = cluster.partitions(name)
        return None if found is None else _facts(name, found, cluster.topic_config(name))
    except KafkaException as exception:
        error = error_of(exception)
        # One broker knows of a new topic a moment before another.
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise _failure(name, error) from exception


def open_topic(cluster: Cluster, plan: TopicPlan) -> TopicFacts:
    """The topic of the plan, created if it is missing.

    Raises ConfigurationError when it or the cluster is too weak for the plan, and LogUnavailable
    when the cluster does not answer.
    """
    facts = describe_topic(cluster, plan.name) or _created(cluster, plan)
    found = objections(facts, plan)
    if found:
        raise ConfigurationError("; ".join(found))
    return facts


def objections(facts: TopicFacts, plan: TopicPlan) -> list[str]:
    """Why Nilometer does not run on this topic, a sentence each; empty when it does."""
    found: list[str] = []
    if "compact" in facts.cleanup_policy:
        found.append(
            f"the Kafka topic {facts.name} is compacted, which deletes records: set its "
            "cleanup.policy to delete"
        )
    if not plan.allow_single_replica:
        found += _weaknesses(facts)
    return found


def _weaknesses(facts: TopicFacts) -> list[str]:
    found: list[str] = []
    if min(facts.replicas, facts.min_insync_replicas) < _SAFE_REPLICAS:
        found.append(
            f"the Kafka topic {facts.name} acknowledges records that only one broker has "
            f"(replicas: {facts.replicas}, min.insync.replicas: {facts.min_insync_replicas}), so "
            "that its loss would lose them: raise both to 2 or more, or accept that with "
            "NILOMETER_KAFKA_ALLOW_SINGLE_REPLICA=true"
        )
    if facts.unclean_election:
        found.append(
            f"the Kafka topic {facts.name} lets a replica without all records become the leader: "
            "set its unclean.leader.election.enable to false"
        )
    return found


def _facts(name: str, found: Sequence[PartitionReplicas], config: Mapping[str, str]) -> TopicFacts:
    retention, size = int(config["retention.ms"]), int(config["retention.bytes"])
    return TopicFacts(
        name=name,
        partitions=len(found),
        replicas=min(each.replicas for each in found),
        in_sync=min(each.in_sync for each in found),
        most_in_sync=max(each.in_sync for each in found),
        leaderless=sum(not each.led for each in found),
        min_insync_replicas=int(config["min.insync.replicas"]),
        max_message_bytes=min(int(config["max.message.bytes"]), LARGEST_MESSAGE),
        retention_seconds=None if retention < 0 else retention / 1000,
        cleanup_policy=config["cleanup.policy"],
        timestamp_type=config["message.timestamp.type"],
        unclean_election=config["unclean.leader.election.enable"] == "true",
        retention_bytes=None if size < 0 else size,
    )


def _created(cluster: Cluster, plan: TopicPlan) -> TopicFacts:
    try:
        _create(cluster, plan)
    except KafkaException as exception:
        error = error_of(exception)
        # Another process may have been faster.
        if error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise _failure(plan.name, error) from exception
    deadline = time.monotonic() + _CREATION_SECONDS
    while (facts := describe_topic(cluster, plan.name)) is None or facts.leaderless:
        if time.monotonic() > deadline:
            raise LogUnavailable(f"the Kafka topic {plan.name} was created and cannot be used yet")
        time.sleep(_LOOK_EVERY)
    return facts


def _create(cluster: Cluster, plan: TopicPlan) -> None:
    replicas = replicas_of(plan, cluster.brokers())
    cluster.create_topic(
        plan.name, partitions=plan.partitions, replicas=replicas, config=plan.config(replicas)
    )


def replicas_of(plan: TopicPlan, brokers: int) -> int:
    """The copies of a new topic. Raises ConfigurationError when there are too few brokers."""
    if brokers >= plan.replication_factor:
        return plan.replication_factor
    if plan.allow_single_replica:
        return brokers
    raise ConfigurationError(
        f"the Kafka cluster has {brokers} of the {plan.replication_factor} brokers that each "
        "record is to be copied to: add brokers, lower NILOMETER_KAFKA_REPLICATION_FACTOR (2 at "
        "least), or, for trials, set NILOMETER_KAFKA_ALLOW_SINGLE_REPLICA=true"
    )


_REFUSALS = frozenset(
    {
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_CONFIG,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.POLICY_VIOLATION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)


def _failure(name: str, error: KafkaError) -> ConfigurationError | LogUnavailable:
    if error.code() in _REFUSALS:
        return ConfigurationError(f"Kafka refuses the topic {name}: {sentence(error)}")
    return LogUnavailable(f"Kafka does not tell about the topic {name}: {sentence(error)}")
