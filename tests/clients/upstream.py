"""A provider on loopback: what its handler answers, for as long as the block lasts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EVENT_STREAM = "text/event-stream"
JSON = "application/json"


class Upstream(BaseHTTPRequestHandler):
    """Reads a request's JSON, and writes an answer whole."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """The base class would write a line for each."""

    def do_GET(self) -> None:
        """Clients ask for a list of models, and go on without one."""
        self.answer_json(404, {"error": {"type": "not_found_error", "message": "not here"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.post(json.loads(body))

    def post(self, asked: dict[str, Any]) -> None:
        """Answer a request of this JSON; `self.path` says where to."""
        raise NotImplementedError

    def answer(self, status: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer_json(self, status: int, value: Any) -> None:
        self.answer(status, JSON, json.dumps(value))

    def answer_events(self, events: Iterable[dict[str, Any]]) -> None:
        """Server-sent events, each under the name that is its type."""
        lines = (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        self.answer(200, EVENT_STREAM, "".join(lines))


@contextmanager
def serving(handler: type[Upstream]) -> Iterator[str]:
    """The base URL of a server of these requests."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
