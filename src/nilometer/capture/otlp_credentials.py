"""The key of an OTLP request, wherever its exporter can put one.

Exporters send what `OTEL_EXPORTER_OTLP_HEADERS` says, or have a field for a key of their own.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from nilometer.access.types import ProjectConfig
from nilometer.capture.authorization import shaped_token, unknown_key
from nilometer.capture.refusals import MissingKey

KEY_HEADERS = (b"x-api-key", b"api-key", b"api_key")
"""Headers that hold nothing but the key; `api_key` is what Phoenix's clients send."""
_BEARER = (b"bearer ", b"bearer%20")  # some SDKs do not undo the URL encoding of the variable
_BASIC = (b"basic ", b"basic%20")


class Credentials:
    """A key, and the project that a pair of keys (Langfuse's, in Basic) says it is of, or ""."""

    __slots__ = ("public", "token")

    def __init__(self, token: str, public: str = "") -> None:
        self.token = token
        self.public = public

    def check(self, project: ProjectConfig) -> None:
        """Refuse a pair whose public key is not the id of the secret key's project."""
        if self.public and self.public != str(project.project_id):
            raise unknown_key()


def read_credentials(headers: Mapping[bytes, bytes]) -> Credentials:
    """The credentials among headers of lower-case names. Raises MissingKey and InvalidKey."""
    authorization = headers.get(b"authorization", b"").strip()
    token = _after(authorization, _BEARER)
    if token is not None:
        return Credentials(shaped_token(token))
    pair = _after(authorization, _BASIC)
    if pair is not None:
        return _basic(pair)
    for name in KEY_HEADERS:
        if headers.get(name):
            return Credentials(shaped_token(headers[name]))
    raise MissingKey


def _after(value: bytes, schemes: tuple[bytes, ...]) -> bytes | None:
    lower = value[:16].lower()
    return next((value[len(scheme) :] for scheme in schemes if lower.startswith(scheme)), None)


def _basic(pair: bytes) -> Credentials:
    """`public:secret` in base64. The secret alone says whose the spans are."""
    try:
        public, colon, secret = base64.b64decode(pair.strip(), validate=True).partition(b":")
        name = public.decode("ascii")
    except (binascii.Error, ValueError):
        raise unknown_key() from None
    if not colon:
        raise unknown_key()
    return Credentials(shaped_token(secret), name)
