"""Cursors of combined groups: opaque, and refused by any other query."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any, cast

from nilometer.errors import InvalidInput

_VERSION = 1
_LONGEST = 40_000


def encode(key: tuple[str, ...], subject: list[Any]) -> str:
    """The cursor that stands just past the group of this key."""
    fields = [_VERSION, _digest(subject), *key]
    return base64.urlsafe_b64encode(_json(fields)).rstrip(b"=").decode()


def decode(text: str, subject: list[Any], parts: int) -> tuple[str, ...]:
    """The key of a cursor of the same query, of so many parts. Raises InvalidInput."""
    fields = _fields(text)
    version, digest, *key = fields if len(fields) >= 2 else ("", "")
    typed = all(isinstance(part, str) and _is_unicode(part) for part in key)
    if version != _VERSION or not typed:
        raise _refused("is not one that this API gave")
    if digest != _digest(subject) or len(key) != parts or not parts:
        raise _refused("belongs to another query")
    return tuple(key)


def _fields(text: str) -> list[Any]:
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        short = padded if len(padded) <= _LONGEST else b""
        fields = json.loads(base64.b64decode(short, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return []
    return cast("list[Any]", fields) if isinstance(fields, list) else []


def _is_unicode(text: str) -> bool:
    """JSON can write half of a surrogate pair, which no key has and no store takes."""
    return not any("\ud800" <= each <= "\udfff" for each in text)


def _digest(subject: list[Any]) -> str:
    return hashlib.sha256(_json(subject)).hexdigest()[:16]


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _refused(why: str) -> InvalidInput:
    return InvalidInput(
        f"The cursor {why}; start again without it.", code="invalid_cursor", attr="cursor"
    )
