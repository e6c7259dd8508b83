"""Identities as clients write them, in one canonical form."""

from __future__ import annotations

import os
import re

_HEX = "[0-9a-fA-F]"
_HYPHENATED = f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}"
_FORMS = re.compile(
    rf"(?:urn:uuid:)?({_HYPHENATED})|\{{({_HYPHENATED})\}}|({_HEX}{{32}})", re.ASCII
)

MAX_DISTINCT_ID_BYTES = 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def distinct_id_fault(text: str) -> str:
    """What is wrong with a distinct id, as the end of a sentence about it; empty for nothing."""
    if not text:
        return "cannot be empty"
    if _CONTROL.search(text):
        return "cannot contain control characters"
    if len(text.encode()) > MAX_DISTINCT_ID_BYTES:
        return f"cannot be longer than {MAX_DISTINCT_ID_BYTES} bytes"
    return ""


def canonical_uuid(text: str) -> str:
    """The lowercase hyphenated form of a UUID.

    Accepts what the original capture service accepts (hyphenated, 32 hex digits, `urn:uuid:…`
    and braces) and nothing else; `uuid.UUID` is laxer, it drops hyphens and braces anywhere.
    Raises ValueError with a sentence that says what is wrong.
    """
    match = _FORMS.fullmatch(text)
    if match is None:
        shown = text if len(text) <= 64 else text[:61] + "..."
        raise ValueError(f"{shown!r} is not a UUID such as 123e4567-e89b-12d3-a456-426614174000")
    digits = (match[1] or match[2] or match[3]).replace("-", "").lower()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def uuid7(micros: int) -> str:
    """A new UUID of version 7 (RFC 9562) for a moment, in microseconds since the epoch."""
    random = int.from_bytes(_drawn()) >> 6
    value = (micros // 1000 & (1 << 48) - 1) << 80 | 7 << 76 | random >> 62 << 64
    value |= 0b10 << 62 | random & (1 << 62) - 1
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


# Of 80 bits each. To ask the system lets other threads in, for each id again, and whoever writes
# thousands of them under a lock would wait for its turn each time.
_POOL: list[bytes] = []
_POOLED = 256
_DRAWN_BYTES = 10


def _drawn() -> bytes:
    """Random bytes that nobody else gets."""
    try:
        return _POOL.pop()
    except IndexError:
        fresh = os.urandom(_POOLED * _DRAWN_BYTES)
        drawn, *rest = (fresh[at : at + _DRAWN_BYTES] for at in range(0, len(fresh), _DRAWN_BYTES))
        _POOL.extend(rest)
        return drawn


# A child must not draw what its parent draws.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOL.clear)
