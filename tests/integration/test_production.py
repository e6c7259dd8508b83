"""The production suite passes on a deployment that is in order and changes nothing there, and it
fails on one that is not.

It is run as people run it: the block sourced in a shell, then pytest by its path."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.integration.production_block import filled_in
from tests.running import Server, running, wait_until
from tests.sending import generation, send

ROOT = Path(__file__).parents[2]
BUCKET = "your-llma-bucket"
AWS = {
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@dataclass
class Deployment:
    """A Nilometer over a bucket of S3, with a project of an organization of its own to look at."""

    server: Server
    s3: Any
    endpoint: str
    project_id: int
    admin: str
    reader: str

    def run_suite(self, directory: Path, **changed: str) -> subprocess.CompletedProcess[str]:
        """`pytest tests/integration/production/` with the block, some of it changed."""
        values = AWS | {
            "POSTHOG_HOST": self.server.url,
            "POSTHOG_PROJECT_API_KEY": self.reader,
            "POSTHOG_PROJECT_ID": str(self.project_id),
            "LLMA_TEAM_ID": str(self.project_id),
            "LLMA_S3_BUCKET": BUCKET,
        }
        block = directory / "production-test.env"
        block.write_text(filled_in(values | changed))
        more = {"AWS_ENDPOINT_URL": self.endpoint, "LLMA_REQUEST_DELAY_SECONDS": "0"}
        return run(directory, f"source {block}\n", **more)

    def state(self) -> Any:
        """What a change would show in: the bucket, the projects and keys, the audit log."""
        objects = self.s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        kept = [(each["Key"], each["ETag"], each["LastModified"]) for each in objects]
        paths = ["projects/", "projects/@current/keys/", "organizations/@current/audit_log/"]
        return kept, [self.ask(path) for path in paths]

    def ask(self, path: str) -> Any:
        with self.server.client() as client:
            client.headers["Authorization"] = f"Bearer {self.admin}"
            return client.get(f"/api/{path}").json()


def run(directory: Path, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = "pytest tests/integration/production/ -v --tb=short -p no:cacheprovider"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", f"{before}{command}"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        env={"PATH": path, "HOME": str(directory)} | environment,
    )


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[Any, str]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=AWS["AWS_DEFAULT_REGION"],
        aws_access_key_id=AWS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=AWS["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket=BUCKET)
    yield client, endpoint
    client.close()
    server.stop()


@pytest.fixture(scope="module")
def deployment(
    s3: tuple[Any, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    client, endpoint = s3
    data = tmp_path_factory.mktemp("production") / "data"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in AWS.items():
            patch.setenv(name, value)
        with running(data, BLOBS_URL=f"s3://{BUCKET}", S3_ENDPOINT=endpoint) as server:
            yield _with_traffic(server, client, endpoint)


def _with_traffic(server: Server, s3: Any, endpoint: str) -> Deployment:
    """Some events of two organizations, one of them with a key that only reads."""
    with server.client() as client:
        made = client.post("/api/organizations/", json={"name": "tested"}).json()
        project, admin = made["projects"][0]["id"], made["personal_key"]["token"]
        client.headers["Authorization"] = f"Bearer {admin}"
        body = {"kind": "personal", "name": "production suite", "scopes": ["read"]}
        reader = client.post("/api/projects/@current/keys/", json=body).json()["token"]
        blobs = [
            {"$ai_input": ("application/json", b'["short"]')},
            {
                "$ai_input": ("text/plain", b"compressible " * 1000),
                "$ai_output": ("application/octet-stream", os.urandom(3_000_000)),
                "$ai_tools": ("application/json", b"[]"),
            },
        ]
        for each in (*blobs, {}):
            assert send(server.url, generation(blobs=each)).status_code == 200
            answer = send(server.url, generation(blobs=each), key=made["project_key"]["token"])
            assert answer.status_code == 200
        path = f"/api/projects/{project}/events/"
        wait_until(lambda: len(client.get(path).json()["results"]) == 3)
    return Deployment(server, s3, endpoint, project, admin, reader)


@pytest.mark.timeout(180)
def test_it_passes_as_configured_and_changes_nothing(deployment, tmp_path):
    before = deployment.state()
    done = deployment.run_suite(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
    assert "deselected" not in done.stdout
    assert deployment.reader not in done.stdout
    assert deployment.state() == before


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({"LLMA_TEAM_ID": "1"}, "test_every_blob_is_in_the_bucket_under_the_prefix_of_the_team"),
        ({"POSTHOG_PROJECT_ID": "1"}, "test_the_key_sees_one_project"),
        ({"POSTHOG_PROJECT_API_KEY": "wrong"}, "test_recent_events_of_the_team_can_be_queried"),
        ({"LLMA_S3_BUCKET": "another"}, "test_every_object_exists_and_is_as_long_as_its_ranges"),
    ],
    ids=["team", "project", "key", "bucket"],
)
def test_it_fails_where_something_is_not_as_it_says(deployment, tmp_path, changed, failing):
    done = deployment.run_suite(tmp_path, **changed)
    assert done.returncode == 1, done.stdout + done.stderr
    assert any(failing in line for line in done.stdout.splitlines() if line.startswith(FAULTS))


FAULTS = ("FAILED", "ERROR")


def test_without_configuration_it_fails_and_says_what_is_missing(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 1
    assert " passed" not in done.stdout
    assert (
        "These variables are to be set before a production deployment is read: "
        "POSTHOG_PROJECT_API_KEY, POSTHOG_HOST, POSTHOG_PROJECT_ID, AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION, LLMA_S3_BUCKET, LLMA_TEAM_ID, "
        'LLMA_TEST_MODE="production". See docs/acceptance.md.'
    ) in done.stdout


def test_the_whole_suite_does_not_run_it_by_itself(pytestconfig):
    assert "tests/integration/production" in pytestconfig.getini("norecursedirs")
