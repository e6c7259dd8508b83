"""ClickHouse is gone under load, and answers that are lost after an insert was made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.deployment import Deployment, Loading, waits
from tests.faults.proxy import Fault, Proxy, before
from tests.running import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def proxy(deployment: Deployment) -> Iterator[Proxy]:
    proxy = before(deployment.servers.clickhouse.url())
    yield proxy
    proxy.close()


def test_while_it_is_gone_capture_goes_on_and_everything_arrives_once(
    deployment: Deployment, loading: Loading
) -> None:
    project = deployment.project()
    clickhouse = deployment.servers.clickhouse
    with deployment.process("worker") as worker:
        worker.wait_ready("worker")
        load = loading(deployment.capture.url, project)
        deployment.wait_stored(project, 51, worker)
        clickhouse.kill()
        wait_until(lambda: waits(worker, "store"), what="the worker waits")
        load.more(300)
        with deployment.api.client() as client:
            answer = client.get(f"/api/projects/{project.id}/events/")
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        assert deployment.capture.ready("capture")
        assert not worker.ready("worker")
        clickhouse.start()
        load.more(50)
        acknowledged = load.stop()
        assert load.refused == []
        assert load.broken == 0
        deployment.count(project, acknowledged)


@pytest.mark.parametrize("fault", [Fault.UNANSWERED, Fault.HALF, Fault.HANG])
def test_an_insert_that_fails_half_way_or_whose_answer_is_lost_counts_once(
    deployment: Deployment, proxy: Proxy, fault: Fault, loading: Loading
) -> None:
    project = deployment.project()
    server = deployment.servers.clickhouse
    proxied = server.url().replace(f":{server.port}/", f":{proxy.port}/")
    with deployment.process("worker", CLICKHOUSE_URL=proxied) as worker:
        worker.wait_ready("worker")
        load = loading(deployment.capture.url, project)
        deployment.wait_stored(project, 21, worker)
        hurt = proxy.hurt + (0 if fault is Fault.HANG else 3)
        with proxy.fault(fault, only=b"INSERT"):
            wait_until(lambda: waits(worker, "store"), what="the worker waits")
            wait_until(lambda: proxy.hurt >= hurt, what="inserts are hurt")
        load.more(50)
        acknowledged = load.stop()
        deployment.count(project, acknowledged)
    assert load.refused == []
