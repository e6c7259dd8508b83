"""Objects of a directory in a bucket: the bytes, the metadata and the URLs of events hold."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nilometer.blobs.keys import parse_blob_url
from nilometer.blobs.moving import as_stored, taken_apart
from nilometer.blobs.store import BlobStore, StoredObject, open_store
from nilometer.blobs.types import BlobNotFound, InvalidBlobUrl
from nilometer.domain.ai_record import BlobReference
from nilometer.migrate_data.objects import Objects
from tests.blobs.conftest import QUICK, S3Server
from tests.blobs.samples import BUCKET, all_keys, files, noise, part, prose, put, read

PARTS = (
    part("$ai_input", prose(5000)),
    part("$ai_output", noise(3000), "application/octet-stream"),
    part("$ai_tools", noise(50), "application/json", "br"),
)


class Steps:
    """Counts the objects that a move tells of."""

    def __init__(self) -> None:
        self.count = 0

    def begin(self, step: str, total: int) -> None: ...

    def advance(self, count: int) -> None:
        self.count += count


@pytest.fixture
def bucket(s3: S3Server) -> Iterator[BlobStore]:
    """Where the blobs of `local_store` are moved to."""
    url = f"s3://{s3.new_bucket()}"
    store = open_store(url, bucket=BUCKET, s3_endpoint=s3.endpoint, limits=QUICK)
    yield store
    store.close()


def move(source: BlobStore, target: BlobStore) -> int:
    return Objects(source, target).move(Steps())


def differing(source: BlobStore, target: BlobStore) -> list[int | None]:
    return [each.project_id for each in Objects(source, target).compare() if not each.equal]


def test_an_object_arrives_as_if_it_had_been_put_there(
    s3: S3Server, local_store: BlobStore, bucket: BlobStore
) -> None:
    references = put(local_store, *PARTS, project=7, days=90)
    assert move(local_store, bucket) == 1
    [key] = all_keys(bucket)
    found = s3.client.get_object(Bucket=bucket.bucket, Key=key)
    body = found["Body"].read()
    assert found["ContentType"].removeprefix("multipart/mixed; boundary=").encode() in body
    assert body.endswith(b"--\r\n")
    index = json.loads(found["Metadata"]["parts"])
    assert [each["range"] for each in index] == [
        reference.url.partition("range=")[2] for reference in references
    ]
    assert (found["Metadata"]["team_id"], index[2]["encoded_by"]) == ("7", "client")
    assert found["Metadata"]["upload_timestamp"].endswith("+00:00")
    assert differing(local_store, bucket) == []


def test_urls_of_before_are_read_from_the_bucket_by_their_project_alone(
    local_store: BlobStore, bucket: BlobStore, s3_store: BlobStore
) -> None:
    references = put(local_store, *PARTS)
    move(local_store, bucket)
    for each, sent in zip(references, PARTS, strict=True):
        assert read(bucket, each.url) == b"".join(sent.chunks)
    with pytest.raises(BlobNotFound):
        read(bucket, references[0].url, project=2)
    for url in (references[0].url.replace(BUCKET, "another"), references[0].url.replace("?", "x?")):
        with pytest.raises(InvalidBlobUrl):
            read(bucket, url)
    with pytest.raises(InvalidBlobUrl):
        read(s3_store, references[0].url)  # its own name of before is another


def test_an_index_too_long_for_metadata_stays_behind_the_object(
    s3: S3Server, local_store: BlobStore, bucket: BlobStore
) -> None:
    many = [part(f"$ai_blob_{number:03}", noise(100)) for number in range(60)]
    references = put(local_store, *many)
    move(local_store, bucket)
    [key] = all_keys(bucket)
    found = s3.client.get_object(Bucket=bucket.bucket, Key=key)
    assert found["Metadata"]["parts"] == "see-epilogue"
    assert len(json.loads(found["Body"].read().splitlines()[-1])["parts"]) == 60
    assert read(bucket, references[59].url) == b"".join(many[59].chunks)
    assert differing(local_store, bucket) == []


def test_what_is_there_is_not_moved_again_and_what_is_otherwise_is(
    s3: S3Server, local_store: BlobStore, bucket: BlobStore
) -> None:
    for project in (1, 2, 3):
        put(local_store, *PARTS, project=project)
    assert move(local_store, bucket) == 3
    assert move(local_store, bucket) == 0
    keys = all_keys(bucket)
    known = s3.client.head_object(Bucket=bucket.bucket, Key=keys[0])
    s3.client.put_object(Bucket=bucket.bucket, Key=keys[0], Body=b"\0" * known["ContentLength"])
    s3.client.delete_object(Bucket=bucket.bucket, Key=keys[2])
    assert differing(local_store, bucket) == [1, 3]
    assert move(local_store, bucket) == 2
    assert differing(local_store, bucket) == []


def test_a_storage_that_tells_no_digest_is_read(
    local_store: BlobStore, bucket: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(local_store, *PARTS)
    move(local_store, bucket)
    listed = bucket.list_objects

    def encrypted(day):  # type: ignore[no-untyped-def]
        for page in listed(day):
            yield [StoredObject(each.name, each.modified, each.size, "0" * 32) for each in page]

    monkeypatch.setattr(bucket, "list_objects", encrypted)
    assert move(local_store, bucket) == 0
    assert differing(local_store, bucket) == []


def test_a_damaged_object_keeps_the_ranges_that_hold(
    root: Path, local_store: BlobStore, bucket: BlobStore
) -> None:
    references = put(local_store, *PARTS)
    [file] = files(root / "llma")
    file.write_bytes(file.read_bytes()[:-40])
    move(local_store, bucket)
    assert read(bucket, references[1].url) == b"".join(PARTS[1].chunks)
    assert differing(local_store, bucket) == []


def test_expired_objects_and_what_is_not_ours_stay_behind(
    root: Path, local_store: BlobStore, bucket: BlobStore
) -> None:
    old: tuple[BlobReference, ...] = put(local_store, *PARTS, accepted_at=1_600_000_000_000_000)
    assert old
    (root / "llma/1/2100-01-01").mkdir(parents=True)
    (root / "llma/1/2100-01-01/notes.txt").write_text("mine")
    assert move(local_store, bucket) == 0
    assert differing(local_store, bucket) == []


def test_taking_apart_and_putting_together_gives_the_same_bytes(local_store: BlobStore) -> None:
    [reference, *_] = put(local_store, *PARTS)
    name = parse_blob_url(reference.url, "file", BUCKET).name
    data = asyncio.run(local_store.read_object(name))
    assert b"".join(as_stored("file", *taken_apart(name, data))) == data
