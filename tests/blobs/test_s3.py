"""S3: what a bucket holds afterwards, and what a put says when the server misbehaves."""

import asyncio
import gc
import json
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest

from nilometer.blobs.backend import Limits
from nilometer.blobs.store import BlobStore, open_store
from nilometer.blobs.types import BlobNotFound, BlobsFull, BlobsUnavailable
from nilometer.errors import ConfigurationError
from tests.blobs.conftest import QUICK, S3Server
from tests.blobs.misbehaving import Server, cut_off, reset, serving, status
from tests.blobs.samples import EVENT, Traced, all_keys, key_of, noise, part, prose, put, read
from tests.running import wait_until

UNREACHABLE = f"s3://bucket/llma/1/2100-01-01/{EVENT}_0123456789abcdef.multipart?range=0-9"


def store_at(endpoint: str | None, bucket: str = "bucket", limits: Limits = QUICK) -> BlobStore:
    return open_store(f"s3://{bucket}", bucket="unused", s3_endpoint=endpoint, limits=limits)


def head(s3: S3Server, store: BlobStore, url: str) -> Any:
    return s3.client.head_object(Bucket=store.bucket, Key=key_of(store, url))


def body(s3: S3Server, store: BlobStore, url: str) -> bytes:
    found = s3.client.get_object(Bucket=store.bucket, Key=key_of(store, url))
    data: bytes = found["Body"].read()
    return data


def test_the_object_has_the_contracts_type_size_and_metadata(
    s3: S3Server, s3_store: BlobStore
) -> None:
    references = put(
        s3_store,
        *(part(f"$ai_blob{i}", b"x" * n) for i, n in ((1, 100), (2, 200), (3, 150))),
        project=5,
    )

    found = head(s3, s3_store, references[0].url)
    data = body(s3, s3_store, references[0].url)
    boundary = data.partition(b"\r\n")[0].removeprefix(b"--").decode()
    assert found["ContentType"] == f"multipart/mixed; boundary={boundary}"
    assert "ContentEncoding" not in found
    assert len(data) == found["ContentLength"] == 948
    assert [r.url.partition("range=")[2] for r in references] == ["64-241", "308-585", "652-879"]
    assert found["Metadata"]["team_id"] == "5"
    assert found["Metadata"]["event_id"] == EVENT
    assert found["Metadata"]["upload_timestamp"].endswith("+00:00")
    assert json.loads(found["Metadata"]["parts"])[1] == {
        "name": "$ai_blob2",
        "range": "308-585",
        "type": "text/plain",
    }


def test_names_of_any_language_survive_in_the_metadata(s3: S3Server, s3_store: BlobStore) -> None:
    [reference] = put(s3_store, part("入力 é", prose(2000)))

    index = json.loads(head(s3, s3_store, reference.url)["Metadata"]["parts"])

    assert index[0]["name"] == "入力 é"
    assert (index[0]["encoding"], index[0]["encoded_by"]) == ("gzip", "nilometer")


def test_an_index_too_long_for_metadata_ends_the_object(s3: S3Server, s3_store: BlobStore) -> None:
    references = put(s3_store, *(part(f"$ai_blob{i}", b"%d" % i) for i in range(60)))

    assert head(s3, s3_store, references[0].url)["Metadata"]["parts"] == "see-epilogue"
    data = body(s3, s3_store, references[0].url)
    index = json.loads(data.rpartition(b"--\r\n")[2])["parts"]
    assert [entry["name"] for entry in index] == [f"$ai_blob{i}" for i in range(60)]
    assert read(s3_store, references[59].url) == b"59"


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_endpoint_of_the_environment_is_used(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, s3.endpoint)
    store = store_at(None, s3.new_bucket())

    [reference] = put(store, part("a", b"x"))

    assert body(s3, store, reference.url)
    assert read(store, reference.url) == b"x"


def test_the_setting_wins_over_the_environment(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    store = store_at(s3.endpoint, s3.new_bucket())

    assert put(store, part("a", b"x"))


@pytest.mark.usefixtures("aws")
def test_plain_http_across_the_network_needs_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="AWS_ALLOW_HTTP"):
        store_at("http://minio.example:9000")

    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    store_at("http://minio.example:9000").close()


def test_a_missing_bucket_is_unavailable_and_not_a_missing_blob(s3: S3Server) -> None:
    # Every server of moto in this process has the same buckets.
    store = store_at(s3.endpoint, f"missing-{uuid4()}")

    for failing in each_operation(store):
        with pytest.raises(BlobsUnavailable, match="NoSuchBucket"):
            failing()


