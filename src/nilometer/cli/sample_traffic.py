"""A small, varied set of events as an instrumented program would send them.

One support question answered by an agent: nested spans, an embedding, a call that fails and its
retry, a prompt of 1 MiB and an image as blobs, a metric and the user's feedback.
"""

from __future__ import annotations

import json
import struct
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

JSON = "application/json"
TEXT = "text/plain"
BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class SampleEvent:
    """One event: its name, when it was, its properties, and blobs by property name, each a content
    type and bytes."""

    name: str
    at: datetime
    properties: Mapping[str, Any]
    blobs: Mapping[str, tuple[str, bytes]] = field(default_factory=dict[str, tuple[str, bytes]])
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))

    def multipart(self) -> list[tuple[str, tuple[None, bytes, str]]]:
        """The parts of a request to `/i/v0/ai`, in the order that it demands."""
        event = {
            "uuid": self.uuid,
            "event": self.name,
            "distinct_id": "ada@example.com",
            "timestamp": self.at.isoformat(),
        }
        parts = [("event", (None, json.dumps(event).encode(), JSON))]
        parts.append(("event.properties", (None, json.dumps(dict(self.properties)).encode(), JSON)))
        parts += [
            (f"event.properties.{name}", (None, body, content_type))
            for name, (content_type, body) in self.blobs.items()
        ]
        return parts


def support_question(start: datetime) -> tuple[str, list[SampleEvent]]:
    """The trace id, and the events of one answered question that began at `start`."""
    trace = f"support-{uuid.uuid4().hex[:12]}"
    base = {"$ai_trace_id": trace, "$ai_session_id": "session-1", "$ai_job_id": trace}

    def at(seconds: float) -> datetime:
        return start + timedelta(seconds=seconds)

    def span(name: str, parent: str | None, latency: float, **more: Any) -> dict[str, Any]:
        return {
            **base,
            "$ai_model": "gpt-4o-mini",
            "$ai_provider": "openai",
            "$ai_span_name": name,
            "$ai_span_id": name,
            "$ai_parent_id": parent or trace,
            "$ai_latency": latency,
            **more,
        }

    question = "Why was my card charged twice in October?"
    events = [
        SampleEvent(
            "$ai_embedding",
            at(0.1),
            span("embed-question", "retrieve", 0.08)
            | {"$ai_model": "text-embedding-3-small", "$ai_input": question, "$ai_input_tokens": 9},
        ),
        SampleEvent(
            "$ai_span",
            at(0.0),
            span("retrieve", None, 0.31)
            | {"$ai_input_state": {"query": question}, "$ai_output_state": {"documents": 3}},
        ),
        SampleEvent(
            "$ai_generation",
            at(0.4),
            span("first-try", "agent", 1.0)
            | {
                "$ai_is_error": True,
                "$ai_http_status": 429,
                "$ai_error": "RateLimitError: limit reached for gpt-4o-mini, request req_8f2a6c",
                "$ai_input": [{"role": "user", "content": question}],
            },
        ),
        SampleEvent(
            "$ai_generation",
            at(1.5),
            span("read-statement", "agent", 2.4)
            | {"$ai_input_tokens": 262_144, "$ai_output_tokens": 64},
            {
                "$ai_input": (JSON, _statement_prompt()),
                "$ai_output_choices": (
                    TEXT,
                    b"Two charges of 12.00 on 2026-10-14, 31 seconds apart. The second is a retry.",
                ),
                "$ai_attachment": (BINARY, _image(64)),
            },
        ),
        SampleEvent(
            "$ai_generation",
            at(4.0),
            span("answer", "agent", 1.2)
            | {
                "$ai_input_tokens": 412,
                "$ai_output_tokens": 38,
                "$ai_cache_read_input_tokens": 256,
                "$ai_temperature": 0.2,
                "$ai_stream": True,
                "$ai_time_to_first_token": 0.35,
                "$ai_stop_reason": "stop",
                "$ai_output_choices": [
                    {
                        "role": "assistant",
                        "content": "The second charge was a retry and is being refunded.",
                    }
                ],
            },
        ),
        SampleEvent("$ai_span", at(0.35), span("agent", None, 4.9)),
        SampleEvent(
            "$ai_trace",
            at(0.0),
            {
                **base,
                "$ai_model": "gpt-4o-mini",
                "$ai_span_name": "answer a support question",
                "$ai_trace_name": "answer a support question",
                "$ai_latency": 5.2,
            },
        ),
        SampleEvent(
            "$ai_metric",
            at(5.3),
            {
                **base,
                "$ai_model": "gpt-4o-mini",
                "$ai_metric_name": "groundedness",
                "$ai_metric_value": "0.94",
            },
        ),
        SampleEvent(
            "$ai_feedback",
            at(9),
            {**base, "$ai_model": "gpt-4o-mini", "$ai_feedback_text": "That was quick, thank you!"},
        ),
    ]
    return trace, events


def _statement_prompt() -> bytes:
    """A prompt of 1 MiB or a little more: a system message and a long bank statement."""
    lines: list[str] = []
    size = 0
    while size < 1024 * 1024:
        number = len(lines)
        lines.append(f"2026-10-{number % 31 + 1:02} POS {number:07} COFFEE ROW {number * 37 % 997}")
        size += len(lines[-1]) + 2
    messages = [
        {"role": "system", "content": "Find duplicate charges in the statement."},
        {"role": "user", "content": "\n".join(lines)},
    ]
    return json.dumps(messages).encode()


def _image(side: int) -> bytes:
    """A small real PNG, a grey gradient."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    rows = b"".join(
        b"\x00" + bytes((x + y) * 255 // (2 * side) for x in range(side)) for y in range(side)
    )
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
