"""Anthropic's library: Messages, and the results of Message Batches.

client = wrap(Anthropic(), tracker)
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from nilometer.integrations.call import UNKNOWN_MODEL, Call, Endpoint, Lines, member, unread
from nilometer.integrations.stainless import Seam, attach
from nilometer.sdk.observation import Seen
from nilometer.sdk.tracker import Tracker

C = TypeVar("C")

SERVICE = "anthropic"
_PLATFORMS: Mapping[str, str] = {"Bedrock": "aws", "Vertex": "google", "Foundry": "azure"}
"""Who sells it, by a word in the name of the client's class."""

_NAMESPACE = uuid.UUID("8c1d34f0-94a5-5d77-9d5c-1f0f7a1c7a02")
_RESULTS_PATH = re.compile(r"/v1/messages/batches/([^/?]+)/results")


def wrap(client: C, tracker: Tracker) -> C:
    """Track the calls of an `Anthropic` or `AsyncAnthropic` client, one of another platform's, and
    their clones. Raises TypeError for what is none."""
    name = type(client).__name__
    platform = next((who for word, who in _PLATFORMS.items() if word in name), SERVICE)
    return attach(client, Seam(tracker, platform, _endpoint, paths=_PAID, posted=_MESSAGES))


def _endpoint(method: str, url: str) -> tuple[Endpoint, str] | None:
    if method.lower() == "post":
        return _POSTED.get(url.partition("?")[0])
    found = _RESULTS_PATH.search(url) if method.lower() == "get" else None
    return None if found is None else (_RESULTS, found[1])


def _read_message(call: Call, data: Mapping[str, Any]) -> None:
    if not call.stream:
        _read_answer(call, data)
        return
    kind = data.get("type")
    if kind == "content_block_delta":
        call.first_token()
    elif kind == "message_start":
        _read_answer(call, member(data, "message"))
    elif kind == "message_delta":
        # Its counts are of the whole message so far: the last of each holds.
        latest = member(data, "usage")
        known = {name: value for name, value in latest.items() if value is not None}
        call.usage = {**(call.usage or {}), **known}
        call.complete = True
    elif kind == "error":
        call.fail_with(member(data, "error"))


def _read_answer(call: Call, message: Mapping[str, Any]) -> None:
    call.response_id = message.get("id")
    call.model = message.get("model")
    if usage := member(message, "usage"):
        call.usage = usage
        call.service_tier = usage.get("service_tier")


def _read_text(call: Call, data: Mapping[str, Any]) -> None:
    """The old Text Completions, which tell no usage."""
    call.response_id = data.get("id")
    call.model = data.get("model")


def _read_result(call: Call, line: Mapping[str, Any]) -> Seen:
    """One line of the results of a batch: it is the evidence of the batch price."""
    result = member(line, "result")
    kind = result.get("type")
    message = member(result, "message")
    answer = member(result, "error")
    error = member(answer, "error")
    succeeded = kind == "succeeded"
    seen: Seen = {
        "service": call.service,
        "model": message.get("model") or UNKNOWN_MODEL,
        "operation": _MESSAGE.operation,
        "usage": message.get("usage"),
        "convention": _MESSAGE.convention,
        "error": None if succeeded else str(error.get("message") or kind),
        "error_type": None if succeeded else str(error.get("type") or kind),
        "provider_request_id": answer.get("request_id"),
        "response_id": message.get("id"),
        "service_tier": "batch",
        "request_id": str(uuid.uuid5(_NAMESPACE, f"{call.subject}/{line.get('custom_id')}")),
        "metadata": {"custom_id": line.get("custom_id")},
    }
    if not call.scopes.batch_id:
        seen["batch_id"] = call.subject
    return seen


_MESSAGE = Endpoint("completion", "anthropic", _read_message)
_TEXT = Endpoint("completion", "anthropic", _read_text)
_RESULTS = Endpoint("batch", None, unread, billed=False, lines=Lines(lambda _: True, _read_result))
_POSTED: Mapping[str, tuple[Endpoint, str]] = {
    "/v1/messages": (_MESSAGE, ""),
    "/v1/complete": (_TEXT, ""),
}
_MESSAGES: Mapping[str, Endpoint] = {path: found for path, (found, _) in _POSTED.items()}
_PAID = frozenset({*_POSTED, "/v1/messages/batches"})
