"""API tokens: made here, shown once, kept only as a hash.

A token is `nlm_proj_` or `nlm_user_` and 43 characters of base64url: 256 random bits, 52 ASCII
characters. Such a token cannot be guessed, so one plain SHA-256 is enough to keep it by: a slow
hash protects what people choose, and would cost every request.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from nilometer.access.types import KeyKind

MAX_LENGTH = 64
"""The longest token, in ASCII characters (capture contract: "too_long" above it)."""

_RANDOM_BYTES = 32
_ISSUED = re.compile(r"nlm_(proj|user)_[A-Za-z0-9_-]{43}")
_PREFIXES = {KeyKind.PROJECT: "nlm_proj_", KeyKind.PERSONAL: "nlm_user_"}
_OPERATOR_GIVEN = "(given by operator)"


def generate(kind: KeyKind) -> str:
    """A new token."""
    return _PREFIXES[kind] + secrets.token_urlsafe(_RANDOM_BYTES)


def is_issued_shape(token: str) -> bool:
    """Whether it looks like a token that was made here, which nobody can guess."""
    return _ISSUED.fullmatch(token) is not None


def digest(token: str) -> str:
    """What is kept of a token: its SHA-256, 64 hexadecimal digits.

    Raises ValueError for a text that cannot be a token: longer than one, or not ASCII.
    """
    if len(token) > MAX_LENGTH or not token.isascii():
        raise ValueError("no token is like this")
    return hashlib.sha256(token.encode()).hexdigest()


def mask(token: str) -> str:
    """A token as lists show it: enough to tell two apart, 208 of its random bits kept back.

    Nothing of a token that an operator chose is shown: it may be short.
    """
    if not is_issued_shape(token):
        return _OPERATOR_GIVEN
    return f"{token[:13]}…{token[-4:]}"
