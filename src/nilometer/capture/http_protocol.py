"""uvicorn's HTTP protocol with bounds on what a client may make it wait for or keep.

The framework-free server has none of its own: headers may be endless, may never end, and a body
that nobody wants any more is read for as long as it comes.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from nilometer.capture.connections import ConnectionLimit
from nilometer.capture.joined_writes import JoinedWrites

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 128
_TOO_LARGE = "Request header fields too large."
_TOO_MANY_TEXT = orjson.dumps(
    {
        "type": "server_error",
        "code": "overloaded",
        "detail": "service unavailable: too many connections, please retry",
        "attr": None,
    }
)
_TOO_MANY = STATUS_LINE[503] + (
    b"content-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_TOO_MANY_TEXT), _TOO_MANY_TEXT)
)
_REFUSED_SECONDS = 1.0
_MAX_REFUSED = 256


class HeadTooLarge(Exception):
    """The request's head passes a limit; raised inside the parser, answered with 431."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. Its class attributes are the limits; `bounded_protocol` sets them.

    - The head of a request (and the trailers of a chunked one): at most `max_head_bytes` and
      `max_headers`, else 431. It must arrive within `header_timeout` seconds of the connection or
      of its first byte, else the connection is closed.
    - At most so many connections as `connection_limit` says; a new one is answered with 503 only
      while each of them has a request.
    - After an answer that left before the body had arrived, such as 413, the body is read and
      thrown away, within `drain_timeout` seconds, so that the client can read the answer and use
      the connection again. `drain_bytes` is the body limit: the contract (section 3) drains one
      limit beyond the limit itself, so twice that is read before the connection is closed.
    """

    max_head_bytes = MAX_HEAD_BYTES
    max_headers = MAX_HEADERS
    header_timeout = 10.0
    drain_bytes = 28_835_840
    drain_timeout = 30.0
    connection_limit = ConnectionLimit(2048)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._guard: asyncio.TimerHandle | None = None
        self._in_head = False
        self._in_body = False
        self._since_body = 0  # bytes that were neither body nor an earlier request's
        self._drained = 0
        self._too_large = False
        self._broken = False  # nothing that still comes will be read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time that the first request's head may take."""
        joined = JoinedWrites(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", joined))
        if self.connection_limit.admit(self):
            self._watch(self.header_timeout)
        else:
            self._refuse_connection()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._unwatch()
        self.connection_limit.forget(self)
        super().connection_lost(exc)

    def give_way(self) -> None:
        """Close for a new connection; there is no answer that should leave first."""
        if self.transport.get_write_buffer_size():  # of a client that does not read
            self.transport.abort()
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Count what is not body, feed the parser, and watch a head that is not complete."""
        if self._broken:
            return
        self._since_body += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._since_body > self.max_head_bytes and (self._in_head or self._in_body):
            self._refuse_head()
        elif self._guard is None and self._is_waiting_for_head():
            self._watch(self.header_timeout)

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """The whole head is there: check it, and start the request."""
        if self._guard is not None:
            self._unwatch()
        if len(self.headers) > self.max_headers or (
            self._since_body > self.max_head_bytes and self._head_size() > self.max_head_bytes
        ):
            self._too_large = True
            raise HeadTooLarge
        self._in_head = False
        self._in_body = True
        self._since_body = self._drained = 0
        super().on_headers_complete()
        self.connection_limit.begin_request(self)

    def on_body(self, body: bytes) -> None:
        """Hand body bytes to the request, or throw them away once it has been answered."""
        self._since_body = 0
        if not self.cycle.response_complete:
            super().on_body(body)
            return
        self._drained += len(body)
        if self._drained > 2 * self.drain_bytes:
            self.transport.close()

    def on_message_complete(self) -> None:
        """The request's last byte."""
        self._in_body = False
        self._since_body = 0
        super().on_message_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._unwatch()
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """The answer has left: the rest of its request's body has only so long to arrive."""
        super().on_response_complete()
        if not self._is_answering():
            self.connection_limit.end_request(self)
        if self._in_body and self.cycle.response_complete and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._watch(self.drain_timeout)

    def send_400_response(self, msg: str) -> None:
        """Answer a request that cannot be parsed, unless an earlier one is still being answered."""
        if self._is_answering():
            self.transport.close()
        elif self._too_large:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _is_waiting_for_head(self) -> bool:
        """Whether bytes have come that are not (yet) a request, and nothing else ends the wait."""
        if self._in_head:
            return True
        idle = not self._in_body and not self._is_answering()
        return idle and self.timeout_keep_alive_task is None

    def _is_answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _refuse_head(self) -> None:
        if not self._is_answering():
            body = _TOO_LARGE.encode()
            self.transport.write(
                STATUS_LINE[431] + b"content-type: text/plain; charset=utf-8\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body)
            )
        self.transport.close()

    def _refuse_connection(self) -> None:
        """Answer 503 before any request, and wait a moment for the client to read it: bytes that
        arrive at a closed socket reset the connection, and the answer may be lost with it."""
        self._broken = True
        self.transport.write(_TOO_MANY)
        if len(self.connections) > self.connection_limit.limit + _MAX_REFUSED:
            self.transport.close()
        else:
            self.transport.write_eof()
            self._watch(_REFUSED_SECONDS)

    def _watch(self, seconds: float) -> None:
        self._unwatch()
        self._guard = self.loop.call_later(seconds, self._give_up)

    def _unwatch(self) -> None:
        if self._guard is not None:
            self._guard.cancel()
            self._guard = None

    def _give_up(self) -> None:
        self._guard = None
        self.transport.close()


def bounded_protocol(
    *, header_timeout: float, drain_bytes: int, drain_timeout: float, max_connections: int
) -> type[BoundedHttpProtocol]:
    """The protocol with these limits, for `uvicorn.Config(http=…)` of one server: seconds, bytes,
    seconds, connections."""
    return type(
        "ConfiguredHttpProtocol",
        (BoundedHttpProtocol,),
        {
            "header_timeout": header_timeout,
            "drain_bytes": drain_bytes,
            "drain_timeout": drain_timeout,
            "connection_limit": ConnectionLimit(max_connections),
        },
    )