def each_operation(store: BlobStore) -> list[Callable[[], object]]:
    return [
        lambda: put(store, part("a", b"x")),
        lambda: read(store, UNREACHABLE.replace("bucket", store.bucket)),
        lambda: asyncio.run(store.probe()),
        lambda: all_keys(store),
        lambda: asyncio.run(store.delete_project(1)),
    ]


@pytest.mark.usefixtures("aws")
def test_a_server_that_refuses_connections_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    store = store_at(f"http://127.0.0.1:{port}")

    for failing in each_operation(store):
        with pytest.raises(BlobsUnavailable, match="no answer") as caught:
            failing()
        assert caught.value.retry_after > 0


@pytest.mark.usefixtures("aws")
def test_a_server_that_hangs_is_unavailable_within_the_limits() -> None:
    limits = Limits(connect=3, attempt=3, retries=5, retry_window=60, put=5, probe=4)
    with serving() as server:
        server.script(server.hang)
        store = store_at(server.endpoint, limits=limits)
        started = monotonic()

        with pytest.raises(BlobsUnavailable):
            put(store, part("a", b"x"))
        with pytest.raises(BlobsUnavailable):
            asyncio.run(store.probe())

        assert monotonic() - started < 40
        wait_until(lambda: server.requests >= 2)


@pytest.mark.usefixtures("aws")
def test_a_put_to_a_server_that_hangs_holds_nothing_once_it_has_timed_out() -> None:
    with serving() as server:
        server.script(server.hang)
        store = store_at(server.endpoint, limits=Limits(connect=4, put=4))

        with pytest.raises(BlobsUnavailable):
            put(store, part("a", Traced(noise(100_000))))

        wait_until(lambda: server.requests == 1)
        wait_until(lambda: gc.collect() >= 0 and Traced.alive == 0)


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("fault", [status(500), status(503, "SlowDown"), cut_off])
def test_a_put_that_fails_once_is_tried_again(fault: Callable[[socket.socket], None]) -> None:
    with serving(fault, status(200)) as server:
        assert put(store_at(server.endpoint), part("a", b"x"))

        assert server.requests == 2


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("fault", [status(507), status(403, "QuotaExceeded")], ids=["507", "quota"])
def test_a_server_without_room_is_full(fault: Callable[[socket.socket], None]) -> None:
    with serving(fault) as server, pytest.raises(BlobsFull):
        put(store_at(server.endpoint), part("a", b"x"))


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("fault", "said"),
    [(status(500), "status 500"), (status(503, "SlowDown"), "SlowDown"), (cut_off, "no answer")],
    ids=["error", "slow down", "cut off"],
)
def test_a_server_that_always_fails_is_unavailable_after_a_few_attempts(
    fault: Callable[[socket.socket], None], said: str
) -> None:
    with serving(fault) as server:
        with pytest.raises(BlobsUnavailable, match=said):
            put(store_at(server.endpoint), part("a", b"x"))

        assert server.requests == 1 + QUICK.retries


@pytest.mark.usefixtures("aws")
def test_a_connection_torn_down_in_the_middle_of_an_upload_is_unavailable() -> None:
    large = part("a", noise(8 << 20), "application/octet-stream")
    with serving(reset, reads_bodies=False) as server:
        with pytest.raises(BlobsUnavailable, match="no answer"):
            put(store_at(server.endpoint), large)

        assert server.requests == 1 + QUICK.retries


@pytest.mark.usefixtures("aws")
def test_a_refusal_is_not_tried_again_and_its_code_is_told() -> None:
    with serving(status(403, "AccessDenied")) as server:
        with pytest.raises(BlobsUnavailable, match="AccessDenied") as caught:
            put(store_at(server.endpoint), part("a", b"content"))

        assert server.requests == 1
        assert "content" not in caught.value.detail
        assert "test-key" not in caught.value.detail


@pytest.mark.usefixtures("aws")
def test_a_missing_object_is_not_found_and_a_failing_read_is_unavailable() -> None:
    with serving(status(404, "NoSuchKey")) as server, pytest.raises(BlobNotFound):
        read(store_at(server.endpoint), UNREACHABLE)
    with serving(status(500)) as server, pytest.raises(BlobsUnavailable):
        read(store_at(server.endpoint), UNREACHABLE)


@pytest.mark.usefixtures("aws")
def test_a_put_that_is_cancelled_lets_go_of_the_server() -> None:
    async def give_up(server: Server) -> None:
        store = store_at(server.endpoint)
        upload = asyncio.ensure_future(store.put(1, EVENT, 0, 30, [part("a", b"x")]))
        await asyncio.to_thread(server.arrived.wait)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload

    with serving() as server:
        server.script(server.hang)
        asyncio.run(asyncio.wait_for(give_up(server), 20))
