"""Anthropic's messages on loopback: what each model answers is fixed, and said here.

`claude-opus-4-7` refuses, `claude-opus-4-8` is an error of the upstream; any other model answers,
as a stream when asked. All that answer use the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from tests.clients.mock_agents import MESSAGE_USAGE, TEXT, message, message_events
from tests.clients.upstream import Upstream, serving

ANSWERING, REFUSING, BROKEN = "claude-sonnet-4-6", "claude-opus-4-7", "claude-opus-4-8"


@contextmanager
def mock_anthropic() -> Iterator[str]:
    """The base URL of a running mock."""
    with serving(_handler()) as url:
        yield url


def _handler() -> type[Upstream]:
    numbers = count(1)

    class Handler(Upstream):
        def post(self, asked: dict[str, Any]) -> None:
            head = {"id": f"msg_mock{next(numbers):016d}", "model": asked["model"]}
            if asked["model"] == BROKEN:
                error = {"type": "api_error", "message": "upstream broke"}
                self.answer_json(500, {"type": "error", "error": error})
            elif asked["model"] == REFUSING:
                self.answer_json(200, message(head, [], MESSAGE_USAGE, "refusal"))
            elif asked.get("stream"):
                self.answer_events(message_events(head))
            else:
                content = [{"type": "text", "text": TEXT}]
                self.answer_json(200, message(head, content, MESSAGE_USAGE, "end_turn"))

    return Handler
