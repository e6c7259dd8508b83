"""PostgreSQL restarts, hangs, or stays away: known keys go on, and no key is called unknown."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest

from tests.faults.deployment import Deployment, Loading, Project, Servers, deployed, one, servers
from tests.private_servers import PostgresServer, private
from tests.running import wait_until
from tests.services import KafkaService, PostgresService, S3Service

GRACE = 3
FRESH = 5
"""Seconds for which what is known of a key is taken without a look."""


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with private(PostgresServer) as server:
        yield server


@pytest.fixture(scope="module")
def standing(
    kafka: KafkaService,
    database: PostgresServer,
    s3: S3Service,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Servers]:
    own = PostgresService(database)
    with servers(kafka, own, s3, tmp_path_factory.mktemp("servers")) as found:
        yield found


@pytest.fixture(scope="module")
def deployment(standing: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with (
        deployed(standing, tmp_path_factory.mktemp("deployment")) as made,
        made.process("worker") as worker,
    ):
        worker.wait_ready("worker")
        yield made


@pytest.fixture(autouse=True)
def up(database: PostgresServer) -> None:
    """It runs, whatever the test before left behind."""
    database.start()


def nobodys(project: Project) -> Project:
    """The same project by a key that no one ever had."""
    return Project(project.id, project.key[:-8] + uuid.uuid4().hex[:8])


def test_a_restart_under_load_refuses_no_known_key_and_calls_none_unknown(
    deployment: Deployment, database: PostgresServer, loading: Loading
) -> None:
    project = deployment.project()
    load = loading(deployment.capture.url, project)
    load.more(50)
    database.kill()
    load.more(100)
    refused = one(deployment.capture.url, nobodys(project))
    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    database.start()
    load.more(100)
    acknowledged = load.stop()
    assert load.refused == []
    assert load.broken == 0
    deployment.count(project, acknowledged)
    wait_until(
        lambda: one(deployment.capture.url, nobodys(project)).status_code == 401,
        what="an unknown key is told so again",
    )


def test_a_server_that_hangs_delays_no_known_key(
    deployment: Deployment, database: PostgresServer, loading: Loading
) -> None:
    project = deployment.project()
    load = loading(deployment.capture.url, project)
    load.more(50)
    database.pause()
    try:
        paused = time.monotonic()
        while time.monotonic() < paused + FRESH + 2:  # what is known of a key is old by then
            load.more(100)
    finally:
        database.resume()
    load.more(50)
    acknowledged = load.stop()
    assert [each.text for each in load.refused] == []
    assert load.broken == 0
    assert load.slowest < 2
    deployment.count(project, acknowledged)


def test_after_the_bound_everything_is_503_until_it_is_back(
    deployment: Deployment, database: PostgresServer, loading: Loading
) -> None:
    project = deployment.project()
    with deployment.process("capture", KEY_GRACE=GRACE) as capture:
        capture.wait_ready("capture")
        load = loading(capture.url, project)
        load.more(50)
        database.stop()
        load.wait_refused(20)
        stopped = len(load.acknowledged)
        load.wait_refused(len(load.refused) + 20)
        assert len(load.acknowledged) == stopped
        database.start()
        load.more(50)
        acknowledged = load.stop()
    load.check_refusals()
    deployment.count(project, acknowledged)
