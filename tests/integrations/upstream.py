"""A provider: a real HTTP server that streams events, and the bodies that providers answer with."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

Script = Callable[[BaseHTTPRequestHandler], None]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: ClassVar[Script]

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("content-length", 0)))
        type(self).script(self)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """A server on loopback that answers each POST by the script; gives its address."""
    handler = type("Handler", (_Handler,), {"script": staticmethod(script)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def begin_events(handler: BaseHTTPRequestHandler, request_id: str = "req_1") -> None:
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("transfer-encoding", "chunked")
    handler.send_header("x-request-id", request_id)
    handler.send_header("request-id", request_id)
    handler.end_headers()


def send(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    handler.wfile.flush()


def finish(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"0\r\n\r\n")
    handler.wfile.flush()


def event(data: Mapping[str, Any] | str, name: str = "") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {text}\n\n".encode()


def events(*each: bytes) -> Script:
    """Answers with these events."""

    def script(handler: BaseHTTPRequestHandler) -> None:
        begin_events(handler)
        for data in each:
            send(handler, data)
        finish(handler)

    return script


CHAT_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 40},
}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": '{"answer": 42}'},
        }
    ],
    "usage": CHAT_USAGE,
}
EMBEDDING = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
    "usage": {"prompt_tokens": 10, "total_tokens": 10},
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_790_000_000,
    "model": "gpt-4o-mini-2024-07-18",
    "status": "completed",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": '{"answer": 42}', "annotations": []}],
        }
    ],
    "usage": {
        "input_tokens": 30,
        "output_tokens": 20,
        "total_tokens": 50,
        "input_tokens_details": {"cached_tokens": 10},
        "output_tokens_details": {"reasoning_tokens": 5},
    },
}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-6",
    "content": [{"type": "text", "text": '{"answer": 42}'}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 100,
        "output_tokens": 50,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 0,
        "service_tier": "standard",
    },
}


def chat_chunks(*, usage: bool) -> list[bytes]:
    """A streamed chat of two tokens."""
    base = {
        "id": "chatcmpl-2",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "gpt-4o-mini-2024-07-18",
    }

    def chunk(delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        return event({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    chunks = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": '{"answer":'}),
        chunk({"content": " 42}"}),
        chunk({}, "stop"),
    ]
    if usage:
        chunks.append(event({**base, "choices": [], "usage": CHAT_USAGE}))
    return [*chunks, event("[DONE]")]


def response_events() -> list[bytes]:
    """A streamed response."""
    begun = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
    item = {**RESPONSE["output"][0], "content": [], "status": "in_progress"}
    part = {"type": "output_text", "text": "", "annotations": []}
    text = RESPONSE["output"][0]["content"][0]["text"]
    at = {"item_id": "msg_1", "output_index": 0}
    bodies: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **at, "content_index": 0, "part": part},
        {
            "type": "response.output_text.delta",
            **at,
            "content_index": 0,
            "delta": text,
            "logprobs": [],
        },
        {"type": "response.completed", "response": RESPONSE},
    ]
    return [
        event({**body, "sequence_number": number}, body["type"])
        for number, body in enumerate(bodies)
    ]


def message_events() -> list[bytes]:
    """A streamed message, whose counts of output are cumulative."""
    begun = {
        **MESSAGE,
        "content": [],
        "stop_reason": None,
        "usage": {**MESSAGE["usage"], "output_tokens": 1},
    }
    text = {"type": "text_delta", "text": '{"answer": 42}'}
    bodies: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        {"type": "content_block_delta", "index": 0, "delta": text},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 20},
        },
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 50},
        },
        {"type": "message_stop"},
    ]
    return [event(body, body["type"]) for body in bodies]
