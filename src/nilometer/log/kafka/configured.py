"""The Kafka log as the settings say."""

from __future__ import annotations

from dataclasses import replace

from pydantic import SecretStr

from nilometer.log.kafka.connection import KafkaConnection
from nilometer.log.kafka.log import KafkaLog
from nilometer.log.kafka.membership import Membership
from nilometer.log.kafka.producer import Sending
from nilometer.log.kafka.topic import TopicPlan
from nilometer.settings import Settings


def configured(settings: Settings) -> KafkaLog:
    """The log of the deployment. Raises ConfigurationError and LogUnavailable as KafkaLog does."""
    return _opened(settings, plan(settings))


def exceptions(settings: Settings) -> KafkaLog:
    """The log of what happens to incidents. Raises as `configured`."""
    return _opened(settings, exceptions_plan(settings))


def _opened(settings: Settings, topic: TopicPlan) -> KafkaLog:
    return KafkaLog(
        connection(settings),
        topic,
        sending=Sending(
            delivery_timeout=settings.kafka_delivery_timeout,
            compression=settings.kafka_compression,
            max_queued_bytes=settings.max_inflight_bytes,
        ),
        membership=Membership(
            session_timeout=settings.kafka_session_timeout,
            instance_id=settings.kafka_instance_id,
        ),
    )


def connection(settings: Settings) -> KafkaConnection:
    """How the cluster is reached."""
    return KafkaConnection(
        settings.kafka_bootstrap_servers or "",
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        sasl_username=settings.kafka_sasl_username,
        sasl_password=_secret(settings.kafka_sasl_password),
        tls_ca_file=settings.kafka_tls_ca_file,
        tls_certificate_file=settings.kafka_tls_certificate_file,
        tls_key_file=settings.kafka_tls_key_file,
        tls_key_password=_secret(settings.kafka_tls_key_password),
    )


def plan(settings: Settings) -> TopicPlan:
    """How the topic is created and what it must hold."""
    single = settings.kafka_allow_single_replica
    return TopicPlan(
        settings.kafka_topic,
        partitions=settings.kafka_partitions,
        replication_factor=settings.kafka_replication_factor,
        min_insync_replicas=settings.kafka_min_insync_replicas,
        retention_hours=settings.kafka_retention_hours,
        max_message_bytes=settings.kafka_max_message_bytes,
        allow_single_replica=single,
    )


def exceptions_plan(settings: Settings) -> TopicPlan:
    """How the topic of incidents is created: as the log's, under its own name."""
    return replace(plan(settings), name=settings.effective_exceptions_topic)


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None
