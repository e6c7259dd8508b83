"""OpenAI's chat completions on loopback: what each model answers is fixed, and said here.

`gpt-4o-mini` answers, as a stream when asked; any other model is an error of the upstream.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

TEXT = "Sixteen cubits."
USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 30,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 10},
}


@contextmanager
def mock_openai() -> Iterator[str]:
    """The base URL of a running mock."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler() -> type[BaseHTTPRequestHandler]:
    numbers = count(1)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            """The base class would write a line for each."""

        def do_GET(self) -> None:
            """LiteLLM asks the upstream for its models."""
            self._answer(200, "application/json", '{"object":"list","data":[]}')

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if asked["model"] != "gpt-4o-mini":
                error = {"error": {"message": "upstream broke", "type": "server_error"}}
                self._answer(500, "application/json", json.dumps(error))
                return
            head = {
                "id": f"chatcmpl-mock-{next(numbers):016d}",
                "created": 1751367600,
                "model": "gpt-4o-mini-2024-07-18",
            }
            if asked.get("stream"):
                self._answer(200, "text/event-stream", "".join(_chunks(head)))
            else:
                self._answer(200, "application/json", json.dumps(_completion(head)))

        def _answer(self, status: int, content_type: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def _completion(head: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def _chunks(head: dict[str, Any]) -> Iterator[str]:
    deltas: list[tuple[dict[str, str], str | None]] = [
        ({"role": "assistant", "content": TEXT[:8]}, None),
        ({"content": TEXT[8:]}, None),
        ({}, "stop"),
    ]
    for delta, reason in deltas:
        yield _line(head, [{"index": 0, "delta": delta, "finish_reason": reason}])
    yield _line(head, [], usage=USAGE)
    yield "data: [DONE]\n\n"


def _line(head: dict[str, Any], choices: list[Any], **more: Any) -> str:
    chunk = {**head, "object": "chat.completion.chunk", "choices": choices, **more}
    return f"data: {json.dumps(chunk)}\n\n"
