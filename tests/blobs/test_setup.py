"""`nilometer blobs setup`: what a bucket has afterwards, and what it keeps."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from nilometer.blobs import lifecycle
from nilometer.blobs.bucket import Bucket, BucketNotFound, BucketRefused
from nilometer.blobs.setup import set_up
from nilometer.blobs.types import BlobsUnavailable
from nilometer.cli.app import app
from nilometer.errors import ConfigurationError
from nilometer.settings import Settings, load
from tests.blobs.conftest import S3Server
from tests.blobs.misbehaving import Answer, serving, status

OPERATORS: list[dict[str, Any]] = [
    {
        "ID": "logs",
        "Status": "Enabled",
        "Filter": {"And": {"Prefix": "logs/", "Tags": [{"Key": "a", "Value": "b"}]}},
        "Transitions": [{"Days": 30, "StorageClass": "GLACIER"}],
        "Expiration": {"Days": 365},
    },
    {
        "ID": "off",
        "Status": "Disabled",
        "Filter": {"Prefix": ""},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
    },
]


@pytest.fixture
def bucket() -> str:
    return f"bucket-{uuid4().hex}"


@pytest.fixture
def settings(s3: S3Server, bucket: str, tmp_path: Path) -> Settings:
    return at(s3.endpoint, tmp_path, bucket)


def at(endpoint: str, data_dir: Path, bucket: str = "bucket", **others: object) -> Settings:
    return load(data_dir=data_dir, blobs_url=f"s3://{bucket}", s3_endpoint=endpoint, **others)


def changes(settings: Settings, **options: Any) -> list[str]:
    return [step.said for step in set_up(settings, **options) if step.changed]


def rules(s3: S3Server, bucket: str) -> list[dict[str, Any]]:
    found = s3.client.get_bucket_lifecycle_configuration(Bucket=bucket)
    rules: list[dict[str, Any]] = found["Rules"]
    return rules


def set_rules(s3: S3Server, bucket: str, *rules: dict[str, Any]) -> None:
    s3.client.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": list(rules)}
    )


def test_a_bucket_is_made_closed_and_given_a_rule_for_each_retention(
    s3: S3Server, settings: Settings, bucket: str
) -> None:
    assert changes(settings, create_bucket=True, retentions=[7]) == [
        f"the bucket {bucket} is made in us-east-1",
        "public access is blocked",
        "the rule nilometer-llma-7d deletes what is in llma-7d/ after 7 days",
        "the rule nilometer-llma deletes what is in llma/ after 30 days",
    ]

    block = s3.client.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert set(block.values()) == {True}
    found = {rule["Filter"]["Prefix"]: rule for rule in rules(s3, bucket)}
    assert {prefix: rule["Expiration"] for prefix, rule in found.items()} == {
        "llma/": {"Days": 30},
        "llma-7d/": {"Days": 7},
    }
    for rule in found.values():
        assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
        assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}


def test_doing_it_again_changes_nothing(s3: S3Server, settings: Settings, bucket: str) -> None:
    changes(settings, create_bucket=True)
    before = rules(s3, bucket)

    assert changes(settings, create_bucket=True) == []
    assert rules(s3, bucket) == before


def test_retentions_that_the_bucket_has_objects_of_get_rules(
    s3: S3Server, settings: Settings, bucket: str
) -> None:
    s3.client.create_bucket(Bucket=bucket)
    for key in ("llma/1/a", "llma-90d/1/a", "llma-400d/2/a", "llma-x/1/a", "llmao/a", "other/a"):
        s3.client.put_object(Bucket=bucket, Key=key)

    changes(settings)

    prefixes = {rule["Filter"]["Prefix"] for rule in rules(s3, bucket)}
    assert prefixes == {"llma/", "llma-90d/", "llma-400d/"}


def test_the_retention_of_the_settings_gets_a_rule_beside_the_default(
    s3: S3Server, bucket: str, tmp_path: Path
) -> None:
    changes(at(s3.endpoint, tmp_path, bucket, retention_days=60), create_bucket=True)

    assert {rule["Filter"]["Prefix"] for rule in rules(s3, bucket)} == {"llma/", "llma-60d/"}


def test_rules_of_the_operator_stay_as_they_are(
    s3: S3Server, settings: Settings, bucket: str
) -> None:
    s3.client.create_bucket(Bucket=bucket)
    set_rules(s3, bucket, *OPERATORS)
    before = rules(s3, bucket)

    assert len(changes(settings)) == 2

    assert [rule for rule in rules(s3, bucket) if rule["ID"] != "nilometer-llma"] == before


def test_a_rule_of_another_name_that_does_the_same_is_enough(
    s3: S3Server, settings: Settings, bucket: str
) -> None:
    s3.client.create_bucket(Bucket=bucket)
    own = lifecycle.wanted_rule(30) | {"ID": "mine"}
    set_rules(s3, bucket, own)

    changes(settings)

    assert [rule["ID"] for rule in rules(s3, bucket)] == ["mine"]


@pytest.mark.parametrize(
    "other",
    [
        {"Expiration": {"Days": 7}},
        {"Status": "Disabled"},
        {"Filter": {"And": {"Prefix": "llma/", "Tags": [{"Key": "a", "Value": "b"}]}}},
    ],
    ids=["days", "disabled", "filter"],
)
def test_a_rule_of_ours_that_was_changed_is_mended_in_its_place(
    s3: S3Server, settings: Settings, bucket: str, other: dict[str, Any]
) -> None:
    s3.client.create_bucket(Bucket=bucket)
    set_rules(s3, bucket, lifecycle.wanted_rule(30) | other)

    assert "the rule nilometer-llma deletes what is in llma/ after 30 days" in changes(settings)

    assert rules(s3, bucket) == [lifecycle.wanted_rule(30)]


def test_a_partly_open_bucket_is_closed(s3: S3Server, settings: Settings, bucket: str) -> None:
    s3.client.create_bucket(Bucket=bucket)
    s3.client.put_public_access_block(
        Bucket=bucket, PublicAccessBlockConfiguration={"BlockPublicAcls": True}
    )

    assert "public access is blocked" in changes(settings)
    assert "public access is blocked" not in changes(settings)


def test_a_dry_run_says_the_same_and_changes_nothing(
    s3: S3Server, settings: Settings, bucket: str
) -> None:
    wanted = changes(settings, create_bucket=True, dry_run=True)
    assert len(wanted) == 3
    assert bucket not in {each["Name"] for each in s3.client.list_buckets()["Buckets"]}

    s3.client.create_bucket(Bucket=bucket)
    assert changes(settings, dry_run=True) == wanted[1:]
    assert changes(settings) == wanted[1:]


def test_a_missing_bucket_is_made_only_when_asked(settings: Settings) -> None:
    with pytest.raises(BucketNotFound, match="--create-bucket makes it in us-east-1"):
        changes(settings)


def test_it_is_made_in_the_region_of_the_environment(
    s3: S3Server, settings: Settings, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    changes(settings, create_bucket=True)

    where = s3.client.get_bucket_location(Bucket=bucket)
    assert where["LocationConstraint"] == "eu-central-1"


def early(prefix: str, days: int = 7, **filters: Any) -> dict[str, Any]:
    return {
        "ID": "early",
        "Status": "Enabled",
        "Filter": {"And": {"Prefix": prefix, **filters}} if filters else {"Prefix": prefix},
        "Expiration": {"Days": days},
    }


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (early(""), True),
        (early("llma/1/"), True),
        (early("llma/", ObjectSizeGreaterThan=5), True),
        (early("llma/", Tags=[{"Key": "a", "Value": "b"}]), False),  # blobs have no tags
        (early("other/"), False),
        (early("", 31), False),
        (early("") | {"Status": "Disabled"}, False),
    ],
)
def test_a_rule_that_deletes_too_early_is_told_and_left(
    s3: S3Server, settings: Settings, bucket: str, rule: dict[str, Any], told: bool
) -> None:
    s3.client.create_bucket(Bucket=bucket)
    set_rules(s3, bucket, rule, lifecycle.wanted_rule(30))

    sentence = "the rule early deletes what is in llma/ after 7 days, before its retention of 30"
    found = [step.said for step in set_up(settings)]
    assert (sentence in found) == told
    assert (sentence in lifecycle.missing_rules(settings)) == told
    assert len(rules(s3, bucket)) == 2


def test_missing_rules_are_told_until_they_are_there(
    s3: S3Server, settings: Settings, bucket: str
) -> None:
    s3.client.create_bucket(Bucket=bucket)
    assert lifecycle.missing_rules(settings, [90]) == [
        "no lifecycle rule deletes what is in llma/ after 30 days",
        "no lifecycle rule deletes what is in llma-90d/ after 90 days",
    ]

    changes(settings, retentions=[90])

    assert lifecycle.missing_rules(settings, [90]) == []


def test_a_directory_needs_no_rules_and_no_setting_up(tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path)
    assert lifecycle.missing_rules(settings) == []
    with pytest.raises(ConfigurationError, match="s3://bucket"):
        changes(settings)


def answer(body: str, headers: str = "") -> Answer:
    def send(connection: socket.socket) -> None:
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{headers}"
        connection.sendall(f"{head}\r\n{body}".encode())

    return send


NAMES = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
CLOSED = answer(
    "<PublicAccessBlockConfiguration>"
    + "".join(f"<{name}>true</{name}>" for name in NAMES)
    + "</PublicAccessBlockConfiguration>"
)
EMPTY = answer("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
REFUSED = status(403, "AccessDenied")
NO_RULES = status(404, "NoSuchLifecycleConfiguration")
PERMISSIONS = [
    ("s3:ListBucket", [status(403)]),
    ("s3:CreateBucket", [status(404), REFUSED]),
    ("s3:GetBucketPublicAccessBlock", [status(200), REFUSED]),
    (
        "s3:PutBucketPublicAccessBlock",
        [status(200), status(404, "NoSuchPublicAccessBlockConfiguration"), REFUSED],
    ),
    ("s3:ListBucket", [status(200), CLOSED, REFUSED]),
    ("s3:GetLifecycleConfiguration", [status(200), CLOSED, EMPTY, REFUSED]),
    ("s3:PutLifecycleConfiguration", [status(200), CLOSED, EMPTY, NO_RULES, REFUSED]),
]


@pytest.mark.parametrize(("permission", "answers"), PERMISSIONS, ids=[p for p, _ in PERMISSIONS])
@pytest.mark.usefixtures("aws")
def test_the_permission_that_is_missing_is_named(
    tmp_path: Path, permission: str, answers: list[Answer]
) -> None:
    with serving(*answers) as server, pytest.raises(BucketRefused) as caught:
        changes(at(server.endpoint, tmp_path), create_bucket=True)
    assert f"may not do {permission} on arn:aws:s3:::bucket:" in caught.value.detail


@pytest.mark.usefixtures("aws")
def test_rules_that_botocore_does_not_know_are_not_written_over(tmp_path: Path) -> None:
    strange = (
        "<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Filter><Prefix>x</Prefix>"
        "</Filter><DelMarkerExpiration><Days>3</Days></DelMarkerExpiration></Rule>"
        "</LifecycleConfiguration>"
    )
    with (
        serving(status(200), CLOSED, EMPTY, answer(strange)) as server,
        pytest.raises(BucketRefused, match="DelMarkerExpiration"),
    ):
        changes(at(server.endpoint, tmp_path))
    assert server.requests == 4  # nothing was put


@pytest.mark.usefixtures("aws")
def test_what_s3_says_beside_the_rules_goes_back_with_them(tmp_path: Path) -> None:
    header = "x-amz-transition-default-minimum-object-size"
    found = answer("<LifecycleConfiguration/>", f"{header}: varies_by_storage_class\r\n")
    with serving(found, status(200)) as server:
        bucket = Bucket.of(at(server.endpoint, tmp_path))
        assert bucket is not None
        sent: list[Any] = []
        bucket._client.meta.events.register(
            "before-send.s3.PutBucketLifecycleConfiguration",
            lambda request, **_: sent.append(request.headers[header]),
        )
        bucket.put_lifecycle(replace(bucket.lifecycle(), rules=[lifecycle.wanted_rule(30)]))
        bucket.close()
    assert sent == [b"varies_by_storage_class"]


@pytest.mark.usefixtures("aws")
def test_a_server_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(BlobsUnavailable, match="S3 does not answer"):
        changes(at(f"http://127.0.0.1:{port}", tmp_path))


@pytest.mark.usefixtures("aws")
def test_without_credentials_it_says_which_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigurationError, match="AWS_ACCESS_KEY_ID"):
        changes(at("http://127.0.0.1:1", tmp_path))


@pytest.mark.usefixtures("aws")
def test_without_botocore_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(ConfigurationError, match=r'pip install "nilometer\[s3\]"'):
        changes(at("http://127.0.0.1:1", tmp_path))


@pytest.mark.usefixtures("aws")
def test_plain_http_across_the_network_needs_a_word(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="AWS_ALLOW_HTTP"):
        changes(at("http://s3.example:9000", tmp_path))


def test_a_rule_that_deletes_from_a_date_on_is_told() -> None:
    rule = early("llma/") | {"Expiration": {"Date": datetime(2031, 2, 3, tzinfo=UTC)}}
    assert lifecycle.too_early([rule], [lifecycle.wanted_rule(30)]) == [
        "the rule early deletes what is in llma/ from 2031-02-03 on, before its retention of 30"
    ]
    assert lifecycle.too_early([rule], [lifecycle.wanted_rule(7)]) == []  # in llma-7d/


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AWS_ENDPOINT_URL", "localhost:9000", "is no address"),
        ("AWS_ENDPOINT_URL", "https://user:hidden-words@:x", "is no address"),
        ("AWS_PROFILE", "nobody", "profile (nobody) could not be found"),
    ],
)
def test_what_no_client_can_be_made_with_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        Bucket.of(load(data_dir=tmp_path, blobs_url="s3://bucket"))
    assert said in caught.value.detail
    assert "hidden-words" not in caught.value.detail


def test_the_command_says_what_it_changed(
    s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NILOMETER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NILOMETER_BLOBS_URL", f"s3://{bucket}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["blobs", "setup", *arguments])
        assert done.exit_code == code, done.output
        return done.output

    assert f"nilometer: there is no bucket {bucket}; --create-bucket" in run(code=1)
    assert run("--create-bucket", "--dry-run", "--retention", "90").splitlines() == [
        f"would change  the bucket {bucket} is made in us-east-1",
        "would change  public access is blocked",
        "would change  the rule nilometer-llma deletes what is in llma/ after 30 days",
        "would change  the rule nilometer-llma-90d deletes what is in llma-90d/ after 90 days",
    ]
    assert run("--create-bucket").startswith(f"changed       the bucket {bucket} is made")
    assert json.loads(run("--json")) == {
        "dry_run": False,
        "steps": [
            {"changed": False, "step": f"the bucket {bucket} is there"},
            {"changed": False, "step": "public access is blocked"},
            {
                "changed": False,
                "step": "the rule nilometer-llma deletes what is in llma/ after 30 days",
            },
        ],
    }
