"""The Kafka cluster and its topic: what acknowledgements rest on, and the readers' lag."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from nilometer.doctor import clocks
from nilometer.doctor.configuration import SETTINGS
from nilometer.doctor.finding import (
    Check,
    Verdict,
    failed,
    in_units,
    ok,
    sentence,
    skipped,
    together,
    warning,
)
from nilometer.errors import ConfigurationError
from nilometer.foundation import STORE_GROUP
from nilometer.incidents.events import REGISTRY
from nilometer.log.kafka.cluster import Cluster
from nilometer.log.kafka.configured import connection, exceptions_plan, plan
from nilometer.log.kafka.connection import error_of
from nilometer.log.kafka.connection import sentence as kafka_sentence
from nilometer.log.kafka.lag import Holdings, LagReader
from nilometer.log.kafka.topic import (
    TopicFacts,
    TopicPlan,
    describe_topic,
    objections,
    replicas_of,
)
from nilometer.log.port import Lag, LogUnavailable
from nilometer.settings import CAPTURES, WORKS, Role, Settings

CLUSTER, TOPIC, EXCEPTIONS = "kafka.cluster", "kafka.topic", "kafka.exceptions"

_HOUR = 3600
_LEAST_RETENTION = 24 * _HOUR
# What a record has beside the body of a request: the envelope, and what a door adds.
_RECORD_OVERHEAD = 64 * 1024
_REMEDY = (
    "See that the brokers of NILOMETER_KAFKA_BOOTSTRAP_SERVERS run, are reachable from here under "
    "the names that they advertise, and take the credentials of NILOMETER_KAFKA_*."
)
# Said while a leader or a coordinator moves, or comes to be with a new topic or group.
_MOMENTARY = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
_AGAIN_SECONDS = 0.2
# What reads the log of exceptions, each with a group of its own.
_STAGES = sorted({stage for kind in REGISTRY.values() for stage in kind.consumers})
_Answer = TypeVar("_Answer")


class Kafka:
    """The log of the distributed profile; every role needs it."""

    def __init__(self, settings: Settings, seconds: float) -> None:
        self._settings = settings
        # Less than a check has, so that the reason is told and not only that there was no answer.
        self._seconds = max(0.5, seconds - 1)
        self._plan = plan(settings)
        self._group = f"{self._plan.name}.{STORE_GROUP}"
        self._cluster: Cluster | None = None
        self._brokers = 0
        self._facts: TopicFacts | None = None
        self._exceptions: TopicFacts | None = None

    def checks(self) -> list[Check]:
        """The checks of this part."""
        first = () if self._settings.kafka_bootstrap_servers else (SETTINGS,)
        about = (CLUSTER, TOPIC)
        events = Check(EXCEPTIONS, self.exceptions, needs=(CLUSTER,), remedy=_REMEDY)
        stages = Check(
            "kafka.exceptions_permissions",
            self.exceptions_permissions,
            needs=(CLUSTER, EXCEPTIONS),
            remedy=_REMEDY,
        )
        return [
            Check(CLUSTER, self.cluster, needs=first, remedy=_REMEDY),
            Check(TOPIC, self.topic, needs=(CLUSTER,), remedy=_REMEDY),
            *([events] if self._settings.role is not Role.CAPTURE else []),
            Check("kafka.replicas", self.replicas, needs=about, remedy=_REMEDY),
            Check("kafka.limits", self.limits, needs=about, remedy=_REMEDY),
            Check("kafka.permissions", self.permissions, needs=about, remedy=_REMEDY),
            *([stages] if self._settings.role in WORKS else []),
            Check("kafka.lag", self.lag, needs=about, remedy=_REMEDY),
        ]

    def cluster(self) -> Verdict:
        """Brokers answer."""
        self._brokers = self._asked(Cluster.brokers)
        many = "broker answers" if self._brokers == 1 else "brokers answer"
        return ok(f"{self._brokers} {many} at {self._settings.kafka_bootstrap_servers}.")

    def topic(self) -> Verdict:
        """The topic is there, and is such that Nilometer starts on it."""
        self._facts = self._asked(lambda cluster: describe_topic(cluster, self._plan.name))
        moves = "; to move an embedded server here, start none: `nilometer migrate-data` makes it"
        return self._judged(self._plan, self._facts, moves)

    def exceptions(self) -> Verdict:
        """The topic of what happens to exceptions, too."""
        plan = exceptions_plan(self._settings)
        self._exceptions = self._asked(lambda cluster: describe_topic(cluster, plan.name))
        return self._judged(plan, self._exceptions)

    def _judged(self, plan: TopicPlan, facts: TopicFacts | None, otherwise: str = "") -> Verdict:
        if facts is None:
            return self._missing(plan, otherwise)
        unacceptable = objections(facts, plan)
        if unacceptable:
            # Each says what to do.
            return failed(" ".join(map(sentence, unacceptable)), "Change the topic as said.")
        admitted = objections(facts, replace(plan, allow_single_replica=False))
        if admitted:
            return warning(
                f"The topic {facts.name} has too few copies of a record (replicas: "
                f"{facts.replicas}, min.insync.replicas: {facts.min_insync_replicas}): the loss of "
                "one disk loses what was acknowledged, as "
                "NILOMETER_KAFKA_ALLOW_SINGLE_REPLICA admits.",
                "For more than a trial: three brokers, three copies, min.insync.replicas=2.",
            )
        return ok(
            f"The topic {facts.name} has {facts.partitions} partitions, {facts.replicas} copies of "
            f"each record, and acknowledges with {facts.min_insync_replicas}."
        )

    def _missing(self, plan: TopicPlan, otherwise: str) -> Verdict:
        try:
            copies = replicas_of(plan, self._brokers)
        except ConfigurationError as error:
            return failed(
                f"There is no topic {plan.name}, and none can be made: {error.detail}.",
                "Change the cluster or the settings as said.",
            )
        if "CREATE" not in self._asked(Cluster.operations):
            return warning(
                f"There is no topic {plan.name}, and these credentials may not create every topic.",
                f"Create it (docs/log.md has its settings), or allow Create on {plan.name}.",
            )
        return warning(
            f"There is no topic {plan.name} yet; the first process makes it (partitions: "
            f"{plan.partitions}, copies of each record: {copies}).",
            f"Start one process, or create the topic as docs/log.md says{otherwise}.",
        )

    def replicas(self) -> Verdict:
        """What of the topic works at this moment."""
        facts = self._facts
        if facts is None:
            return _no_topic()
        verdicts: list[Verdict] = []
        if facts.leaderless:
            verdicts.append(
                failed(
                    f"{facts.leaderless} of {facts.partitions} partitions have no leader.",
                    "Bring back the brokers that hold them.",
                )
            )
        elif facts.in_sync < min(facts.min_insync_replicas, facts.replicas):
            verdicts.append(
                failed(
                    f"Some partition has {facts.in_sync} replicas in sync and needs "
                    f"{facts.min_insync_replicas}: it acknowledges nothing.",
                    "Bring back the brokers that hold the others.",
                )
            )
        elif facts.in_sync < facts.replicas:
            verdicts.append(
                warning(
                    f"Some partition has {facts.in_sync} of {facts.replicas} replicas in sync.",
                    "See which broker is away or slow.",
                )
            )
        if 1 < facts.replicas == facts.min_insync_replicas:
            verdicts.append(
                warning(
                    f"Every one of the {facts.replicas} copies must be in sync: the loss of one "
                    "broker stops every acknowledgement.",
                    "Have one copy more than min.insync.replicas.",
                )
            )
        return together(verdicts, "Every partition has a leader and all its replicas in sync.")

    def limits(self) -> Verdict:
        """The largest record fits, and records are kept long enough."""
        facts = self._facts
        if facts is None:
            return _no_topic()
        verdicts = [self._size(facts), self._retention(facts), self._work(facts)]
        kept = facts.retention_seconds
        return together(
            verdicts,
            f"A record may have {in_units(facts.largest_record)}, and is kept "
            f"{'for ever' if kept is None else f'{kept / _HOUR:,.0f} hours'}.",
        )

    def _size(self, facts: TopicFacts) -> Verdict:
        largest = largest_record(self._settings)
        if self._settings.role in CAPTURES and facts.largest_record < largest:
            return warning(
                f"The topic takes records of {facts.largest_record:,} bytes, and a request may "
                f"make one of {largest:,}: larger ones are answered 413.",
                f"Set its max.message.bytes to {largest + 65536:,} or more, or lower "
                "NILOMETER_MAX_BATCH_BYTES and NILOMETER_MAX_OTLP_BYTES.",
            )
        return ok("")

    def _retention(self, facts: TopicFacts) -> Verdict:
        if facts.retention_bytes is not None:
            return warning(
                f"The topic deletes records above {facts.retention_bytes:,} bytes a partition, "
                "read or not.",
                "Set its retention.bytes to -1, and give the brokers the disk.",
            )
        if facts.retention_seconds is not None and facts.retention_seconds < _LEAST_RETENTION:
            return warning(
                f"Records are deleted after {facts.retention_seconds / _HOUR:,.1f} hours, read or "
                "not: a store that is away for longer loses events.",
                "Set the topic's retention.ms to days.",
            )
        return ok("")

    def _work(self, facts: TopicFacts) -> Verdict:
        if facts.timestamp_type != "LogAppendTime":
            return warning(
                "Records have the time of who sends them: a wrong clock gets them deleted early.",
                "Set the topic's message.timestamp.type to LogAppendTime.",
            )
        if facts.partitions < self._settings.kafka_partitions:
            return warning(
                f"At most {facts.partitions} workers can share the topic; "
                f"NILOMETER_KAFKA_PARTITIONS says {self._settings.kafka_partitions}.",
                "Lower the setting: partitions that are added to a topic in use move its keys, and "
                "two records of one event may then be read at once.",
            )
        return ok("")

    def permissions(self) -> Verdict:
        """What these credentials may do with the topic and the group."""
        return _no_topic() if self._facts is None else self._allowed(self._facts, (STORE_GROUP,))

    def exceptions_permissions(self) -> Verdict:
        """What they may do with the topic of exceptions and the groups of the stages."""
        if self._exceptions is None:
            return skipped(EXCEPTIONS, "There is no topic of exceptions yet.")
        return self._allowed(self._exceptions, _STAGES)

    def _allowed(self, topic: TopicFacts, groups: Iterable[str]) -> Verdict:
        on_topic = self._asked(lambda cluster: cluster.operations(topic.name))
        if not on_topic:  # who may do nothing at all would not have seen the topic
            return ok("The cluster does not tell what these credentials may do.")
        role = self._settings.role
        reads = {"READ"} if role in WORKS else set[str]()
        # Every role writes: workers and the API replay dead letters.
        needed = {"DESCRIBE", "DESCRIBE_CONFIGS", "WRITE"} | reads
        of_group = {"DESCRIBE"} | reads
        names_by_lack: dict[frozenset[str], list[str]] = {}
        for name in (f"{topic.name}.{group}" for group in groups):
            on_group = self._asked(partial(_group_operations, group_id=name))
            names_by_lack.setdefault(frozenset(of_group - on_group), []).append(name)
        verdicts = [
            _judged_rights("topic", [topic.name], needed - on_topic),
            *(_judged_rights("group", names, lack) for lack, names in names_by_lack.items()),
        ]
        return together(
            verdicts, f"These credentials may do what the role {role} does with topic and group."
        )

    def lag(self) -> Verdict:
        """How far the store's group is behind."""
        facts = self._facts
        if facts is None:
            return _no_topic()
        holdings, lag = self._asked(lambda cluster: self._measured(cluster, facts.partitions))
        members = self._asked(lambda cluster: cluster.group(self._group)).members
        readers = f"{members} worker{'' if members == 1 else 's'} read"
        found = (
            f"The group {self._group} is {lag.records:,} of {holdings.depth:,} records behind; "
            f"{readers}{'s' if members == 1 else ''}."
        )
        if lag.records and lag.oldest_at is None:
            found += " How long the oldest waits is not known."
        if lag.records and not members:
            return warning(found, "Start a process with the role worker.")
        endangered = self._endangered(facts, lag)
        return warning(found + endangered, "Start more workers.") if endangered else ok(found)

    def _measured(self, cluster: Cluster, partitions: int) -> tuple[Holdings, Lag]:
        with closing(LagReader(cluster, connection(self._settings), self._plan.name)) as reader:
            holdings = reader.holdings(partitions)
            return holdings, reader.lag(self._group, holdings)

    def _endangered(self, facts: TopicFacts, lag: Lag) -> str:
        if facts.retention_seconds is None or lag.oldest_at is None:
            return ""
        age = clocks.local() - lag.oldest_at / 1e6
        if age < facts.retention_seconds / 2:
            return ""
        return (
            f" The oldest waits for {age / _HOUR:,.1f} hours and is deleted unread after "
            f"{facts.retention_seconds / _HOUR:,.1f}."
        )

    def _asked(self, question: Callable[[Cluster], _Answer]) -> _Answer:
        """An answer of the cluster. Raises ConfigurationError and LogUnavailable, which say why."""
        if self._cluster is None:  # the first check asks alone, the others wait for it
            self._cluster = Cluster(connection(self._settings), timeout=self._seconds)
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                return question(self._cluster)
            except KafkaException as exception:
                error = error_of(exception)
                if error.code() not in _MOMENTARY or time.monotonic() > deadline:
                    raise LogUnavailable(kafka_sentence(error)) from exception
            time.sleep(_AGAIN_SECONDS)


