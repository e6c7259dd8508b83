"""Signatures of webhooks, in the format of Standard Webhooks, version 1.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md: the
HMAC-SHA256 of `id.timestamp.body`, in base64 after `v1,`. While a secret is being replaced there
are two, with a space between, and a receiver takes either.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256

from nilometer.errors import InvalidInput

PREFIX = "whsec_"
TOLERANCE_SECONDS = 300
"""How far a receiver's clock may be from the sender's."""

_MIN_BYTES, _MAX_BYTES = 24, 64


class SignatureWrong(InvalidInput):
    """A message is not from who has the secret, was changed, or is old."""

    code = "signature_wrong"


def new_secret() -> str:
    """A random secret of 32 bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def checked_secret(secret: str) -> str:
    """The secret, if it is one: `whsec_` and 24 to 64 bytes in base64. Raises InvalidInput."""
    _key(secret)
    return secret


def headers(message_id: str, timestamp: int, body: bytes, signing: Iterable[str]) -> dict[str, str]:
    """The three headers of a message, signed with each of these secrets. `timestamp` is in seconds
    since the epoch."""
    signatures = (_signature(secret, message_id, timestamp, body) for secret in signing)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def verify(secret: str, sent: Mapping[str, str], body: bytes, *, now: float | None = None) -> None:
    """What a receiver does first: raises SignatureWrong unless the message is from who has the
    secret, as it was sent, in the last minutes. `sent` are its headers, their names in lower case.
    """
    try:
        message_id, timestamp = sent["webhook-id"], int(sent["webhook-timestamp"])
        signatures = sent["webhook-signature"].split()
    except (KeyError, ValueError):
        raise SignatureWrong("the message has no signature") from None
    if abs((time.time() if now is None else now) - timestamp) > TOLERANCE_SECONDS:
        raise SignatureWrong("the message is too old, or a clock is wrong")
    ours = _signature(secret, message_id, timestamp, body).encode()
    if not any(hmac.compare_digest(ours, each.encode()) for each in signatures):
        raise SignatureWrong("the signature is wrong")


def _signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    content = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    digest = hmac.digest(_key(secret), content, sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not _MIN_BYTES <= len(key) <= _MAX_BYTES:
        raise InvalidInput(
            f"a webhook's secret is {PREFIX} and {_MIN_BYTES} to {_MAX_BYTES} bytes in base64",
            attr="secret",
        )
    return key
