"""What a request says before its body."""

from __future__ import annotations

from dataclasses import dataclass

from nilometer.capture.asgi import Scope
from nilometer.capture.refusals import DecodingFault, EmptyPayload, MethodNotAllowed

_SINGLE_HEADERS = (b"authorization", b"content-type", b"content-encoding", b"content-length")


@dataclass(slots=True)
class RequestHead:
    """The headers by lower-case name; `declared` is the Content-Length, None when chunked."""

    headers: dict[bytes, bytes]
    declared: int | None
    scope: Scope


def read_head(
    scope: Scope, headers: dict[bytes, bytes], allow: str = "POST, OPTIONS"
) -> RequestHead:
    """Read the head of a POST; `allow` lists the path's methods.

    Raises MethodNotAllowed, DecodingFault for a repeated header that could be read in two ways,
    and EmptyPayload when it announces no body (step 2, before the key is looked at, as there).
    """
    if scope["method"] != "POST":
        raise MethodNotAllowed(allow)
    if len(headers) != len(scope["headers"]):
        names = [name for name, _ in scope["headers"]]
        for name in _SINGLE_HEADERS:
            if names.count(name) > 1:
                raise DecodingFault(f"more than one {name.decode()} header", code="repeated_header")
    length = headers.get(b"content-length")
    if length is None:
        if b"transfer-encoding" not in headers:
            raise EmptyPayload
        return RequestHead(headers, None, scope)
    if not length.isdigit() or len(length) > 18:
        raise DecodingFault("Content-Length is not a number", code="invalid_length")
    if int(length) == 0:
        raise EmptyPayload
    return RequestHead(headers, int(length), scope)
