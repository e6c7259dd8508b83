"""Logs on Kafka, for the tests of this room."""

from __future__ import annotations

from typing import Any

from nilometer.log.kafka import KafkaConnection, KafkaLog, Membership, Sending, TopicPlan


def open_kafka_log(
    bootstrap: str,
    topic: str,
    *,
    partitions: int = 1,
    plan: dict[str, Any] | None = None,
    sending: Sending | None = None,
    membership: Membership | None = None,
    answer_timeout: float = 5,
) -> KafkaLog:
    """A log on a broker that has no second, whose state is soon up to date."""
    return KafkaLog(
        KafkaConnection(bootstrap),
        TopicPlan(topic, partitions=partitions, allow_single_replica=True, **(plan or {})),
        sending=sending,
        membership=membership or Membership(session_timeout=6),
        answer_timeout=answer_timeout,
        state_interval=0.1,
    )
