"""Three brokers, two copies of what is acknowledged: one may go, with two gone nothing is taken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from nilometer.log.kafka import KafkaConnection, KafkaLog, Membership, Sending, TopicPlan
from nilometer.log.port import LogUnavailable
from tests.log.logs import envelope, eventually, numbers, poll
from tests.private_servers import KafkaCluster, private_cluster

DELIVERY = 3.0


@pytest.fixture
def cluster() -> Iterator[KafkaCluster]:
    with private_cluster(3) as started:
        yield started


class Appender:
    """Appends numbers, and remembers which were acknowledged."""

    def __init__(self, log: KafkaLog) -> None:
        self.acknowledged: list[int] = []
        self.refused: list[int] = []
        self._log = log

    def try_one(self) -> bool:
        number = len(self.acknowledged) + len(self.refused)
        try:
            self._log.append_blocking(envelope(number))
        except LogUnavailable:
            self.refused.append(number)
            return False
        self.acknowledged.append(number)
        return True

    def some(self, count: int) -> None:
        for _ in range(count):
            eventually(self.try_one, within=60)


@pytest.mark.timeout(240)
def test_what_is_acknowledged_outlives_a_broker_and_needs_two(cluster: KafkaCluster) -> None:
    with contextlib.closing(
        KafkaLog(
            KafkaConnection(cluster.address),
            TopicPlan("events", partitions=3),
            sending=Sending(delivery_timeout=DELIVERY),
            membership=Membership(session_timeout=6),
            answer_timeout=20,
            state_interval=0.2,
        )
    ) as log:
        assert (log.facts.replicas, log.facts.min_insync_replicas) == (3, 2)
        appender = Appender(log)
        appender.some(50)

        cluster.nodes[0].kill()
        appender.some(50)

        cluster.nodes[1].kill()
        for _ in range(3):
            assert not appender.try_one()

        cluster.nodes[0].start()
        cluster.nodes[1].start()
        appender.some(50)

        consumer, found = log.consumer("a"), list[int]()
        wanted = set(appender.acknowledged)
        eventually(
            lambda: found.extend(numbers(poll(consumer, timeout=0.5))) or wanted <= set(found),
            within=60,
        )
        assert len(found) == len(set(found))
