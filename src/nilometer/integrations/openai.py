"""OpenAI's library: Chat Completions, Responses, Embeddings, and the results of a Batch.

    client = wrap(OpenAI(), tracker)

Usage of a streamed chat comes only where the caller asks for it (`stream_options={"include_usage":
True}`): without it the call is recorded as estimated, its cost unknown. `include_usage=True` here
asks in the caller's place; an extra chunk without choices comes at the end of the stream then.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from nilometer.integrations.call import UNKNOWN_MODEL, Call, Endpoint, Lines, member, unread
from nilometer.integrations.stainless import Seam, attach
from nilometer.sdk.observation import Seen
from nilometer.sdk.tracker import Tracker

C = TypeVar("C")

SERVICE = "openai"
AZURE = "azure"
SERVICES: Mapping[str, str] = {
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshotai",
    "api.perplexity.ai": "perplexity",
    "api.together.xyz": "together",
    "api.x.ai": "x-ai",
    "generativelanguage.googleapis.com": "google",
    "openrouter.ai": "openrouter",
}
"""Whom the library speaks to by the host of `base_url`, where it is not OpenAI; any other host
is taken for a way to OpenAI."""

_NAMESPACE = uuid.UUID("2f6e1f2c-58d5-5c0e-9d0a-6c7f0a1f8e55")
_MAX_FILES = 1000
_RESULT = re.compile(rb'\{\s*"id"\s*:\s*"batch_req_')
"""How OpenAI begins a line of a batch's file of results."""


def wrap(client: C, tracker: Tracker, *, include_usage: bool = False) -> C:
    """Track the calls of an `OpenAI`, `AsyncOpenAI` or Azure client, and of its clones. Raises
    TypeError for what is none."""
    return attach(client, _seam(client, tracker, include_usage))


def _seam(client: Any, tracker: Tracker, include_usage: bool) -> Seam:
    service = _service(client)
    return Seam(
        tracker=tracker,
        service=service,
        endpoint=partial(_endpoint, native=service in (SERVICE, AZURE)),
        paths=_PAID,
        posted=_NATIVE if service in (SERVICE, AZURE) else _COMPATIBLE,
        alter=_with_usage if include_usage else None,
        renew=lambda clone: _seam(clone, tracker, include_usage),
    )


def _service(client: Any) -> str:
    if "Azure" in type(client).__name__:
        return AZURE
    host = urlsplit(str(getattr(client, "base_url", ""))).hostname or ""
    return AZURE if host.endswith(".openai.azure.com") else SERVICES.get(host, SERVICE)


def _endpoint(method: str, url: str, *, native: bool) -> tuple[Endpoint, str] | None:
    path = url.partition("?")[0]
    if method.lower() == "post":
        found = (_NATIVE if native else _COMPATIBLE).get(path)
        if found is not None:
            return found, ""
    if path.startswith("/batches"):
        return _BATCHES, ""
    if path.startswith("/files/") and path.endswith("/content"):
        return _RESULTS, path.split("/")[2]
    return None


def _with_usage(options: Any) -> Any:
    body = options.json_data
    if options.url != "/chat/completions" or not isinstance(body, Mapping):
        return options
    given = cast("Mapping[str, Any]", body)
    if given.get("stream") is not True or given.get("stream_options"):
        return options
    asked = {**given, "stream_options": {"include_usage": True}}
    return options.model_copy(update={"json_data": asked})


def _read_any(call: Call, data: Mapping[str, Any]) -> None:
    told = data.get
    call.response_id = told("id") or call.response_id
    call.model = told("model") or call.model
    call.service_tier = told("service_tier") or call.service_tier
    if (usage := told("usage")) is not None:
        call.usage = usage
        call.complete = True
    if told("error") is not None and (error := member(data, "error")):
        call.fail_with(error)


def _read_chat(call: Call, data: Mapping[str, Any]) -> None:
    _read_any(call, data)
    if call.stream and call.first_token_at is None and any(map(_says, data.get("choices") or ())):
        call.first_token()


