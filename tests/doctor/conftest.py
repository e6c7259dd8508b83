"""A distributed deployment in which all is well, on the shared servers."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import pytest

from nilometer.clickhouse.address import Server
from nilometer.clickhouse.store import Store
from nilometer.log.kafka import KafkaConnection, KafkaLog, TopicPlan
from tests.clickhouse_server.running import ClickHouseServer
from tests.database import servers
from tests.database.reaching import url_of
from tests.services import KafkaService, PostgresService, S3Service


@pytest.fixture(scope="module", autouse=True)
def environment(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing of the environment but what tests set."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.upper().startswith(("NILOMETER_", "AWS_")):
                patch.delenv(name)
        yield


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """A server with every table."""
    server = ClickHouseServer(tmp_path_factory.mktemp("clickhouse")).start()
    try:
        with closing(Store(Server.parse(server.url()))) as store:
            store.open()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def deployment(
    kafka: KafkaService, postgres: PostgresService, s3: S3Service, clickhouse: ClickHouseServer
) -> Iterator[dict[str, Any]]:
    """Its settings. The topics have one copy, as the shared broker is one."""
    bucket, topic = f"test-{uuid.uuid4().hex}", kafka.new_topic()
    s3.client().create_bucket(Bucket=bucket)
    plan = TopicPlan(topic, partitions=4, allow_single_replica=True)
    for each in (plan, replace(plan, name=f"{topic}-exceptions")):
        KafkaLog(KafkaConnection(kafka.bootstrap), each).close()
    with ExitStack() as stack:
        database = stack.enter_context(servers.migrated(postgres))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in (
            ("AWS_ACCESS_KEY_ID", s3.access_key),
            ("AWS_SECRET_ACCESS_KEY", s3.secret_key),
            ("AWS_REGION", s3.region),
        ):
            patch.setenv(name, value)
        yield {
            "profile": "distributed",
            "database_url": url_of(database),
            "kafka_bootstrap_servers": kafka.bootstrap,
            "kafka_topic": topic,
            "kafka_partitions": 4,
            "kafka_allow_single_replica": True,
            "clickhouse_url": clickhouse.url(),
            "clickhouse_reader_url": clickhouse.url("fenced", "fenc3d"),
            "blobs_url": f"s3://{bucket}",
            "s3_endpoint": s3.endpoint,
        }
