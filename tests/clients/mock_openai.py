"""OpenAI's chat completions on loopback: what each model answers is fixed, and said here.

`gpt-4o-mini` answers, as a stream when asked; any other model is an error of the upstream.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from tests.clients.upstream import EVENT_STREAM, Upstream, serving

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
    with serving(_handler()) as url:
        yield url


def _handler() -> type[Upstream]:
    numbers = count(1)

    class Handler(Upstream):
        def post(self, asked: dict[str, Any]) -> None:
            if asked["model"] != "gpt-4o-mini":
                error = {"error": {"message": "upstream broke", "type": "server_error"}}
                self.answer_json(500, error)
                return
            head = {
                "id": f"chatcmpl-mock-{next(numbers):016d}",
                "created": 1751367600,
                "model": "gpt-4o-mini-2024-07-18",
            }
            if asked.get("stream"):
                self.answer(200, EVENT_STREAM, "".join(_chunks(head)))
            else:
                self.answer_json(200, _completion(head))

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
