"""The `multipart/mixed` object of one event's blobs (capture contract, section 4).

Each part is `--B CRLF`, its headers, a blank line, the body, `CRLF`; `--B-- CRLF` ends the object.
A blob's range covers its part's headers, the blank line and the body, so that a reader needs no
other byte of the object to know what it has.

After the end may come one line of JSON, the object's metadata with an index of its parts. MIME
calls this place the epilogue and its readers skip it. `file://` objects have it, because files
carry no metadata; `s3://` objects have it when the index does not fit into user metadata.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nilometer.blobs.compression import LEVEL, MIN_COMPRESS_BYTES, compress, is_compressible
from nilometer.blobs.types import BlobPart
from nilometer.errors import InvalidInput

MAX_NAME_BYTES = 256
MAX_CONTENT_TYPE_LENGTH = 256
MAX_HEAD_BYTES = 1024
"""No part head is longer: 256 bytes of name, 256 of type, 64 of encoding, and the fixed text."""

MAX_USER_METADATA_BYTES = 2000
"""S3 allows 2,048 bytes of user metadata, names and values together."""

SEE_EPILOGUE = "see-epilogue"
_ALPHANUMERIC = string.ascii_letters + string.digits
# Quotes and backslashes, controls, line and paragraph separators, lone surrogates.
_HEADER_BREAKING = re.compile('["\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110; several codings never met
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")
_HEAD = re.compile(
    rb'Content-Disposition: form-data; name="([^"\r\n]+)"\r\n'
    rb"Content-Type: ([\x20-\x7e]+)\r\n"
    rb"(?:Content-Encoding: ([\x21-\x7e]+)\r\n)?"
    rb"\r\n"
)


@dataclass(frozen=True, slots=True)
class EncodedPart:
    """One part as it is stored, and where: `start` and `end` are inclusive."""

    name: str
    content_type: str
    content_encoding: str | None
    compressed_here: bool
    size: int
    stored_size: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class EncodedObject:
    """A whole object: its bytes as a list of buffers, its type, and the index of its parts."""

    content_type: str
    parts: tuple[EncodedPart, ...]
    buffers: list[bytes]


@dataclass(frozen=True, slots=True)
class PartHead:
    """What a part's headers say. `length` is theirs, with the blank line."""

    name: str
    content_type: str
    content_encoding: str | None
    length: int


@dataclass(frozen=True, slots=True)
class ObjectMetadata:
    """What is said about an object beside its parts. The timestamp is RFC 3339, UTC."""

    team_id: int
    event_id: str
    upload_timestamp: str


def check_parts(parts: Sequence[BlobPart]) -> None:
    """Raise InvalidInput, naming the part, for what cannot be written as headers."""
    names: set[str] = set()
    for part in parts:
        _check_name(part.name)
        if part.name in names:
            raise InvalidInput(f"two blobs are named {part.name!a}", attr=part.name)
        names.add(part.name)
        _check_headers(part)


def is_name(name: str) -> bool:
    """Whether a part can have this name."""
    return (
        bool(name)
        and _HEADER_BREAKING.search(name) is None
        and len(name.encode()) <= MAX_NAME_BYTES
    )


def new_boundary(event_id: str) -> str:
    """A boundary that no body contains, chosen after the bodies and at random."""
    number = secrets.randbelow(
        len(_ALPHANUMERIC) ** 8
    )  # one call for all eight: they cost 2 µs each
    suffix = ""
    for _ in range(8):
        number, digit = divmod(number, len(_ALPHANUMERIC))
        suffix += _ALPHANUMERIC[digit]
    return f"----posthog-ai-{event_id}-{suffix}"


def encode(parts: Sequence[BlobPart], boundary: str, level: int = LEVEL) -> EncodedObject:
    """The object of these parts, which `check_parts` has passed; compresses what is worth it, at
    this level of zlib's."""
    buffers: list[bytes] = []
    encoded: list[EncodedPart] = []
    offset = 0
    for part in parts:
        delimiter = f"--{boundary}\r\n" if not encoded else f"\r\n--{boundary}\r\n"
        offset += len(delimiter)
        buffers.append(delimiter.encode())
        item, head, body = _encode_part(part, offset, level)
        buffers.append(head)
        buffers.extend(body)
        encoded.append(item)
        offset = item.end + 1
    buffers.append(f"\r\n--{boundary}--\r\n".encode())
    return EncodedObject(f"multipart/mixed; boundary={boundary}", tuple(encoded), buffers)


