"""What a request to ClickHouse's HTTP interface asks, wherever its parts are written."""

from __future__ import annotations

import base64
import gzip
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

import lz4.frame
import multipart
import zstandard

from tests.clickhouse_server.faults import Refused

# A server's defaults: http_max_field_value_size, http_max_uri_size.
_LONGEST_VALUE = 128 * 1024
_LONGEST_URI = 1024 * 1024
# Parameters that are not settings of the engine.
_TRANSPORT = frozenset(
    {
        "query",
        "user",
        "password",
        "database",
        "query_id",
        "session_id",
        "session_timeout",
        "session_check",
        "close_session",
        "default_format",
        "compress",
        "decompress",
        "wait_end_of_query",
        "buffer_size",
        "stacktrace",
        "quota_key",
        "role",
        "client_protocol_version",
    }
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, decoded. `text` is the statement and, for an insert, the data after it."""

    text: bytes
    values: Mapping[str, str]
    user: str
    password: str
    default_format: str
    accepted_encodings: tuple[str, ...]
    is_get: bool

    @property
    def parameters(self) -> dict[str, str]:
        """The values that the statement binds."""
        prefix = "param_"
        return {k.removeprefix(prefix): v for k, v in self.values.items() if k.startswith(prefix)}

    @property
    def settings(self) -> dict[str, str]:
        """The engine's settings for this request."""
        return {
            name: value
            for name, value in self.values.items()
            if name not in _TRANSPORT and not name.startswith("param_")
        }


def asked(method: str, uri: str, headers: Mapping[str, str], body: bytes) -> Asked:
    """The request of these parts; header names in lower case. Raises Refused."""
    if len(uri) > _LONGEST_URI:
        raise Refused(1000, "POCO_EXCEPTION", "URI Too Long", status=414)
    values = dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True))
    data = _decoded(body, headers.get("content-encoding", ""))
    content_type = headers.get("content-type", "")
    if content_type.startswith("multipart/form-data"):
        values |= _form(data, content_type)
        data = b""
    elif content_type.startswith("application/x-www-form-urlencoded"):
        values |= dict(parse_qsl(data.decode(), keep_blank_values=True))
        data = b""
    if any(len(value.encode()) > _LONGEST_VALUE for value in values.values()):
        raise Refused(1000, "POCO_EXCEPTION", "HTML Form Exception: Field value too long")
    query = values.get("query", "").encode()
    user, password = _credentials(headers, values)
    return Asked(
        text=query + b"\n" + data if query and data else query or data,
        values=values,
        user=user,
        password=password,
        default_format=values.get("default_format") or headers.get("x-clickhouse-format", ""),
        accepted_encodings=tuple(
            each.strip() for each in headers.get("accept-encoding", "").split(",")
        ),
        is_get=method == "GET",
    )


def encoded(data: bytes, request: Asked) -> tuple[bytes, str]:
    """The answer as the client takes it, and the name of its encoding (empty for none)."""
    if request.values.get("enable_http_compression") == "1":
        for encoding in request.accepted_encodings:
            if encoding in _ENCODERS:
                return _ENCODERS[encoding](data), encoding
    return data, ""


_ENCODERS = {
    "lz4": lz4.frame.compress,
    "zstd": zstandard.compress,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}
_DECODERS = {
    "": bytes,
    "identity": bytes,
    "lz4": lz4.frame.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(),
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}


def _decoded(body: bytes, encoding: str) -> bytes:
    if encoding not in _DECODERS:
        raise Refused(48, "NOT_IMPLEMENTED", f"Unknown compression method '{encoding}'")
    return _DECODERS[encoding](body)


def _form(data: bytes, content_type: str) -> dict[str, str]:
    _, options = multipart.parse_options_header(content_type)
    size = len(data)
    parser = multipart.MultipartParser(
        io.BytesIO(data), options["boundary"], size, mem_limit=size + 1, memfile_limit=size + 1
    )
    if any(part.filename for part in parser):
        raise Refused(48, "NOT_IMPLEMENTED", "external tables are not of this fixture")
    return {part.name: part.raw.decode() for part in parser.parts()}


def _credentials(headers: Mapping[str, str], values: Mapping[str, str]) -> tuple[str, str]:
    scheme, _, coded = headers.get("authorization", "").partition(" ")
    if scheme == "Basic":
        name, _, password = base64.b64decode(coded).decode().partition(":")
        return name, password
    if "x-clickhouse-user" in headers:
        return headers["x-clickhouse-user"], headers.get("x-clickhouse-key", "")
    return values.get("user", "default"), values.get("password", "")
