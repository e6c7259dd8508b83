"""One S3 server a worker process, and an empty store of each kind for a test."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from nilometer.blobs.backend import Limits
from nilometer.blobs.store import BlobStore, open_store
from tests.blobs.samples import BUCKET
from tests.services import S3Service, running

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}
UNSET = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_ALLOW_HTTP", "AWS_PROFILE")
QUICK = Limits(connect=5, attempt=20, retries=2, retry_window=30, put=60, probe=20)


@dataclass
class S3Server:
    endpoint: str
    client: Any

    def new_bucket(self) -> str:
        name = f"bucket-{uuid.uuid4().hex}"
        self.client.create_bucket(Bucket=name)
        return name


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def s3_process() -> Iterator[S3Server]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test-key",
        aws_secret_access_key="test-secret",
    )
    yield S3Server(endpoint, client)
    client.close()
    server.stop()


@pytest.fixture
def s3(s3_process: S3Server, aws: None) -> S3Server:
    return s3_process


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def local_store(root: Path) -> Iterator[BlobStore]:
    store = open_store(root.as_uri(), bucket=BUCKET)
    yield store
    store.close()


@pytest.fixture
def s3_store(s3: S3Server) -> Iterator[BlobStore]:
    store = open_store(
        f"s3://{s3.new_bucket()}", bucket="unused", s3_endpoint=s3.endpoint, limits=QUICK
    )
    yield store
    store.close()


@pytest.fixture
def shared_s3_store(aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[BlobStore]:
    """On the S3 server that all tests share, for what moto cannot do: two puts of one key at once
    take each other's files away there."""
    shared = S3Service(running("s3").address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", shared.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", shared.secret_key)
    client, bucket = shared.client(), f"bucket-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=bucket)
    client.close()
    store = open_store(f"s3://{bucket}", bucket="unused", s3_endpoint=shared.endpoint)
    yield store
    store.close()


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest) -> BlobStore:
    found: BlobStore = request.getfixturevalue(
        "local_store" if request.param == "file" else "s3_store"
    )
    return found
