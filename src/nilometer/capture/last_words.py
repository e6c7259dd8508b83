"""Whole answers, as bytes, for connections that can carry no further request."""

from __future__ import annotations

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE


def _text(status: int, sentence: str) -> bytes:
    return _answer(status, b"text/plain; charset=utf-8", sentence.encode())


def _answer(status: int, content_type: bytes, body: bytes, headers: bytes = b"") -> bytes:
    return STATUS_LINE[status] + (
        b"content-type: %s\r\n%sconnection: close\r\ncontent-length: %d\r\n\r\n%s"
        % (content_type, headers, len(body), body)
    )


INVALID = _text(400, "Invalid HTTP request received.")
"""The request breaks the rules of HTTP/1.1."""

HEAD_TOO_LARGE = _text(431, "Request header fields too large.")
"""The head, the trailers or what stands between the chunks passes a limit."""

TOO_MANY_CONNECTIONS = _answer(
    503,
    b"application/json",
    orjson.dumps(
        {
            "type": "server_error",
            "code": "overloaded",
            "detail": "service unavailable: too many connections, please retry",
            "attr": None,
        }
    ),
    b"retry-after: 1\r\n",
)
"""Every open connection has a request; sent before this one's first request is read."""
