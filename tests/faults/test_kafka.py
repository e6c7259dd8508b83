"""Kafka goes away under load, or takes records and acknowledges none."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.faults.deployment import Deployment, Loading, Servers, deployed, one, servers
from tests.private_servers import KafkaServer, private
from tests.running import wait_until
from tests.services import KafkaService, PostgresService, S3Service

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaServer]:
    with private(KafkaServer) as server:
        yield server


@pytest.fixture(scope="module")
def standing(
    broker: KafkaServer,
    postgres: PostgresService,
    s3: S3Service,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Servers]:
    own = KafkaService(broker.address)
    with servers(own, postgres, s3, tmp_path_factory.mktemp("servers")) as found:
        yield found


@pytest.fixture(scope="module")
def deployment(standing: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """With a worker, which meets every fault as well. What is refused is refused soon."""
    directory = tmp_path_factory.mktemp("deployment")
    with (
        deployed(standing, directory, KAFKA_DELIVERY_TIMEOUT=2) as made,
        made.process("worker") as worker,
    ):
        worker.wait_ready("worker")
        yield made


@pytest.fixture(autouse=True)
def up(broker: KafkaServer) -> None:
    """It runs, whatever the test before left behind."""
    broker.start()


def test_a_broker_that_is_killed_costs_refusals_and_leaves_nothing_half_done(
    deployment: Deployment, broker: KafkaServer, loading: Loading
) -> None:
    project = deployment.project()
    load = loading(deployment.capture.url, project)
    load.more(50)
    with_blobs = loading(deployment.capture.url, project, blobs=True, clients=1)
    with_blobs.more(10)
    broker.kill()
    for each in (load, with_blobs):
        each.wait_refused()
    wait_until(lambda: not deployment.capture.ready("capture"), what="capture knows it")
    # Known by now: refused at once, before an object is written that no record would name.
    with_blobs.wait_refused(len(with_blobs.refused) + 1)  # it met the news, or is done
    kept = deployment.objects(project)
    with_blobs.wait_refused(len(with_blobs.refused) + 10)
    answered: list[float] = []
    for _ in range(5):
        started = time.monotonic()
        assert one(deployment.capture.url, project, body=b"x" * 9000).status_code == 503
        answered.append(time.monotonic() - started)
    assert min(answered) < 2  # the delivery timeout
    assert deployment.objects(project) == kept

    broker.start()
    for each in (load, with_blobs):
        each.more(20)
    acknowledged = load.stop() | with_blobs.stop()
    deployment.count(project, acknowledged)
    for each in (load, with_blobs):
        each.check_refusals()
        assert each.slowest < 20  # the delivery timeout is 2

    # An append that Kafka did not answer may leave an object without a record, for the sweeper; so
    # may the one that met the news.
    waited = sum(answer.elapsed.total_seconds() > 1 for answer in with_blobs.refused)
    blobs = sum(body is not None for body in acknowledged.values())
    assert blobs <= len(deployment.objects(project)) <= blobs + waited + 1


def test_a_broker_that_accepts_and_never_acknowledges_is_given_up_in_time(
    deployment: Deployment, broker: KafkaServer, loading: Loading
) -> None:
    project = deployment.project()
    load = loading(deployment.capture.url, project)
    load.more(50)
    wait_until(lambda: deployment.stored(project) > 0, seconds=90, what="a worker stores")
    broker.pause()
    try:
        load.wait_refused(8)
        assert deployment.stored(project) > 0  # readers do not notice
    finally:
        broker.resume()
    load.more(20)
    acknowledged = load.stop()
    deployment.count(project, acknowledged)
    load.check_refusals()
    assert load.slowest < 20


@pytest.mark.parametrize("way", ["killed", "paused"])
def test_processes_stop_soon_though_kafka_is_gone(
    deployment: Deployment, broker: KafkaServer, loading: Loading, way: str
) -> None:
    """All at once, as a host is shut down, with a batch in hand that cannot be committed."""
    project = deployment.project()
    with ExitStack() as stack:
        roles = ("worker", "capture", "api", "all")
        leaving = [stack.enter_context(deployment.process(role)) for role in roles]
        for role, server in zip(roles, leaving, strict=True):
            server.wait_ready("api" if role == "all" else role)
        load = loading(leaving[1].url, project)
        load.more(100)
        broker.kill() if way == "killed" else broker.pause()
        wait_until(lambda: not leaving[1].ready("capture"), what="capture knows it")
        load.abandon()
        for server in leaving:
            server.process.send_signal(signal.SIGTERM)
        began, took = time.monotonic(), dict[str, float]()
        for role, server in zip(roles, leaving, strict=True):
            assert server.wait_dead() == 0
            took[role] = time.monotonic() - began
        if way == "paused":
            broker.resume()
        assert max(took.values()) < 30, took  # 3 to 4 alone, 5 beside other work
