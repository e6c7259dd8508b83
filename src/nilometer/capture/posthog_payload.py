"""From a request of PostHog's oldest protocol to its JSON: a body, a form, or a query.

Clients of fifteen years wrap the same JSON in gzip, lz-string, base64 and `data=`, and forget to
say so. A JSON payload begins with `{` or `[`, so each wrapping can be told from what it holds.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from nilometer.capture import lz_string
from nilometer.capture.decompression import Gunzip
from nilometer.capture.refusals import DecodingFault, EmptyPayload, TooBig

_WHITESPACE = b" \t\r\n"
_FORM = b"application/x-www-form-urlencoded"
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}")
_MAX_FIELDS = 64
_MAX_LAYERS = 4
_EARLIEST_SENT_AT = 1_600_000_000_000  # of 2020: what is less is in seconds, of old SDKs


@dataclass(frozen=True, slots=True)
class Query:
    """What the query string says. `compression` is the hint, `sent_at` milliseconds since the
    epoch, `beacon` that nobody reads the answer."""

    data: bytes = b""
    compression: str = ""
    sent_at: int | None = None
    beacon: bool = False


def read_query(query_string: bytes) -> Query:
    """The fields of a query string that matter. Raises DecodingFault for one with too many."""
    if not query_string:
        return Query()
    fields = _fields(query_string)
    sent_at = fields.get("_", "")
    in_millis = sent_at.isascii() and sent_at.isdigit() and len(sent_at) <= 14
    return Query(
        data=fields.get("data", "").encode(),
        compression=fields.get("compression", ""),
        sent_at=int(sent_at) if in_millis and int(sent_at) > _EARLIEST_SENT_AT else None,
        beacon=fields.get("beacon", "") in ("1", "true"),
    )


def json_payload(payload: bytes, content_type: bytes, hint: str, limit: int) -> bytes:
    """The JSON text that a payload holds, at most `limit` bytes.

    Raises EmptyPayload, DecodingFault when there is none, and TooBig.
    """
    payload = payload.strip(_WHITESPACE)
    if content_type.startswith(_FORM) and not _is_json(payload):
        payload, hint = _form_data(payload, hint)
    for _ in range(_MAX_LAYERS):
        if not payload:
            raise EmptyPayload
        if _is_json(payload):
            return payload
        payload = _unwrapped(payload, hint, limit).strip(_WHITESPACE)
    raise DecodingFault("the payload is wrapped too often", code="invalid_encoding")


def _is_json(payload: bytes) -> bool:
    return payload[:1] in (b"{", b"[")


def _form_data(payload: bytes, hint: str) -> tuple[bytes, str]:
    fields = _fields(payload)
    if "data" not in fields:
        raise DecodingFault("expected form data in POST request payload", code="invalid_form")
    return fields["data"].strip().encode(), fields.get("compression", hint)


def _fields(text: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            text.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"
        )
    except ValueError:
        raise DecodingFault(
            f"a query or form must be UTF-8 of at most {_MAX_FIELDS} fields", code="invalid_form"
        ) from None
    return dict(pairs)


def _unwrapped(payload: bytes, hint: str, limit: int) -> bytes:
    """The payload without its outermost wrapping."""
    if payload.startswith(b"\x1f\x8b\x08"):
        return _gunzipped(payload, limit)
    if hint == "lz64":
        # In a query or form a plus sign becomes a space.
        return lz_string.decompress_base64(payload.replace(b" ", b"+"), limit)
    text = payload.replace(b" ", b"+")
    if not _BASE64.fullmatch(text):
        raise DecodingFault("the payload is no JSON, nor JSON in base64", code="invalid_encoding")
    try:
        plain = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        raise DecodingFault("the payload is not valid base64", code="invalid_encoding") from None


def _gunzipped(payload: bytes, limit: int) -> bytes:
    gunzip = Gunzip()
    found: list[bytes] = []
    size = 0
    for block in gunzip.decode(payload):
        size += len(block)
        if size > limit:
            raise TooBig(f"decompressed body exceeds maximum size ({limit} bytes)")
        found.append(block)
    gunzip.finish()
    return b"".join(found)
