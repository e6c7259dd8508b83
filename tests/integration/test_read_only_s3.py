"""The S3 client of the production suite reads a little of one team, and nothing else leaves it."""

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from moto.server import ThreadedMotoServer

from tests.integration.listener import listening
from tests.integration.production.pace import Pace
from tests.integration.production.read_only_s3 import MAX_READ, NotARange, ReadOnlyBucket
from tests.integration.production.refused import Refused

KEY = "llma/12/2026-11-20/0197c5a2_1.multipart"
OURS = {"Bucket": "bucket", "Key": KEY}
RANGE = {"Range": "bytes=0-9"}
REFUSED = [
    ("put_object", OURS | {"Body": b"x"}),
    ("put_object", OURS | {"Body": b""}),
    ("delete_object", OURS),
    ("delete_objects", {"Bucket": "bucket", "Delete": {"Objects": [{"Key": KEY}]}}),
    ("copy_object", OURS | {"CopySource": f"bucket/{KEY}"}),
    ("restore_object", OURS),
    ("create_multipart_upload", OURS),
    ("put_object_tagging", OURS | {"Tagging": {"TagSet": []}}),
    ("put_object_acl", OURS | {"ACL": "public-read"}),
    ("create_bucket", {"Bucket": "bucket"}),
    ("delete_bucket", {"Bucket": "bucket"}),
    ("put_bucket_policy", {"Bucket": "bucket", "Policy": "{}"}),
    ("put_bucket_lifecycle_configuration", {"Bucket": "bucket"}),
    ("select_object_content", OURS | {"Expression": "", "ExpressionType": "SQL"}),
    ("list_buckets", {}),
    ("list_objects_v2", {"Bucket": "bucket", "Prefix": "llma/12/"}),
    ("get_bucket_acl", {"Bucket": "bucket"}),
    ("create_session", {"Bucket": "bucket"}),
    ("head_object", OURS | {"Bucket": "other"}),
    ("get_object", OURS),
    ("get_object", OURS | {"Range": "bytes=0-"}),
    ("get_object", OURS | {"Range": "bytes=-10"}),
    ("get_object", OURS | {"Range": f"bytes=0-{MAX_READ}"}),
    ("get_object", OURS | {"Range": "bytes=0-1,0-9999999"}),
]
NOT_OURS = [
    "llma/13/x",
    "llma/1/x",
    "llma/120/x",
    "llma/12",
    "llma-90d/13/x",
    "llma-90d/x/12/x",
    "x/llma/12/x",
    "/llma/12/x",
    "llma/12/../13/x",
    "llma/12/..",
    "llma/12/./x",
    "llma//12/x",
    "llma/.probe/12/",
    "",
]


def reading(configured, url):
    return ReadOnlyBucket(configured(url), Pace(0))


@pytest.mark.parametrize(("operation", "parameters"), REFUSED)
def test_not_a_byte_of_anything_else_is_sent(configured, operation, parameters):
    with listening() as listener:
        client = reading(configured, listener.url).client
        with pytest.raises(Refused):
            getattr(client, operation)(**parameters)
        client.close()
    assert (listener.connections, listener.received) == (0, b"")


def test_uploads_in_the_background_send_nothing_either(configured, tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 9_000_000)
    with listening() as listener:
        client = reading(configured, listener.url).client
        with pytest.raises(Refused):
            client.upload_file(str(tmp_path / "file"), "bucket", KEY)
        with pytest.raises(Refused):
            client.copy({"Bucket": "other", "Key": KEY}, "bucket", KEY)
        with pytest.raises(Refused):
            client.get_waiter("bucket_exists").wait(Bucket="bucket")
        client.close()
    assert listener.connections == 0


@pytest.mark.parametrize("key", NOT_OURS)
@pytest.mark.parametrize("operation", ["head_object", "get_object"])
def test_not_a_byte_about_another_team_is_sent(configured, operation, key):
    with listening() as listener:
        client = reading(configured, listener.url).client
        with pytest.raises(Refused):
            getattr(client, operation)(Bucket="bucket", Key=key, **RANGE)
        client.close()
    assert listener.connections == 0


def test_a_request_that_was_changed_after_its_parameters_were_seen_is_refused(configured):
    with listening() as listener:
        client = reading(configured, listener.url).client

        def change(request, **_):
            request.method = "DELETE"

        client.meta.events.register("before-sign.s3", change)
        with pytest.raises(Refused):
            client.head_object(**OURS)
        client.close()
    assert listener.connections == 0


@pytest.mark.parametrize("key", [KEY, "llma-90d/12/x", "llma-365d/12/2026-11-20/é_ü.multipart"])
def test_the_listener_would_have_seen_it(configured, key):
    with listening() as listener:
        bucket = reading(configured, listener.url)
        with pytest.raises((BotoCoreError, ClientError)):  # it hangs up without an answer
            bucket.head(key)
        bucket.client.close()
    assert listener.connections >= 1
    assert listener.received.startswith(b"HEAD /bucket/llma")


@pytest.fixture(scope="module")
def s3():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="id",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket="bucket")
    client.put_object(**OURS, Body=bytes(range(250)) * 40_000, Metadata={"team_id": "12"})
    yield url
    client.close()
    server.stop()


def test_of_ten_megabytes_a_few_bytes_are_read(configured, s3):
    bucket = reading(configured, s3)
    head = bucket.head(KEY)
    assert (head["ContentLength"], head["Metadata"]) == (10_000_000, {"team_id": "12"})
    assert bucket.bytes_read == 0
    assert bucket.read(KEY, 9_999_998, 9_999_999) == b"\xf8\xf9"
    assert bucket.read(KEY, 250, 259) == bytes(range(10))
    assert bucket.bytes_read == 12
    bucket.client.close()


def test_what_is_not_there_is_an_error(configured, s3):
    bucket = reading(configured, s3)
    with pytest.raises(ClientError, match="404"):
        bucket.head("llma/12/none")
    with pytest.raises((ClientError, NotARange)):
        bucket.read(KEY, 10_000_000, 10_000_009)
    with pytest.raises(NotARange):
        bucket.read(KEY, 9_999_999, 10_000_009)  # shorter than was asked for
    assert bucket.bytes_read == 0
    bucket.client.close()
