"""The policies of deploy/s3, on a server that enforces them: each allows its work and no more."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.core.authorization import enable_iam_authentication
from moto.server import ThreadedMotoServer

from nilometer.blobs.bucket import BucketRefused
from nilometer.blobs.setup import set_up
from nilometer.blobs.store import BlobStore, open_store
from nilometer.blobs.types import BlobNotFound, BlobsUnavailable
from nilometer.settings import load
from tests.blobs.samples import all_keys, key_of, part, put, read
from tests.running import wait_until
from tests.services import S3Service

POLICIES = Path(__file__).parents[2] / "deploy" / "s3"
TEAM = 12
# Of the team, of its neighbours, and of nobody.
KEYS = [
    f"{top}/{team}/2026-11-20/x.multipart"
    for top in ("llma", "llma-90d")
    for team in (1, TEAM, 123)
]
OTHER = "other/x"


@dataclass
class Identity:
    """A user with one policy of deploy/s3."""

    key_id: str
    secret: str
    client: Any

    def store(self, monkeypatch: pytest.MonkeyPatch, s3: S3Service, bucket: str) -> BlobStore:
        """Nilometer's own, with the user's key."""
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", self.key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", self.secret)
        monkeypatch.setenv("AWS_REGION", s3.region)
        return open_store(f"s3://{bucket}", bucket="unused", s3_endpoint=s3.endpoint)


@pytest.fixture(scope="module")
def bucket(s3: S3Service) -> str:
    name = f"test-{uuid4().hex}"
    client = s3.client()
    client.create_bucket(Bucket=name)
    for key in [*KEYS, OTHER]:
        client.put_object(Bucket=name, Key=key, Body=b"x")
    return name


def policy(name: str, bucket: str) -> str:
    text = (POLICIES / f"{name}.json").read_text()
    return text.replace("BUCKET", bucket).replace("TEAM_ID", str(TEAM))


@pytest.fixture(scope="module")
def identities(s3: S3Service, bucket: str) -> Iterator[dict[str, Identity]]:
    iam = s3.client("iam")
    made: dict[str, Identity] = {}
    for name in ("capture", "worker", "reader", "test"):
        user = f"{name}-{bucket}"
        iam.create_user(UserName=user)
        iam.put_user_policy(UserName=user, PolicyName=name, PolicyDocument=policy(name, bucket))
        key = iam.create_access_key(UserName=user)["AccessKey"]
        pair = key["AccessKeyId"], key["SecretAccessKey"]
        client = s3.client(aws_access_key_id=pair[0], aws_secret_access_key=pair[1])
        made[name] = Identity(*pair, client)
    known = {  # what each may do, to wait until the server has heard of it
        "capture": lambda c: c.list_objects_v2(Bucket=bucket, Prefix="llma/.probe/"),
        "worker": lambda c: c.list_objects_v2(Bucket=bucket),
        "reader": lambda c: c.get_object(Bucket=bucket, Key=KEYS[0]),
        "test": lambda c: c.get_object(Bucket=bucket, Key=KEYS[1]),
    }
    for name, call in known.items():
        wait_until(
            lambda c=call, i=made[name]: allows(lambda: c(i.client)), what=f"{name}'s policy"
        )
    yield made
    for name, each in made.items():
        user = f"{name}-{bucket}"
        iam.delete_access_key(UserName=user, AccessKeyId=each.key_id)
        iam.delete_user_policy(UserName=user, PolicyName=name)
        iam.delete_user(UserName=user)


def allows(call: Callable[[], Any]) -> bool:
    """Whether it is done, or refused for want of a permission."""
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] in ("AccessDenied", "403"):
            return False
        raise
    return True


def get(key: str) -> Callable[[Any, str], Any]:
    return lambda client, bucket: client.get_object(Bucket=bucket, Key=key)


def write(key: str) -> Callable[[Any, str], Any]:
    return lambda client, bucket: client.put_object(Bucket=bucket, Key=key, Body=b"y")


def delete(key: str) -> Callable[[Any, str], Any]:
    return lambda client, bucket: client.delete_object(Bucket=bucket, Key=key)


def listing(prefix: str) -> Callable[[Any, str], Any]:
    return lambda client, bucket: client.list_objects_v2(Bucket=bucket, Prefix=prefix)


def rules(client: Any, bucket: str) -> Any:
    return client.delete_bucket_lifecycle(Bucket=bucket)


NEW = "llma/5/2026-11-20/new.multipart"
ALLOWED: dict[str, list[tuple[str, Callable[[Any, str], Any]]]] = {
    "capture": [
        ("put", write(NEW)),
        ("put of another retention", write(NEW.replace("llma/", "llma-90d/"))),
        ("list the probe", listing("llma/.probe/")),
    ],
    "worker": [
        ("put", write(NEW)),
        ("get", get(KEYS[0])),
        ("delete", delete(NEW)),
        ("list", listing("")),
    ],
    "reader": [("get", get(KEYS[0])), ("get of another retention", get(KEYS[3]))],
    "test": [
        ("get", get(KEYS[1])),
        ("get of another retention", get(KEYS[4])),
        ("list the team", listing(f"llma/{TEAM}/")),
        ("list a day of the team", listing(f"llma/{TEAM}/2026-11-20/")),
        ("list another retention", listing(f"llma-90d/{TEAM}/")),
    ],
}
DENIED: dict[str, list[tuple[str, Callable[[Any, str], Any]]]] = {
    "capture": [
        ("get", get(KEYS[0])),
        ("delete", delete(KEYS[0])),
        ("list all", listing("")),
        ("list a project", listing("llma/1/")),
        ("put elsewhere", write("other/y")),
        ("put beside", write("llmax/1/y")),
        ("rules", rules),
    ],
    "worker": [
        ("get elsewhere", get(OTHER)),
        ("put elsewhere", write("other/y")),
        ("delete elsewhere", delete(OTHER)),
        ("rules", rules),
    ],
    "reader": [
        ("put", write(NEW)),
        ("delete", delete(KEYS[0])),
        ("get elsewhere", get(OTHER)),
        ("rules", rules),
    ],
    "test": [
        *[(f"get {key}", get(key)) for key in KEYS if f"/{TEAM}/" not in key],
        ("get elsewhere", get(OTHER)),
        ("put", write(KEYS[1])),
        ("delete", delete(KEYS[1])),
        *[(f"list {prefix!r}", listing(prefix)) for prefix in ("", "llma", "llma/", "llma/1")],
        ("list a team whose number begins alike", listing(f"llma/{TEAM}3/")),
        ("list without its slash", listing(f"llma/{TEAM}")),
        ("rules", rules),
    ],
}


def cases(table: dict[str, list[tuple[str, Any]]]) -> Any:
    return pytest.mark.parametrize(
        ("who", "call"),
        [
            pytest.param(who, call, id=f"{who}: {what}")
            for who, calls in table.items()
            for what, call in calls
        ],
    )


@cases(ALLOWED)
def test_what_an_identity_needs_is_allowed(
    identities: dict[str, Identity], bucket: str, who: str, call: Any
) -> None:
    assert allows(lambda: call(identities[who].client, bucket))


@cases(DENIED)
def test_anything_else_is_denied(
    identities: dict[str, Identity], bucket: str, who: str, call: Any
) -> None:
    assert not allows(lambda: call(identities[who].client, bucket))


def test_each_role_does_its_work_with_its_own_policy(
    identities: dict[str, Identity], s3: S3Service, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = identities["capture"].store(monkeypatch, s3, bucket)
    asyncio.run(capture.probe())
    [reference] = put(capture, part("a", b"sixteen cubits"), project=77)
    with pytest.raises(BlobsUnavailable, match="AccessDenied"):
        read(capture, reference.url, 77)

    reader = identities["reader"].store(monkeypatch, s3, bucket)
    assert read(reader, reference.url, 77) == b"sixteen cubits"
    # Amazon says so only to who may list the bucket; this server says it to all.
    with pytest.raises(BlobNotFound):
        read(reader, re.sub(r"_[0-9a-f]{16}", "_" + "0" * 16, reference.url), 77)

    worker = identities["worker"].store(monkeypatch, s3, bucket)
    assert key_of(worker, reference.url) in all_keys(worker)
    assert asyncio.run(worker.delete_project(77)) == 1


def test_the_policy_for_setting_up_allows_that_and_a_workers_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = f"bucket-{uuid4().hex}"
    with enforcing_moto(bucket, ("setup", "worker")) as (endpoint, pairs):
        settings = load(data_dir=tmp_path, blobs_url=f"s3://{bucket}", s3_endpoint=endpoint)

        def steps(who: str) -> list[bool]:
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", pairs[who][0])
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", pairs[who][1])
            return [step.changed for step in set_up(settings, create_bucket=True)]

        with pytest.raises(BucketRefused, match="s3:CreateBucket"):
            steps("worker")
        assert steps("setup") == [True, True, True]
        assert steps("setup") == [False, False, False]
        with pytest.raises(BucketRefused, match="s3:GetLifecycleConfiguration"):
            steps("worker")


HEAD_BUCKET = {"Effect": "Allow", "Action": "s3:HeadBucket", "Resource": "*"}


@contextmanager
def enforcing_moto(
    bucket: str, names: Sequence[str]
) -> Iterator[tuple[str, dict[str, tuple[str, str]]]]:
    """A server of AWS's APIs on which users of these policies have what is in them and no more. It
    knows CreateBucket and lifecycle rules by their permissions, as the S3 server of tests does not;
    but no condition of a policy, and HeadBucket by a permission that AWS has not."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
        iam = boto3.client("iam", endpoint_url=endpoint, region_name="us-east-1", **keys)
        pairs: dict[str, tuple[str, str]] = {}
        for name in names:
            user = f"{name}-{bucket}"
            iam.create_user(UserName=user)
            document = json.loads(policy(name, bucket))
            document["Statement"].append(HEAD_BUCKET)
            iam.put_user_policy(UserName=user, PolicyName=name, PolicyDocument=json.dumps(document))
            key = iam.create_access_key(UserName=user)["AccessKey"]
            pairs[name] = key["AccessKeyId"], key["SecretAccessKey"]
        with enable_iam_authentication():
            yield endpoint, pairs
    finally:
        server.stop()


def test_no_policy_allows_more_than_named_actions() -> None:
    for file in POLICIES.glob("*.json"):
        for statement in json.loads(file.read_text())["Statement"]:
            actions = statement["Action"]
            for action in [actions] if isinstance(actions, str) else actions:
                assert "*" not in action, file.name
            assert statement["Resource"] != "*"
