"""From an `Authorization` header to the project that a request captures into."""

from __future__ import annotations

from nilometer.access import tokens
from nilometer.access.types import KeyKind, Principal, ProjectConfig, Scope
from nilometer.capture.refusals import InvalidKey, MissingKey

_UNKNOWN = "it is not a project API key of this server"


def bearer_token(header: bytes | None) -> str:
    """The token of an `Authorization` header value, its shape checked (contract, section 2).

    Raises MissingKey unless the value starts exactly with `Bearer `, and InvalidKey with the
    contract's reason for a wrong shape.
    """
    if header is None or not header.startswith(b"Bearer "):
        raise MissingKey
    return shaped_token(header[7:])


def shaped_token(token: bytes) -> str:
    """A token whose shape is right (section 2, "Token shape"). Raises InvalidKey."""
    token = token.strip()
    reason = _shape_fault(token)
    if reason:
        raise InvalidKey(reason)
    return token.decode("ascii")


def _shape_fault(token: bytes) -> str | None:
    if not token:
        return "empty"
    if len(token) > tokens.MAX_LENGTH:
        return "too_long"
    if not token.isascii():
        return "not_ascii"
    if token.startswith(b"phx_"):
        return "personal_api_key"
    return "null_byte" if b"\0" in token else None


def capturing_project(principal: Principal) -> ProjectConfig:
    """The project that this key captures into.

    A personal key needs the scope `capture`. Without it the answer is that of an unknown key, so
    that a reader's key found somewhere tells nothing.
    """
    if principal.kind is KeyKind.PERSONAL and Scope.CAPTURE not in principal.scopes:
        raise unknown_key()
    return principal.project


def unknown_key() -> InvalidKey:
    """The one answer for a key that is wrong, revoked, or may not capture."""
    return InvalidKey(_UNKNOWN)
