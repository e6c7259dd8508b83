"""The distributed profile on real servers: one process a role, and nothing lost between them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from nilometer.errors import ConfigurationError
from nilometer.settings import Settings
from tests.clickhouse_server.running import ClickHouseServer
from tests.database import servers
from tests.database.reaching import url_of
from tests.running import Server, wait_until
from tests.sending import generation, send
from tests.serve.test_faults import wait_for_exactly
from tests.services import KafkaService, PostgresService, S3Service

Common = dict[str, Any]


@pytest.fixture(scope="module")
def common(
    kafka: KafkaService,
    postgres: PostgresService,
    s3: S3Service,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Common]:
    """What every process of one deployment is told."""
    bucket = f"test-{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=bucket)
    with ExitStack() as stack:
        clickhouse = ClickHouseServer(tmp_path_factory.mktemp("clickhouse")).start()
        stack.callback(clickhouse.stop)
        database = stack.enter_context(servers.empty(postgres))
        for name, value in (
            ("AWS_ACCESS_KEY_ID", s3.access_key),
            ("AWS_SECRET_ACCESS_KEY", s3.secret_key),
            ("AWS_REGION", s3.region),
        ):
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setenv(name, value)
        yield {
            "PROFILE": "distributed",
            "DATABASE_URL": url_of(database),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "KAFKA_TOPIC": kafka.new_topic(),
            "KAFKA_PARTITIONS": 4,
            "KAFKA_ALLOW_SINGLE_REPLICA": "true",
            "KAFKA_SESSION_TIMEOUT": 6,  # so long the partitions of a killed worker wait
            "CLICKHOUSE_URL": clickhouse.url(),
            "BLOBS_URL": f"s3://{bucket}",
            "S3_ENDPOINT": s3.endpoint,
        }


@pytest.fixture(scope="module")
def processes(common: Common, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A capture and an api process, which no test stops. No test has a data directory."""
    nowhere = tmp_path_factory.mktemp("nowhere") / "unused"
    with ExitStack() as stack:
        started = {}
        for role in ("capture", "api"):
            started[role] = Server(nowhere, ROLE=role, **common).start()
            stack.callback(started[role].stop)
        for role, server in started.items():
            server.wait_ready(role, seconds=90)
        yield started
    assert not nowhere.exists()


def worker(common: Common, tmp_path: Any, **settings: Any) -> Server:
    return Server(tmp_path / "unused", ROLE="worker", **common, **settings).start()


def test_an_event_goes_from_one_role_to_the_other(common, processes, tmp_path):
    identifier = str(uuid.uuid4())
    large = "x" * 20_000
    parts = generation(
        identifier,
        {"$blob": ("application/octet-stream", b"\x00\xff" * 100)},
        **{"$ai_input": large, "$ai_input_tokens": 1000, "$ai_output_tokens": 100},
        **{"$ai_span_id": identifier},
    )
    assert send(processes["capture"].url, parts).status_code == 200
    working = worker(common, tmp_path)
    try:
        wait_for_exactly(processes["api"], [identifier])
        with processes["api"].client() as client:
            event = client.get(f"/api/projects/1/events/{identifier}/").json()
            blob = client.get(
                "/api/projects/1/blobs/", params={"url": event["properties"]["$blob"]}
            )
            answer = client.post(
                "/api/projects/1/query/",
                json={
                    "query": {
                        "kind": "HogQLQuery",
                        "query": f"SELECT cost_total FROM calls WHERE event_uuid = '{identifier}'",
                    }
                },
            ).json()
        assert event["properties"]["$ai_input"] == large
        assert blob.content == b"\x00\xff" * 100
        assert answer["results"] == [["0.00021"]]
    finally:
        assert working.stop() == 0


def test_a_role_answers_for_itself_alone(common, processes):
    capture, api = processes["capture"].url, processes["api"].url
    assert httpx.get(f"{capture}/api/projects/").status_code == 404
    assert httpx.get(f"{capture}/_readiness", params={"role": "api"}).status_code == 400
    assert send(api, generation()).status_code == 404
    assert "store" not in httpx.get(f"{capture}/_readiness").text


@pytest.mark.parametrize("point", ["after_insert", "before_commit"])
def test_a_worker_that_is_killed_loses_and_repeats_nothing(common, processes, tmp_path, point):
    sent = [str(uuid.uuid4()) for _ in range(30)]
    for identifier in sent:
        assert send(processes["capture"].url, generation(identifier)).status_code == 200
    doomed = worker(common, tmp_path, FAILPOINTS=f"{point}=kill@1")
    assert doomed.wait_dead() != 0
    survivor = worker(common, tmp_path)
    try:
        found = wait_for_exactly(processes["api"], sent)
        assert len(found) == len(set(found))
    finally:
        survivor.stop()


def test_two_workers_share_the_work(common, processes, tmp_path):
    pair = [worker(common, tmp_path) for _ in range(2)]
    try:
        sent = [str(uuid.uuid4()) for _ in range(40)]
        for identifier in sent:
            assert send(processes["capture"].url, generation(identifier)).status_code == 200
        wait_for_exactly(processes["api"], sent)
        assert pair[0].stop() == 0
        late = [str(uuid.uuid4()) for _ in range(10)]
        for identifier in late:
            assert send(processes["capture"].url, generation(identifier)).status_code == 200
        wait_for_exactly(processes["api"], sent + late)
    finally:
        for each in pair:
            if each.process.poll() is None:
                each.stop()


def test_a_project_deleted_through_the_api_is_deleted_by_a_worker(common, processes, tmp_path):
    api, capture = processes["api"], processes["capture"]
    working = worker(common, tmp_path)
    try:
        with api.client() as client:
            made = client.post("/api/organizations/@current/projects/", json={"name": "doomed"})
            project, key = made.json()["id"], made.json()["api_token"]
            assert send(capture.url, generation(), key=key).status_code == 200
            events = f"/api/projects/{project}/events/"
            wait_until(lambda: client.get(events).json()["results"], what="stored")
            deletion = client.delete(f"/api/projects/{project}/")
            assert deletion.status_code in (202, 204)

            def deleted() -> bool:
                status = client.get(f"/api/projects/{project}/deletion/")
                return status.json().get("state") == "deleted"

            wait_until(deleted, seconds=90, what="deleted")
    finally:
        working.stop()


KAFKA = {"kafka_bootstrap_servers": "k:9092"}
SERVERS = KAFKA | {
    "database_url": "postgresql://u:p@h/d",
    "clickhouse_url": "clickhouse://u:p@h:8123/nilometer",
    "blobs_url": "s3://bucket",
}


@pytest.mark.parametrize("missing", SERVERS)
def test_half_a_distributed_profile_is_refused(missing):
    given = {name: value for name, value in SERVERS.items() if name != missing}
    settings = Settings(profile="distributed", **given)
    with pytest.raises(ConfigurationError, match=f"NILOMETER_{missing.upper()}"):
        settings.check_profile()
    Settings(profile="distributed", **SERVERS).check_profile()


@pytest.mark.parametrize(
    "given", [{"clickhouse_url": SERVERS["clickhouse_url"]}, {"role": "worker"}]
)
def test_a_part_of_the_other_profile_is_refused(given):
    with pytest.raises(ConfigurationError, match="NILOMETER_PROFILE=distributed"):
        Settings(**given).check_profile()
