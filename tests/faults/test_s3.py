"""S3 refuses, hangs, or fails half way, under load."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.faults.deployment import Deployment, Loading, Servers, deployed, one, waits
from tests.faults.proxy import Fault, Proxy, before
from tests.running import Server, wait_until
from tests.sending import generation, send


@pytest.fixture(scope="module")
def proxy(standing: Servers) -> Iterator[Proxy]:
    proxy = before(standing.s3.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def deployment(
    standing: Servers, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    place = f"http://127.0.0.1:{proxy.port}"
    directory = tmp_path_factory.mktemp("deployment")
    with deployed(standing, directory, S3_ENDPOINT=place, BLOBS_TIMEOUT=3) as made:
        yield made


@pytest.fixture(scope="module")
def worker(deployment: Deployment) -> Iterator[Server]:
    with deployment.process("worker") as server:
        yield server.wait_ready("worker")


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.HANG, Fault.HALF, Fault.UNANSWERED])
def test_what_s3_did_not_keep_is_not_accepted(
    deployment: Deployment, worker: Server, proxy: Proxy, fault: Fault, loading: Loading
) -> None:
    project = deployment.project()
    load = loading(deployment.capture.url, project, blobs=True)
    load.more(20)
    with proxy.fault(fault):
        load.wait_refused(4)
        # An event without blobs needs no S3, and is stored meanwhile.
        plain = str(uuid.uuid4())
        assert one(deployment.capture.url, project, plain).status_code == 200
        wait_until(lambda: plain in deployment.uuids(project), what="an event without blobs")
    load.more(20)
    acknowledged = load.stop() | {plain: None}
    deployment.count(project, acknowledged)
    load.check_refusals()
    assert load.slowest < 15
    # One whose answer was lost is an object without a record, for the sweeper; no event names it.
    blobs = sum(body is not None for body in acknowledged.values())
    assert blobs <= len(deployment.objects(project)) <= blobs + len(load.refused)


def test_a_pack_that_s3_does_not_keep_makes_the_worker_wait(
    deployment: Deployment, worker: Server, proxy: Proxy
) -> None:
    project = deployment.project()
    large, identifier = "the river rose " * 2000, str(uuid.uuid4())
    with proxy.fault(Fault.REFUSE):
        parts = generation(identifier, **{"$ai_input": large, "$ai_span_id": identifier})
        assert send(deployment.capture.url, parts, key=project.key).status_code == 200
        wait_until(lambda: waits(worker, "blobs"), what="the worker waits for the blobs")
        assert deployment.stored(project) == 0
        assert deployment.dead_letters(project) == []
    wait_until(lambda: deployment.stored(project) == 1, what="it goes on by itself")
    with deployment.api.client() as client:
        event = client.get(f"/api/projects/{project.id}/events/{identifier}/").json()
    assert event["properties"]["$ai_input"] == large
    assert event["packed"]