def parse_head(data: bytes) -> PartHead | None:
    """The headers at the start of a part, or None if the bytes do not begin as a part does."""
    match = _HEAD.match(data, 0, MAX_HEAD_BYTES)
    if match is None:
        return None
    return PartHead(
        match[1].decode(errors="replace"),
        match[2].decode(),
        match[3].decode() if match[3] else None,
        match.end(),
    )


def epilogue(metadata: ObjectMetadata, parts: Sequence[EncodedPart]) -> bytes:
    """The line of JSON that may follow the object's end."""
    fields = {
        "team_id": metadata.team_id,
        "event_id": metadata.event_id,
        "upload_timestamp": metadata.upload_timestamp,
        "parts": _index(parts),
    }
    return json.dumps(fields, separators=(",", ":")).encode() + b"\r\n"


def user_metadata(
    metadata: ObjectMetadata, parts: Sequence[EncodedPart]
) -> tuple[dict[str, str], bool]:
    """The same as S3 user metadata, and whether the index fits into it.

    When it does not, `parts` says `see-epilogue` and the object has to end with `epilogue`.
    """
    fields = {
        "team_id": str(metadata.team_id),
        "event_id": metadata.event_id,
        "upload_timestamp": metadata.upload_timestamp,
        "parts": json.dumps(_index(parts), separators=(",", ":")),
    }
    fits = sum(len(name) + len(value) for name, value in fields.items()) <= MAX_USER_METADATA_BYTES
    if not fits:
        fields["parts"] = SEE_EPILOGUE
    return fields, fits


def _index(parts: Sequence[EncodedPart]) -> list[dict[str, str]]:
    return [dict(_index_fields(part)) for part in parts]


def _index_fields(part: EncodedPart) -> Iterator[tuple[str, str]]:
    yield "name", part.name
    yield "range", f"{part.start}-{part.end}"
    yield "type", part.content_type
    if part.content_encoding is not None:
        yield "encoding", part.content_encoding
        yield "encoded_by", "nilometer" if part.compressed_here else "client"


def _encode_part(
    part: BlobPart, start: int, level: int
) -> tuple[EncodedPart, bytes, Sequence[bytes]]:
    body, encoding = part.chunks, part.content_encoding
    compressed = compress(body, level) if _worth_compressing(part) else None
    if compressed is not None:
        body, encoding = compressed, "gzip"
    head = _head(part.name, part.content_type, encoding)
    stored_size = sum(len(chunk) for chunk in body)
    encoded = EncodedPart(
        name=part.name,
        content_type=part.content_type,
        content_encoding=encoding,
        compressed_here=compressed is not None,
        size=part.size,
        stored_size=stored_size,
        start=start,
        end=start + len(head) + stored_size - 1,
    )
    return encoded, head, body


def _worth_compressing(part: BlobPart) -> bool:
    return (
        part.content_encoding is None
        and is_compressible(part.content_type)
        and part.size >= MIN_COMPRESS_BYTES
    )


def _head(name: str, content_type: str, content_encoding: str | None) -> bytes:
    encoding = f"Content-Encoding: {content_encoding}\r\n" if content_encoding else ""
    return (
        f'Content-Disposition: form-data; name="{name}"\r\n'
        f"Content-Type: {content_type}\r\n"
        f"{encoding}\r\n"
    ).encode()


def _check_name(name: str) -> None:
    """Refuse what would end the header or that MIME readers read differently (a backslash)."""
    if not name or _HEADER_BREAKING.search(name):
        raise InvalidInput(
            f"a blob cannot be named {name[:64]!a}: quotes, backslashes, line breaks and control "
            "characters are not allowed",
            attr=name[:64],
        )
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidInput(f"a blob's name has more than {MAX_NAME_BYTES} bytes", attr=name[:64])


def _check_headers(part: BlobPart) -> None:
    content_type = part.content_type
    printable = _HEADER_VALUE.fullmatch(content_type) is not None
    if not printable or len(content_type) > MAX_CONTENT_TYPE_LENGTH:
        raise InvalidInput(
            f"the content type of blob {part.name!a} is not 1 to {MAX_CONTENT_TYPE_LENGTH} "
            "printable ASCII characters",
            attr=part.name,
        )
    if part.content_encoding is not None and not _TOKEN.fullmatch(part.content_encoding):
        raise InvalidInput(
            f"the content encoding of blob {part.name!a} is not a token such as gzip",
            attr=part.name,
        )
