"""uvicorn's HTTP protocol with bounds on what a client may make it wait for or keep.

The framework-free server has none of its own: headers may be endless, may never end, and a body
that nobody wants any more is read for as long as it comes.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from nilometer.capture import last_words
from nilometer.capture.connections import ConnectionLimit
from nilometer.capture.joined_writes import JoinedWrites
from nilometer.capture.upgrade import head_without_upgrade

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 128
_CHUNK_HEAD_BYTES = 32  # more than a size in hexadecimal and two line breaks take
_MAX_REFUSED = 256
_LINGER_SECONDS = 1.0


class HeadTooLarge(Exception):
    """The request's head passes a limit; raised inside the parser, answered with 431."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. Its class attributes are the limits; `bounded_protocol` sets them.

    - The head of a request: at most `max_head_bytes` and `max_headers`, else 431. It must arrive
      within `header_timeout` seconds of the connection or of its first byte, else the connection
      is closed. `max_head_bytes` hold too for the chunk extensions and trailers of a body
      together, give or take what one read brings; they are thrown away.
    - What breaks the rules of HTTP/1.1 is answered with 400 in its turn: requests before it that
      are complete get their answers, the last of them with `connection: close`.
    - A request to change the protocol is ignored (see `upgrade`).
    - At most so many connections as `connection_limit` says; a new one is answered with 503 only
      while each of them has a request.
    - After an answer that left before the body had arrived, such as 413, the body is read and
      thrown away, within `drain_timeout` seconds, so that the client can read the answer and use
      the connection again. `drain_bytes` is the body limit: the contract (section 3) drains one
      limit beyond the limit itself, so twice that is read before the connection is closed.
    - While the server ends, a head that has begun to arrive, and the first of a connection that was
      just accepted, have a second more: who sent them does not know of the end, and cannot tell a
      request that was not read from one that was.
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
        self._since_message = 0  # bytes since the last request began or ended
        self._framing = 0  # bytes of the open request's body that are not its content
        self._chunks = 0
        self._counting = False  # whether the present read began within a body
        self._upgrading = False
        self._active: RequestResponseCycle | None = None  # whose answer is the next to leave
        self._drained = 0
        self._too_large = False
        self._broken = False  # nothing that still comes will be read
        self._is_ending = False

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

    def shutdown(self) -> None:
        """The server takes no more connections: answer what is on its way here, then close."""
        is_new = cast("RequestResponseCycle | None", self.cycle) is None
        if (is_new or self._in_head) and not self._broken and not self.transport.is_closing():
            self._is_ending = True
            self._watch(_LINGER_SECONDS)
        else:
            super().shutdown()

    def give_way(self) -> None:
        """Close for a new connection; there is no answer that should leave first."""
        if self.transport.get_write_buffer_size():  # of a client that does not read
            self.transport.abort()
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Count what is not content, feed the parser, and watch a head that is not complete."""
        if self._broken:
            return
        self._unset_keepalive_if_required()
        self._since_message += len(data)
        self._counting = self._in_body
        if self._counting:
            self._framing += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(last_words.HEAD_TOO_LARGE if self._too_large else last_words.INVALID)
            return
        if self.transport.is_closing():
            return
        if self._is_out_of_bounds():
            self._refuse(last_words.HEAD_TOO_LARGE)
        elif self._guard is None and self._is_waiting_for_head():
            self._watch(self.header_timeout)

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are no headers, and nobody asks for them."""
        if not self._in_body:
            super().on_header(name, value)

    def on_chunk_header(self) -> None:
        """The size of a chunk, and its extensions."""
        self._chunks += 1

    def on_headers_complete(self) -> None:
        """The whole head is there: check it, and start the request.

        A head that asks for an upgrade comes here again, without the question.
        """
        if self._guard is not None:
            self._unwatch()
        if len(self.headers) > self.max_headers or (
            self._since_message > self.max_head_bytes and self._head_size() > self.max_head_bytes
        ):
            self._too_large = True
            raise HeadTooLarge
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._upgrading = True
            return
        super().on_headers_complete()
        self._in_head = self._counting = False
        self._in_body = True
        if self._is_ending:
            self.cycle.keep_alive = False
        self._since_message = self._framing = self._chunks = self._drained = 0
        if not self.pipeline:
            self._active = self.cycle
        self.connection_limit.begin_request(self)

    def on_body(self, body: bytes) -> None:
        """Hand body bytes to the request, or throw them away once it has been answered."""
        if self._counting:
            self._framing -= len(body)
        if not self.cycle.response_complete:
            super().on_body(body)
            return
        self._drained += len(body)
        if self._drained > 2 * self.drain_bytes:
            self.transport.close()

    def on_message_complete(self) -> None:
        """The request's last byte."""
        if self._upgrading:
            return
        self._in_body = False
        self._since_message = 0
        super().on_message_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._unwatch()
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """The answer has left: the rest of its request's body has only so long to arrive."""
        if self.pipeline:
            self._active = self.pipeline[-1][0]
        super().on_response_complete()
        if not self._is_answering():
            self.connection_limit.end_request(self)
        if self._in_body and self.cycle.response_complete and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._watch(self.drain_timeout)

    def _parse(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as pause:
                if not self._upgrading:  # CONNECT: what follows is not HTTP
                    return
                rest = memoryview(rest)[pause.args[0] :]
                self._parse_head_again()
            else:
                return

    def _parse_head_again(self) -> None:
        asked = self.parser
        self._upgrading = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self.parser.feed_data(
            head_without_upgrade(
                asked.get_method(), self.url, asked.get_http_version(), self.headers
            )
        )

    def _is_out_of_bounds(self) -> bool:
        if self._in_body:
            return self._framing > self.max_head_bytes + _CHUNK_HEAD_BYTES * self._chunks
        return self._in_head and self._since_message > self.max_head_bytes

    def _refuse(self, answer: bytes) -> None:
        """Read no more. Answer in its turn what cannot be read to its end, then close."""
        self._broken = True
        self._unwatch()
        if not self._is_answering():
            if self._in_body:  # its answer has left already
                self.transport.close()
            else:
                self._part_with(answer)
        elif not self._in_body:  # its body is complete
            self.cycle.keep_alive = False
        elif self.pipeline:
            self.pipeline.popleft()
            last = self.pipeline[0][0] if self.pipeline else self._active
            cast("RequestResponseCycle", last).keep_alive = False
        elif self.cycle.response_started:
            self.transport.close()
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._part_with(answer)

    def _part_with(self, answer: bytes) -> None:
        """Write the answer, and wait a moment for the client to read it: bytes that arrive at a
        closed socket reset the connection, and the answer may be lost with it."""
        self._broken = True
        self.transport.write(answer)
        self.transport.write_eof()
        self._watch(_LINGER_SECONDS)

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

    def _refuse_connection(self) -> None:
        if len(self.connections) > self.connection_limit.limit + _MAX_REFUSED:
            self._broken = True
            self.transport.write(last_words.TOO_MANY_CONNECTIONS)
            self.transport.close()
        else:
            self._part_with(last_words.TOO_MANY_CONNECTIONS)

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
