"""The servers that tests share, as fixtures: a test that needs one that is not up fails.

`make test` starts them; before running pytest by hand, `scripts/services start`. All processes of
pytest-xdist use the same ones: tests keep apart by the names of topics, databases and buckets.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import boto3
import pytest

from tests.servers import shared
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import ACCESS_KEY, REGION, SECRET_KEY
from tests.servers.server import Server

SKIP_KAFKA = "SKIP_KAFKA_INTEGRATION_TESTS"


@dataclass(frozen=True)
class KafkaService:
    """The shared broker: plain text, one node, topics are not created by use."""

    bootstrap: str

    @staticmethod
    def new_topic() -> str:
        """A name that no other test has."""
        return f"test-{uuid4().hex}"


@dataclass(frozen=True)
class PostgresService:
    """The shared PostgreSQL; `url` is that of `sentinai_test`, as its superuser."""

    server: PostgresServer

    @property
    def url(self) -> str:
        return self.server.url()

    def url_of(self, database: str, driver: str = "postgresql") -> str:
        """Another database's URL, for SQLAlchemy with its `driver`: "postgresql+psycopg"."""
        return self.server.url(database, driver)


@dataclass(frozen=True)
class S3Service:
    """The shared S3 server, path style; its one key may do everything."""

    endpoint: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    region: str = REGION

    def client(self, service: str = "s3", **keys: str) -> Any:
        """A boto3 client, of another service ("iam") or with other keys where named."""
        keys = {
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
        } | keys
        return boto3.client(service, endpoint_url=self.endpoint, region_name=self.region, **keys)


@dataclass(frozen=True)
class DynamoDBService:
    """The shared DynamoDB Local. It takes any credentials; tables are of a region and a key."""

    endpoint: str
    region: str = "us-east-1"
    key: str = "nilometer"

    def client(self) -> Any:
        """A boto3 client."""
        return boto3.client(
            "dynamodb",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.key,
        )


def running(name: str) -> Server:
    """The shared server of this name, or what answers like it on its documented port, such as a
    container of `docker-compose.test.yml`; fails the test when nothing does."""
    server = shared.server(name)
    if not server.healthy():
        pytest.fail(
            f"{name} is not up on {server.address}. Start it: scripts/services start {name}",
            pytrace=False,
        )
    return server


@pytest.fixture(scope="session")
def kafka() -> KafkaService:
    return KafkaService(running("kafka").address)


@pytest.fixture(scope="session")
def postgres() -> PostgresService:
    server = running("postgres")
    assert isinstance(server, PostgresServer)
    return PostgresService(server)


@pytest.fixture(scope="session")
def s3() -> S3Service:
    return S3Service(running("s3").address)


@pytest.fixture(scope="session")
def dynamodb_local() -> DynamoDBService:
    return DynamoDBService(running("dynamodb").address)


@pytest.fixture
def s3_bucket(s3: S3Service) -> str:
    """The name of an empty bucket that only this test has."""
    name = f"test-{uuid4().hex}"
    s3.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def postgres_database(postgres: PostgresService) -> Iterator[str]:
    """The URL of an empty database that only this test has; it is dropped after."""
    name = f"test_{uuid4().hex}"
    yield postgres.server.create_database(name)
    postgres.server.drop_database(name)


def needs_kafka(item: pytest.Item) -> bool:
    """Whether it is marked so, or asks for the shared broker."""
    return item.get_closest_marker("kafka") is not None or "kafka" in getattr(
        item, "fixturenames", ()
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs Kafka, when the environment says so in as many words."""
    if os.environ.get(SKIP_KAFKA, "").lower() != "true":
        return
    left_out = [item for item in items if needs_kafka(item)]
    items[:] = [item for item in items if item not in set(left_out)]
    config.hook.pytest_deselected(items=left_out)
    if reporter := config.pluginmanager.get_plugin("terminalreporter"):
        reporter.write_line(f"{SKIP_KAFKA} leaves out {len(left_out)} tests", yellow=True)
