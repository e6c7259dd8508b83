"""What a blob URL says, and what the bytes of a stored part hold.

A part is read as any MIME reader does it, with the standard library: headers, a blank line, a
body, and gzip undone where the part says that it was applied.
"""

from __future__ import annotations

import email.policy
import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser

from tests.acceptance.llma.api import StoredEvent
from tests.acceptance.llma.multipart import Blob

_URL = re.compile(r"(s3)://([a-z0-9.-]+)/([^?]+)\?range=(\d+)-(\d+)")
_KEY = re.compile(
    r"(llma(?:-[a-z0-9]+)?)/(\d+)/(\d{4}-\d{2}-\d{2})/([0-9a-f-]{36})_[^/]+\.multipart"
)


@dataclass(frozen=True, slots=True)
class BlobUrl:
    """A blob's place: an object, and the first and last byte of its part, inclusive."""

    bucket: str
    key: str
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes of the part."""
        return self.end - self.start + 1


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """What the key of an object says. `date` is YYYY-MM-DD."""

    prefix: str
    team_id: int
    date: str
    event_uuid: str


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part as it is stored. `data` is decoded; `stored_size` is what its body takes."""

    name: str
    content_type: str
    content_encoding: str | None
    data: bytes
    stored_size: int


def parse_url(text: object) -> BlobUrl:
    """The place that a property's value names; AssertionError for anything else."""
    match = _URL.fullmatch(text) if isinstance(text, str) else None
    assert match is not None, f"not a blob URL: {text!r}"
    return BlobUrl(match[2], match[3], int(match[4]), int(match[5]))


def place_of(event: StoredEvent, blob: Blob) -> BlobUrl:
    """Where a stored event says that one of its blobs is."""
    return parse_url(event.properties.get(blob.name))


def parse_key(key: str) -> ObjectKey:
    """The parts of an object's key; AssertionError for a key of another layout."""
    match = _KEY.fullmatch(key)
    assert match is not None, f"not the key of a blob object: {key}"
    return ObjectKey(match[1], int(match[2]), match[3], match[4])


def parse_part(data: bytes) -> StoredPart:
    """The part that a byte range holds."""
    head, blank, body = data.partition(b"\r\n\r\n")
    assert blank, f"a part without a head: {head[:80]!r}"
    headers = _headers(head)
    encoding = headers["Content-Encoding"]
    return StoredPart(
        name=str(headers.get_param("name", header="Content-Disposition")),
        content_type=str(headers["Content-Type"]),
        content_encoding=None if encoding is None else str(encoding),
        data=gzip.decompress(body) if encoding == "gzip" else body,
        stored_size=len(body),
    )


def parse_object(content_type: str, data: bytes) -> list[StoredPart]:
    """All parts of a whole object, split at its boundary by the rules of MIME."""
    headers = _headers(f"Content-Type: {content_type}".encode())
    assert headers.get_content_type() == "multipart/mixed", content_type
    boundary = str(headers.get_boundary())
    return [parse_part(part) for part in split(data, boundary)]


def split(data: bytes, boundary: str) -> list[bytes]:
    """The parts between the delimiters of a `multipart` body (RFC 2046, section 5.1.1).

    The standard library reads a binary part as lines of text, so it must not be what cuts one out.
    """
    delimiter = b"--" + boundary.encode()
    assert data.startswith(delimiter + b"\r\n"), "the object does not begin with its boundary"
    inner, end, _ = data.partition(b"\r\n" + delimiter + b"--")
    assert end, "the object does not end with its boundary"
    return inner.removeprefix(delimiter + b"\r\n").split(b"\r\n" + delimiter + b"\r\n")


def _headers(head: bytes) -> Message:
    parser = BytesHeaderParser(policy=email.policy.compat32)
    headers = parser.parsebytes(head + b"\r\n\r\n")
    assert not headers.defects, headers.defects
    return headers


def index_of(metadata: Mapping[str, str], data: bytes) -> list[dict[str, str]]:
    """The index of an object's parts: from its metadata, or from its last line where it says so.

    `data` is the whole object.
    """
    if metadata["parts"] == "see-epilogue":
        return json.loads(data.rstrip(b"\r\n").rpartition(b"\r\n")[2])["parts"]
    return json.loads(metadata["parts"])
