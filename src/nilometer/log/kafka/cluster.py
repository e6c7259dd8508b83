"""What is asked of the cluster beside sending and reading: topics, offsets, groups.

The one place that knows the library's admin client, whose annotations are incomplete.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka import (
    admin as untyped_admin,
)

from nilometer.log.kafka.connection import KafkaConnection, client_logger, error_of, sentence

_admin: Any = untyped_admin


@dataclass(frozen=True, slots=True)
class PartitionReplicas:
    """Brokers that hold a partition, those of them in sync, and whether one leads it."""

    replicas: int
    in_sync: int
    led: bool


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """How many consumers a group has, and what these credentials may do with it."""

    members: int
    operations: frozenset[str]


class Cluster:
    """Questions to the cluster, each answered within `timeout` seconds. Safe between threads.

    Every method raises KafkaException: no answer is `_TIMED_OUT`.
    """

    def __init__(self, connection: KafkaConnection, *, timeout: float) -> None:
        self._timeout = timeout
        self._trouble: KafkaError | None = None
        options = {**connection.options(), "error_cb": self._note}
        self._admin: Any = _admin.AdminClient(options, logger=client_logger)

    def brokers(self) -> int:
        """How many brokers there are."""
        return len(self._metadata(None).brokers)

    def partitions(self, topic: str) -> list[PartitionReplicas] | None:
        """The partitions of a topic, None when there is none of the name. Any broker tells."""
        found = self._metadata(topic).topics[topic]
        if found.error is not None:
            if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise KafkaException(found.error)
        return [
            PartitionReplicas(len(each.replicas), len(each.isrs), each.leader >= 0)
            for each in found.partitions.values()
        ]

    def topic_config(self, topic: str) -> dict[str, str]:
        """The settings in effect for a topic. Asked of one certain broker: not for asking often."""
        resource = _admin.ConfigResource(_admin.ResourceType.TOPIC, topic)
        answers = self._admin.describe_configs([resource], **self._within)
        return {name: entry.value for name, entry in self._answer(answers[resource]).items()}

    def create_topic(
        self, topic: str, *, partitions: int, replicas: int, config: Mapping[str, str]
    ) -> None:
        """Create a topic."""
        new = _admin.NewTopic(
            topic, num_partitions=partitions, replication_factor=replicas, config=dict(config)
        )
        answers = self._admin.create_topics([new], operation_timeout=self._timeout, **self._within)
        self._answer(answers[topic])

    def starts(self, topic: str, partitions: int) -> dict[int, int]:
        """The first offset of each partition."""
        return self._offsets(topic, partitions, _admin.OffsetSpec.earliest())

    def ends(self, topic: str, partitions: int) -> dict[int, int]:
        """The offset after the last record of each partition."""
        return self._offsets(topic, partitions, _admin.OffsetSpec.latest())

    def groups(self, prefix: str) -> list[str]:
        """The ids of the groups that begin so, of the brokers that answer. What has a further dot
        is another topic's, whose name begins like this one's. Asks all brokers, and so takes its
        whole time when one is away."""
        found = self._answer(self._admin.list_consumer_groups(**self._within)).valid
        ids = [each.group_id for each in found if each.group_id.startswith(prefix)]
        return sorted(each for each in ids if "." not in each.removeprefix(prefix))

    def operations(self, topic: str | None = None) -> frozenset[str]:
        """What these credentials may do with a topic, or with the cluster, by the names of Kafka's
        operations: READ, WRITE, CREATE, DESCRIBE_CONFIGS. All of them where nobody is refused."""
        if topic is None:
            found = self._admin.describe_cluster(include_authorized_operations=True, **self._within)
            return _names(self._answer(found).authorized_operations)
        found = self._admin.describe_topics(
            TopicCollection([topic]), include_authorized_operations=True, **self._within
        )
        return _names(self._answer(found[topic]).authorized_operations)

    def group(self, group_id: str) -> GroupFacts:
        """A group, which need not exist."""
        found = self._admin.describe_consumer_groups(
            [group_id], include_authorized_operations=True, **self._within
        )
        group = self._answer(found[group_id])
        return GroupFacts(len(group.members), _names(group.authorized_operations))

    def pass_on_log_lines(self) -> None:
        """Give the library's log lines to `logging`, and note its errors."""
        self._admin.poll(0)

    def _metadata(self, topic: str | None) -> Any:
        try:
            found = self._admin.list_topics(topic, timeout=self._timeout)
        except KafkaException as exception:
            if error_of(exception).code() in _UNANSWERED:
                raise self._unanswered() from exception
            raise
        self._trouble = None
        return found

    @property
    def _within(self) -> dict[str, float]:
        return {"request_timeout": self._timeout}

    def _offsets(self, topic: str, partitions: int, spec: Any) -> dict[int, int]:
        asked = {TopicPartition(topic, number): spec for number in range(partitions)}
        answers = self._admin.list_offsets(asked, **self._within)
        return {place.partition: self._answer(each).offset for place, each in answers.items()}

    def _answer(self, answer: Future[Any]) -> Any:
        try:
            found = answer.result(self._timeout + 1)
        except TimeoutError:
            raise self._unanswered() from None
        except KafkaException as exception:
            if error_of(exception).code() in _UNANSWERED:
                raise self._unanswered() from exception
            raise
        self._trouble = None
        return found

    def _unanswered(self) -> KafkaException:
        """No answer, and why, if the client has found that out meanwhile: a wrong password, say."""
        self.pass_on_log_lines()
        why = "the cluster does not answer"
        if self._trouble is not None:
            why += f" ({sentence(self._trouble)})"
        return KafkaException(KafkaError(KafkaError._TIMED_OUT, why))  # noqa: SLF001

    def _note(self, error: KafkaError) -> None:
        # That all brokers are down says less than why.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self._trouble = error


def _names(operations: Any) -> frozenset[str]:
    return frozenset(each.name for each in operations or ())


_UNANSWERED = frozenset({KafkaError._TIMED_OUT, KafkaError._TRANSPORT})  # noqa: SLF001
