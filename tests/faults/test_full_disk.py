"""The disk of a server is full: what it cannot keep is not acknowledged, and room ends it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.deployment import Deployment, Loading, Servers, deployed, servers, waits
from tests.faults.disk import ClickHouseOnASmallDisk, KafkaOnASmallDisk
from tests.private_servers import private
from tests.running import wait_until
from tests.services import KafkaService, PostgresService, S3Service

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaOnASmallDisk]:
    with private(KafkaOnASmallDisk) as server:
        yield server


@pytest.fixture(scope="module")
def clickhouse() -> Iterator[ClickHouseOnASmallDisk]:
    with private(ClickHouseOnASmallDisk) as server:
        yield server


@pytest.fixture(scope="module")
def standing(
    broker: KafkaOnASmallDisk,
    postgres: PostgresService,
    s3: S3Service,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Servers]:
    own = KafkaService(broker.address)
    with servers(own, postgres, s3, tmp_path_factory.mktemp("servers")) as found:
        yield found


@pytest.fixture(scope="module")
def deployment(
    standing: Servers,
    clickhouse: ClickHouseOnASmallDisk,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("deployment")
    with deployed(standing, directory, CLICKHOUSE_URL=clickhouse.url()) as made:
        yield made


@pytest.fixture(autouse=True)
def up(broker: KafkaOnASmallDisk) -> None:
    """It runs, whatever the test before left behind."""
    broker.start()


def test_a_broker_without_room_acknowledges_nothing_that_it_does_not_keep(
    deployment: Deployment, broker: KafkaOnASmallDisk, loading: Loading
) -> None:
    project = deployment.project()
    with deployment.process("worker"):
        load = loading(deployment.capture.url, project)
        load.more(50)
        with broker.disk.full():
            load.wait_refused(20)
        broker.kill()  # a broker that could not write to its disk has ended, or must be
        broker.start()
        load.more(50)
        acknowledged = load.stop()
        deployment.count(project, acknowledged)
    load.check_refusals()


def test_a_store_without_room_makes_workers_wait_and_room_lets_them_go_on(
    deployment: Deployment, clickhouse: ClickHouseOnASmallDisk, loading: Loading
) -> None:
    project = deployment.project()
    with deployment.process("worker") as worker:
        worker.wait_ready("worker")
        load = loading(deployment.capture.url, project)
        load.more(20)
        deployment.wait_stored(project, 21, worker)
        with clickhouse.disk.full():
            wait_until(lambda: waits(worker, "store"), seconds=60, what="the worker waits")
            load.more(200)
            assert deployment.dead_letters(project) == []
        load.more(20)
        acknowledged = load.stop()
        assert load.refused == []
        deployment.count(project, acknowledged)
