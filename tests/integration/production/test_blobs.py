"""Blobs that events name are where they say, and are what they say: seen in their first bytes."""

import email.parser
import email.policy

import pytest

from tests.integration.production.read_only_s3 import MAX_READ, team_keys

_HEADERS = email.parser.BytesHeaderParser(policy=email.policy.default)
# Of one blob: the object's first line, the part's headers, and what stands before and after it.
_FEW = 1024 + 3 * 128


@pytest.fixture(scope="module")
def objects(blobs):
    return {blob.key: [each for each in blobs if each.key == blob.key] for blob in blobs}


def test_every_blob_is_in_the_bucket_under_the_prefix_of_the_team(blobs, configuration):
    keys = team_keys(configuration.team_id)
    assert {blob.bucket for blob in blobs} == {configuration.bucket}
    assert [blob.key for blob in blobs if not keys.match(blob.key)] == []


def test_every_object_exists_and_is_as_long_as_its_ranges(objects, bucket, configuration):
    before = bucket.bytes_read
    for key, blobs in objects.items():
        head = bucket.head(key)
        assert head["ContentType"].startswith("multipart/mixed"), key
        assert head["ContentLength"] > max(blob.end for blob in blobs), key
        assert head["Metadata"].get("team_id", configuration.team_id) == configuration.team_id
        assert blobs[0].event in key
    assert bucket.bytes_read == before


def test_every_range_is_one_mime_part_of_its_object(blobs, bucket):
    for blob in blobs:
        before = bucket.bytes_read
        delimiter = bucket.read(blob.key, 0, min(127, blob.end)).partition(b"\r\n")[0]
        assert delimiter.startswith(b"--"), blob
        ahead = bucket.read(blob.key, blob.start - len(delimiter) - 2, blob.start - 1)
        assert ahead == delimiter + b"\r\n", blob
        behind = bucket.read(blob.key, blob.end + 1, blob.end + 2 + len(delimiter))
        assert behind == b"\r\n" + delimiter, blob
        first = bucket.read(blob.key, blob.start, min(blob.end, blob.start + 1023))
        _check_part(blob, first)
        assert bucket.bytes_read - before <= _FEW < MAX_READ


def _check_part(blob, first):
    assert b"\r\n\r\n" in first, blob
    part = _HEADERS.parsebytes(first.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    assert not part.defects, blob
    assert part.get_content_disposition() == "form-data", blob
    assert part["Content-Disposition"].params["name"] == blob.name
    assert part["Content-Type"], blob
    assert part["Content-Encoding"] in (None, "gzip"), blob
