"""What a broker with an authorizer lets these credentials do, seen without trying it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from tests.doctor.deployments import Findings, examined
from tests.private_servers import KafkaServer, private
from tests.running import wait_until
from tests.servers.server import free_port

PASSWORD = "correct-horse-battery"
TOPIC = "nilometer"


class AuthorizingKafka(KafkaServer):
    """A broker that asks its own listener for nothing, and another for a password and rights."""

    guarded_port: int

    def _properties(self) -> dict[str, str]:
        plain = super()._properties()
        for key, value in {
            "listeners": f"GUARDED://127.0.0.1:{self.guarded_port}",
            "advertised.listeners": f"GUARDED://localhost:{self.guarded_port}",
            "listener.security.protocol.map": "GUARDED:SASL_PLAINTEXT",
        }.items():
            plain[key] += f",{value}"
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        return plain | {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "listener.name.guarded.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.guarded.plain.sasl.jaas.config": (
                f'{module} required user_limited="{PASSWORD}" user_exact="{PASSWORD}";'
            ),
        }


@pytest.fixture(scope="module")
def broker() -> Iterator[AuthorizingKafka]:
    AuthorizingKafka.guarded_port = free_port()
    with private(AuthorizingKafka) as server:
        admin = AdminClient({"bootstrap.servers": server.address})
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(90)
        yield server


def allow(broker: AuthorizingKafka, kind: ResourceType, *operations: AclOperation) -> None:
    admin = AdminClient({"bootstrap.servers": broker.address})
    bindings = [
        AclBinding(
            kind,
            TOPIC,
            ResourcePatternType.PREFIXED,
            "User:limited",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for operation in operations
    ]
    for each in admin.create_acls(bindings).values():
        each.result(90)


def allow_exactly(
    broker: AuthorizingKafka, kind: ResourceType, name: str, *operations: AclOperation
) -> None:
    """As `allow`, for the user `exact` and one name, not all that begin so."""
    admin = AdminClient({"bootstrap.servers": broker.address})
    bindings = [
        AclBinding(
            kind,
            name,
            ResourcePatternType.LITERAL,
            "User:exact",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for operation in operations
    ]
    for each in admin.create_acls(bindings).values():
        each.result(90)


def looked_at(
    broker: AuthorizingKafka, role: str, *, seconds: float = 10, **settings: Any
) -> Findings:
    return examined(
        "kafka",
        profile="distributed",
        role=role,
        seconds=seconds,
        kafka_bootstrap_servers=f"localhost:{broker.guarded_port}",
        **{
            "kafka_security_protocol": "sasl_plaintext",
            "kafka_sasl_mechanism": "PLAIN",
            "kafka_sasl_username": "limited",
            "kafka_sasl_password": PASSWORD,
            "kafka_allow_single_replica": True,
            **settings,
        },
    )


def test_rights_that_lack_are_named_for_each_role(broker: AuthorizingKafka) -> None:
    describing = (AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS)
    allow(broker, ResourceType.TOPIC, *describing)

    def told(role: str) -> tuple[str, str]:
        found = looked_at(broker, role)["kafka.permissions"]
        return found.outcome.value, found.found

    wait_until(lambda: "lack DESCRIBE on the group" in told("capture")[1], what="only the topic's")
    allow(broker, ResourceType.GROUP, AclOperation.DESCRIBE)
    # A controller's record of the new rights reaches the broker a moment later.
    wait_until(lambda: "on the group" not in told("capture")[1], what="the right to look")
    assert "lack WRITE on the topic nilometer." in told("capture")[1]
    assert "lack READ, WRITE on the topic nilometer. " in told("worker")[1]
    assert "lack READ on the group nilometer.store." in told("worker")[1]
    assert "--operation Write" in looked_at(broker, "api")["kafka.permissions"].remedy
    allow(broker, ResourceType.TOPIC, AclOperation.WRITE)
    wait_until(lambda: told("capture")[0] == "ok", what="the right to write")
    assert told("worker")[0] == "failed"
    allow(broker, ResourceType.TOPIC, AclOperation.READ)
    allow(broker, ResourceType.GROUP, AclOperation.READ)
    wait_until(lambda: told("worker")[0] == "ok", what="the right to read")
    assert looked_at(broker, "worker")["kafka.lag"].outcome == "ok"


@pytest.fixture(scope="module")
def strict(broker: AuthorizingKafka) -> str:
    """A topic with a record and that of its exceptions, which `exact` may look at."""
    topic, exceptions = "strict", "strict-exceptions"
    admin = AdminClient({"bootstrap.servers": broker.address})
    made = admin.create_topics([NewTopic(name, 1, 1) for name in (topic, exceptions)])
    for each in made.values():
        each.result(90)
    producer = Producer({"bootstrap.servers": broker.address})
    producer.produce(topic, b"x")
    assert producer.flush(90) == 0
    for name in (topic, exceptions):
        looking = AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS
        allow_exactly(broker, ResourceType.TOPIC, name, *looking)
    allow_exactly(broker, ResourceType.GROUP, "strict.store", AclOperation.DESCRIBE)
    return topic


def test_a_worker_needs_the_topic_of_exceptions_and_its_groups(
    broker: AuthorizingKafka, strict: str
) -> None:
    exceptions = f"{strict}-exceptions"
    groups = [
        f"{exceptions}.{stage}"
        for stage in ("feedback", "intake", "playbook", "policy", "tool", "triage")
    ]
    exact = {"kafka_topic": strict, "kafka_sasl_username": "exact"}

    def told(name: str) -> str:
        return looked_at(broker, "worker", **exact)[f"kafka.{name}"].found

    lacks = f"lack READ, WRITE on the topic {strict}."
    wait_until(lambda: lacks in told("permissions"), what="the right to look")
    found = looked_at(broker, "worker", **exact)["kafka.exceptions_permissions"]
    assert found.outcome == "failed"
    assert f"lack READ, WRITE on the topic {exceptions}." in found.found
    assert f"lack DESCRIBE, READ on the groups {', '.join(groups)}." in found.found
    for group in groups:
        assert f"--group {group} " in found.remedy
    for role in ("capture", "api"):
        assert "kafka.exceptions_permissions" not in looked_at(broker, role, **exact)

    # Whoever may not read the topic is not told how old its records are.
    assert "1 of 1 records behind" in told("lag")
    assert "How long the oldest waits is not known." in told("lag")

    both = AclOperation.READ, AclOperation.WRITE
    for name in (strict, exceptions):
        allow_exactly(broker, ResourceType.TOPIC, name, *both)
    for name in (f"{strict}.store", *groups):
        allow_exactly(broker, ResourceType.GROUP, name, AclOperation.READ)
    for check in ("permissions", "exceptions_permissions"):
        wait_until(lambda: "may do what the role" in told(check), what=check)  # noqa: B023
    assert "not known" not in told("lag")


def test_a_wrong_password_is_told_and_not_repeated(broker: AuthorizingKafka) -> None:
    found = looked_at(broker, "all", seconds=3, kafka_sasl_password="hidden-words")
    assert "uthentication failed" in found["kafka.cluster"].found
    assert found["kafka.lag"].because == "kafka.cluster"
    assert "hidden-words" not in str(found)


def test_settings_at_odds_are_told(broker: AuthorizingKafka) -> None:
    found = looked_at(broker, "all", kafka_security_protocol="plaintext")
    assert found["kafka.cluster"].outcome == "failed"
    assert "choose sasl_ssl" in found["kafka.cluster"].found


def test_a_broker_that_stopped_answering_is_given_up(broker: AuthorizingKafka) -> None:
    broker.pause()
    try:
        found = looked_at(broker, "all", seconds=3)
    finally:
        broker.resume()
    assert found["kafka.cluster"].outcome == "failed"
    assert found["kafka.cluster"].seconds < 12
