"""Empty tables on both implementations of DynamoDB, and metrics to put into them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto.server import ThreadedMotoServer

from nilometer.dynamodb import table
from nilometer.dynamodb.reader import Reader
from nilometer.dynamodb.sink import DynamoSink
from tests.services import DynamoDBService


@dataclass
class Table:
    """One table, through a client of its own."""

    dynamodb: Any
    name: str

    def sink(self, **options: Any) -> DynamoSink:
        return DynamoSink(self.name, dynamodb=self.dynamodb, **options)

    def reader(self, **options: Any) -> Reader:
        return Reader(self.dynamodb, self.name, **options)

    def items(self) -> list[dict[str, Any]]:
        """Everything in it."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=self.name)
        return [item for page in pages for item in page["Items"]]


@pytest.fixture(scope="session")
def moto_client() -> Iterator[Any]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "k"}
    yield boto3.client(
        "dynamodb", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **keys
    )
    server.stop()


@pytest.fixture(scope="session")
def local_client(dynamodb_local: DynamoDBService) -> Any:
    return dynamodb_local.client()


@pytest.fixture(params=["local", "moto"])
def made(request: pytest.FixtureRequest) -> Iterator[Table]:
    """An empty table, on each."""
    with new_table(request.getfixturevalue(f"{request.param}_client")) as made:
        yield made


@pytest.fixture
def local(local_client: Any) -> Iterator[Table]:
    """An empty table on DynamoDB Local alone."""
    with new_table(local_client) as made:
        yield made


@contextmanager
def new_table(client: Any) -> Iterator[Table]:
    """An empty table, deleted after."""
    name = f"test-{uuid4().hex}"
    table.create(client, name, sleep=lambda _: None)
    yield Table(client, name)
    client.delete_table(TableName=name)
