"""Requests built byte by byte: any boundary, any framing, gzip by part or whole."""

from __future__ import annotations

import gzip
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BLOB_PREFIX = "event.properties."


@dataclass(frozen=True, slots=True)
class Blob:
    """A large value: the property that it stands for, its type and its bytes.

    `gzipped` sends it compressed, with `Content-Encoding: gzip` on its part.
    """

    name: str
    content_type: str
    data: bytes
    gzipped: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form: its name, its other headers, its bytes as they travel."""

    name: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """Header lines, the blank line, the body."""
        lines = {"Content-Disposition": f'form-data; name="{self.name}"', **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return head.encode() + b"\r\n" + self.body


@dataclass(frozen=True, slots=True)
class Form:
    """A request's body with its headers."""

    body: bytes
    headers: Mapping[str, str]


def event_parts(
    event: Mapping[str, Any], properties: Mapping[str, Any], blobs: Iterable[Blob] = ()
) -> list[Part]:
    """The parts of an event in the order that the contract demands."""
    as_json = {"Content-Type": "application/json"}
    return [
        Part("event", json.dumps(event).encode(), as_json),
        Part("event.properties", json.dumps(properties).encode(), as_json),
        *map(blob_part, blobs),
    ]


def blob_part(blob: Blob) -> Part:
    """The part that a blob travels in."""
    headers = {"Content-Type": blob.content_type}
    if blob.gzipped:
        headers["Content-Encoding"] = "gzip"
    body = gzip.compress(blob.data, mtime=0) if blob.gzipped else blob.data
    return Part(BLOB_PREFIX + blob.name, body, headers)


def choose_boundary(parts: Sequence[Part]) -> str:
    """A boundary that occurs in none of the parts."""
    while True:
        boundary = f"llma-{secrets.token_hex(16)}"
        if not any(boundary.encode() in part.encoded() for part in parts):
            return boundary


def form(parts: Sequence[Part], *, boundary: str | None = None, gzipped: bool = False) -> Form:
    """The body and headers of a request.

    A `boundary` is taken as it is given, even if it occurs in a part. `gzipped` compresses the
    whole body and says so in `Content-Encoding`.
    """
    boundary = choose_boundary(parts) if boundary is None else boundary
    delimiter = b"--" + boundary.encode()
    body = b"".join(delimiter + b"\r\n" + part.encoded() + b"\r\n" for part in parts)
    body += delimiter + b"--\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary={_parameter(boundary)}"}
    if gzipped:
        headers["Content-Encoding"] = "gzip"
        body = gzip.compress(body, mtime=0)
    return Form(body, headers)


def _parameter(boundary: str) -> str:
    """The boundary as a header parameter: quoted where RFC 2045 wants it."""
    return f'"{boundary}"' if set(boundary) & set("()<>@,;:/[]?= ") else boundary
