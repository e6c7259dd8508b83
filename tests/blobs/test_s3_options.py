"""What S3 is asked for beside the blobs: encryption, the bucket's place, the region."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from nilometer.blobs.configured import configured
from nilometer.blobs.s3_options import S3Options
from nilometer.blobs.store import BlobStore, open_store
from nilometer.errors import ConfigurationError
from nilometer.settings import load
from tests.blobs.conftest import QUICK, S3Server
from tests.blobs.samples import key_of, part, put, read

KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ENCRYPTION = "x-amz-server-side-encryption"


@dataclass
class Recorder:
    """A server that says yes to every request and keeps its first line and headers."""

    endpoint: str
    seen: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)


@contextmanager
def recording() -> Iterator[Recorder]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            recorder.seen.append((f"{self.command} {self.path}", dict(self.headers.items())))
            self.send_response(200)
            self.send_header("ETag", '"e"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        recorder = Recorder(f"http://127.0.0.1:{server.server_address[1]}")
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join()


def store_at(endpoint: str, options: S3Options, bucket: str = "bucket") -> BlobStore:
    return open_store(
        f"s3://{bucket}", bucket="unused", s3_endpoint=endpoint, s3_options=options, limits=QUICK
    )


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        (S3Options(), {}),
        (S3Options(encryption="AES256"), {ENCRYPTION: "AES256"}),
        (
            S3Options(encryption="aws:kms"),
            {ENCRYPTION: "aws:kms", f"{ENCRYPTION}-bucket-key-enabled": "true"},
        ),
        (
            S3Options(encryption="aws:kms:dsse", kms_key_id=KEY),
            {ENCRYPTION: "aws:kms:dsse", f"{ENCRYPTION}-aws-kms-key-id": KEY},
        ),
    ],
    ids=lambda value: value.encryption if isinstance(value, S3Options) else "",
)
@pytest.mark.usefixtures("aws")
def test_a_put_of_any_size_is_one_request_that_asks_for_the_encryption(
    options: S3Options, headers: dict[str, str]
) -> None:
    with recording() as server:
        store = store_at(server.endpoint, options)
        put(store, part("a", b"x"))
        put(store, part("a", bytes(25 << 20), "image/png"))  # the largest that capture accepts

    assert [line.partition(" ")[0] for line, _ in server.seen] == ["PUT", "PUT"]
    for _, sent in server.seen:
        lower = {name.lower(): value for name, value in sent.items()}
        assert {n: v for n, v in lower.items() if n.startswith(ENCRYPTION)} == headers


@pytest.mark.parametrize("encryption", ["AES256", "aws:kms"])
def test_s3_has_what_was_put_encrypted_and_it_is_read_back(s3: S3Server, encryption: str) -> None:
    kms = encryption == "aws:kms"
    store = store_at(
        s3.endpoint,
        S3Options(encryption=encryption, kms_key_id=KEY if kms else None),
        s3.new_bucket(),
    )

    [reference] = put(store, part("a", b"x"))

    found = s3.client.head_object(Bucket=store.bucket, Key=key_of(store, reference.url))
    assert found["ServerSideEncryption"] == encryption
    assert found.get("SSEKMSKeyId") == (KEY if kms else None)
    assert read(store, reference.url) == b"x"


@pytest.mark.parametrize("encryption", [None, "AES256"])
def test_a_key_without_kms_is_refused(encryption: str | None) -> None:
    with pytest.raises(ConfigurationError, match="NILOMETER_S3_ENCRYPTION"):
        S3Options(encryption=encryption, kms_key_id=KEY)


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("path_style", "address"),
    [(True, "http://s3.example/bucket/llma"), (False, "http://bucket.s3.example/llma")],
)
def test_the_bucket_is_in_the_path_or_in_the_host_name(
    monkeypatch: pytest.MonkeyPatch, path_style: bool, address: str
) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    with recording() as proxy:
        monkeypatch.setenv("http_proxy", proxy.endpoint)  # which is told the whole address
        put(store_at("http://s3.example", S3Options(path_style=path_style)), part("a", b"x"))

    [(line, _)] = proxy.seen
    assert line.startswith(f"PUT {address}/1/")


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_of_the_environment_signs(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv(variable, "eu-central-1")
    with recording() as server:
        put(store_at(server.endpoint, S3Options()), part("a", b"x"))

    [(_, headers)] = server.seen
    assert "/eu-central-1/s3/aws4_request" in headers["authorization"]


@pytest.mark.usefixtures("aws")
def test_the_settings_reach_the_requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with recording() as server:
        store = configured(
            load(
                data_dir=tmp_path,
                blobs_url="s3://bucket",
                s3_endpoint=server.endpoint,
                s3_encryption="aws:kms",
                s3_kms_key_id=KEY,
            )
        )
        put(store, part("a", b"x"))

    [(line, headers)] = server.seen
    assert line.startswith("PUT /bucket/llma/1/")
    assert headers[f"{ENCRYPTION}-aws-kms-key-id"] == KEY