def largest_record(settings: Settings) -> int:
    """Bytes of the largest record that the doors make of one request."""
    largest = max(
        settings.max_event_and_properties_bytes,
        settings.max_batch_bytes,
        settings.max_otlp_bytes,
        settings.max_otlp_grpc_bytes,
    )
    return largest + _RECORD_OVERHEAD


def _no_topic() -> Verdict:
    return skipped(TOPIC, "There is no topic yet.")


def _group_operations(cluster: Cluster, group_id: str) -> frozenset[str]:
    try:
        return cluster.group(group_id).operations
    except KafkaException as exception:
        if error_of(exception).code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return frozenset()
        raise


def _judged_rights(kind: str, names: Sequence[str], lacking: Set[str]) -> Verdict:
    if not lacking:
        return ok("")
    several = "s" if len(names) > 1 else ""
    return failed(
        f"These credentials lack {', '.join(sorted(lacking))} on the {kind}{several} "
        f"{', '.join(names)}.",
        " ".join(
            [
                "kafka-acls --add --allow-principal User:…",
                *(f"--{kind} {name}" for name in names),
                *(f"--operation {_acl(each)}" for each in sorted(lacking)),
            ]
        ),
    )


def _acl(operation: str) -> str:
    return "".join(word.capitalize() for word in operation.split("_"))
