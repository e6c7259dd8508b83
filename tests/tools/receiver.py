"""The other side of a tool: an HTTP server on loopback that counts its calls, takes each
idempotency key once if told to, and misbehaves on command."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Takes the connections of many tools at once also while its thread is kept from running."""

    request_queue_size = 128


@dataclass(frozen=True)
class Received:
    """A request: its headers' names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def key(self) -> str:
        """Its idempotency key."""
        return self.headers["idempotency-key"]


@dataclass
class Receiver:
    """Behaves as `next` says, one request each, and then answers 200 with `{"ok": true}`.

    `effects` counts what was done by key: a request that is answered with success was, and so was
    one whose answer was lost (`hang`, `cut`). With `honours_keys` a key that was done is answered
    with success and does nothing more.
    """

    url: str = ""
    honours_keys: bool = False
    received: list[Received] = field(default_factory=list)
    effects: Counter[str] = field(default_factory=Counter)
    next: list[Behaviour] = field(default_factory=list)
    always: Behaviour | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    under_way: int = 0
    most_under_way: int = 0

    @property
    def keys(self) -> list[str]:
        return [each.key for each in self.received]

    def answers(self, status: int, body: Any = None, times: int = 1, **headers: str) -> Receiver:
        """Answer the next requests so; those that are no success do nothing."""
        self.next += [answering(status, body, **headers)] * times
        return self

    def hangs(self) -> Receiver:
        """Do the next request, and do not answer until the gate is opened."""
        self.next.append(lambda handler: self.gate.wait(30) and None)
        return self

    def cuts(self) -> Receiver:
        """Do the next request, and close the connection without an answer."""
        self.next.append(lambda handler: None)
        return self

    def cuts_within_the_answer(self) -> Receiver:
        """Do the next request, and close the connection after half of the answer."""
        self.next.append(_half)
        return self

    def drips(self) -> Receiver:
        """Answer the next request a byte at a time, for ever."""
        self.next.append(self._drip)
        return self

    def _drip(self, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not self.gate.wait(0.02):
            handler.wfile.write(b"1")

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers["Content-Length"] or 0)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Received(handler.command, handler.path, headers, handler.rfile.read(length))
        with self.lock:
            self.received.append(request)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            behave = self.next.pop(0) if self.next else self.always or answering(200, {"ok": True})
            key = headers.get("idempotency-key", "")
            done = getattr(behave, "does", True) and handler.command != "GET"
            if self.honours_keys and done and self.effects[key]:
                behave = answering(200, {"ok": True})
            elif done:
                self.effects[key] += 1
        try:
            with suppress(OSError):  # who asked may have gone
                behave(handler)
        finally:
            with self.lock:
                self.under_way -= 1


def answering(status: int, body: Any = None, **headers: str) -> Behaviour:
    """Answer so. Bytes are sent as they are, None as nothing, anything else as JSON."""
    text = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    answer.does = 200 <= status < 300  # type: ignore[attr-defined]
    return answer


def _half(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"ok":')


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port of loopback."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.serve(self)

        do_GET = do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