def _says(choice: Mapping[str, Any]) -> bool:
    """Whether a choice of a chunk has some output: the first has only a role."""
    if choice.get("text"):
        return True
    delta: Mapping[str, Any] = choice.get("delta") or {}
    return any(value for name, value in delta.items() if name != "role")


def _read_response(call: Call, data: Mapping[str, Any]) -> None:
    if not call.stream:
        _read_any(call, data)
    elif str(data.get("type")).endswith(".delta"):
        call.first_token()
    elif response := member(data, "response"):
        _read_any(call, response)
    elif data.get("type") == "error":
        call.fail_with(member(data, "error") or data)


def _read_embeddings(call: Call, data: Mapping[str, Any]) -> None:
    call.model = data.get("model") or call.model
    call.usage = data.get("usage")


def _read_batch(call: Call, data: Mapping[str, Any]) -> None:
    """Which batch a file of results is of."""
    listed = data.get("data")
    for batch in cast("list[Any]", listed) if isinstance(listed, list) else [data]:
        for name in ("output_file_id", "error_file_id"):
            if file_id := batch.get(name):
                while len(call.memory) >= _MAX_FILES:
                    call.memory.pop(next(iter(call.memory)), None)
                call.memory[file_id] = batch["id"]


def _is_result(line: bytes) -> bool:
    """Whether a line is one of a batch's file of results; any other file has none of the kind."""
    if _RESULT.match(line):
        return True
    if b'"batch_req_' not in line:
        return False
    try:
        return str(json.loads(line).get("id")).startswith("batch_req_")
    except (ValueError, RecursionError):
        return False


def _read_result(call: Call, line: Mapping[str, Any]) -> Seen:
    """One line of a batch's file of results. It is the evidence of the batch price."""
    line_id = str(line["id"])
    response = member(line, "response")
    body = member(response, "body")
    status = response.get("status_code")
    error = member(line, "error") or member(body, "error")
    failed = bool(error) or status != 200
    kind = _BY_OBJECT.get(str(body.get("object")), _CHAT)
    seen: Seen = {
        "service": call.service,
        "model": body.get("model") or UNKNOWN_MODEL,
        "operation": kind.operation,
        "usage": body.get("usage"),
        "convention": kind.convention,
        "error": str(error.get("message") or error.get("code") or status) if failed else None,
        "error_type": error.get("code") or error.get("type"),
        "http_status": status,
        "provider_request_id": response.get("request_id"),
        "response_id": body.get("id"),
        "service_tier": "batch",
        "request_id": str(uuid.uuid5(_NAMESPACE, line_id)),
        "metadata": {"custom_id": line.get("custom_id"), "batch_request_id": line_id},
    }
    if (batch_id := call.memory.get(call.subject)) and call.scopes.batch_id is None:
        seen["batch_id"] = batch_id
    return seen


_CHAT = Endpoint("completion", "openai_chat", _read_chat)
_RESPONSE = Endpoint("response", "openai_responses", _read_response)
_EMBEDDING = Endpoint("embedding", "openai_embeddings", _read_embeddings)
_BATCHES = Endpoint("batch", None, _read_batch, billed=False)
_RESULTS = Endpoint("batch", None, unread, billed=False, lines=Lines(_is_result, _read_result))
_NATIVE: Mapping[str, Endpoint] = {
    "/chat/completions": _CHAT,
    "/completions": _CHAT,
    "/responses": _RESPONSE,
    "/embeddings": _EMBEDDING,
}
_COMPATIBLE: Mapping[str, Endpoint] = {
    path: Endpoint(each.operation, None, each.read) for path, each in _NATIVE.items()
}
"""Those of others: their usage is in their own words, which `conventions` tells apart."""
_PAID = frozenset({*_NATIVE, "/batches"})
_BY_OBJECT: Mapping[str, Endpoint] = {
    "chat.completion": _CHAT,
    "text_completion": _CHAT,
    "response": _RESPONSE,
    "list": _EMBEDDING,
}
