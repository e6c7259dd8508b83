"""The upstreams of two coding agents on loopback: Anthropic's messages, OpenAI's responses.

Each answers every request with the same text and the same usage, whatever model is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from tests.clients.upstream import Upstream, serving

TEXT = "Sixteen cubits."
MESSAGE_USAGE = {
    "input_tokens": 40,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 300,
    "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
    "output_tokens": 25,
}
RESPONSE_USAGE = {
    "input_tokens": 1200,
    "input_tokens_details": {"cached_tokens": 1000},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 1250,
}


@contextmanager
def mock_messages() -> Iterator[str]:
    """The base URL of Anthropic's API."""
    numbers = count(1)

    class Handler(Upstream):
        def post(self, asked: dict[str, Any]) -> None:
            assert self.path.partition("?")[0] == "/v1/messages"
            head = {"id": f"msg_mock{next(numbers):016d}", "model": asked["model"]}
            if asked.get("stream"):
                self.answer_events(message_events(head))
            else:
                content = [{"type": "text", "text": TEXT}]
                self.answer_json(200, message(head, content, MESSAGE_USAGE, "end_turn"))

    with serving(Handler) as url:
        yield url


def message(
    head: dict[str, Any], content: list[Any], usage: dict[str, Any], reason: str | None
) -> dict[str, Any]:
    """A message, whole or as a stream begins it."""
    outcome = {"stop_reason": reason, "stop_sequence": None, "usage": usage}
    return {**head, "type": "message", "role": "assistant", "content": content, **outcome}


def message_events(head: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The stream of a message."""
    started = MESSAGE_USAGE | {"output_tokens": 1}
    yield {"type": "message_start", "message": message(head, [], started, None)}
    block = {"type": "text", "text": ""}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    delta = {"type": "text_delta", "text": TEXT}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": MESSAGE_USAGE}
    yield {"type": "message_stop"}


@contextmanager
def mock_responses() -> Iterator[str]:
    """The base URL of OpenAI's API."""
    numbers = count(1)

    class Handler(Upstream):
        def post(self, asked: dict[str, Any]) -> None:
            assert self.path == "/responses"
            self.answer_events(_response_events(next(numbers), asked["model"]))

    with serving(Handler) as url:
        yield url


def _response_events(number: int, model: str) -> Iterator[dict[str, Any]]:
    response = {"id": f"resp_mock{number:024d}", "object": "response", "model": model}
    created = response | {"status": "in_progress", "output": []}
    yield {"type": "response.created", "sequence_number": 0, "response": created}
    item = {
        "id": f"msg_mock{number:024d}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
    }
    yield {
        "type": "response.output_item.done",
        "sequence_number": 1,
        "output_index": 0,
        "item": item,
    }
    done = response | {"status": "completed", "output": [item], "usage": RESPONSE_USAGE}
    yield {"type": "response.completed", "sequence_number": 2, "response": done}
