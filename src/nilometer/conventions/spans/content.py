"""Shapes of content that a table of names cannot say: flattened lists, messages in pieces.

A builder takes what `flat.nested` made of the attributes of one list, returns None when there is
nothing in it, and keeps what it does not know: an unknown part of a message survives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from nilometer.conventions.loose_values import mapping, parsed
from nilometer.conventions.spans.shapes import Shape
from nilometer.domain.span import plain

_WRAPPERS = {"message", "message_content", "tool_call", "document", "embedding", "image", "audio"}
_CHOICE_EVENT = "gen_ai.choice"


def messages(items: Any) -> list[Any] | None:
    """Messages from `N.role`, `N.content` … (OpenLLMetry) or `N.message.role` … (OpenInference)."""
    built = [_message(item) for item in _items(items)]
    return built or None


def tools(items: Any) -> list[Any] | None:
    """Tool definitions from `N.name`, `N.description`, `N.parameters` (JSON text)."""
    built = [
        {**tool, "parameters": parsed(tool["parameters"])} if "parameters" in tool else tool
        for tool in _objects(items)
    ]
    return built or None


def openinference_tools(items: Any) -> list[Any] | None:
    """Tool definitions from `N.tool.json_schema` (JSON text) or `N.tool.name` …"""
    built: list[Any] = []
    for item in _objects(items):
        tool = item.get("tool", item)
        schema = cast("dict[str, Any]", tool).get("json_schema") if isinstance(tool, dict) else None
        built.append(tool if schema is None else parsed(schema))
    return built or None


def prompt_texts(items: Any) -> list[Any] | None:
    """Texts from `N.prompt.text`, `N.completion.text`."""
    return _members(items, ("prompt", "completion"), "text")


def embedded_texts(items: Any) -> list[Any] | None:
    """Texts from `N.embedding.text`; the vectors beside them stay in the source only."""
    return _members(items, ("embedding",), "text")


def documents(items: Any) -> list[Any] | None:
    """Documents from `N.document.id`, `.content`, `.score`, `.metadata`."""
    return [_unwrapped(item) for item in _items(items)] or None


def vercel_answer(pieces: Any) -> list[Any] | None:
    """One assistant message from `text`, `reasoning`, `toolCalls`, `object` and `files`."""
    told = cast("dict[str, Any]", pieces)
    parts: list[Any] = [
        {"type": kind, "text": told[piece]}
        for piece, kind in (("reasoning", "reasoning"), ("text", "text"))
        if _is_told(told.get(piece))
    ]
    if _is_told(told.get("object")):
        parts.append({"type": "object", "object": parsed(told["object"])})
    for piece, kind in (("toolCalls", "tool-call"), ("files", "file")):
        read = parsed(told.get(piece))
        calls = cast("list[Any]", read) if isinstance(read, list) else []
        parts += [_typed(call, kind) for call in calls]
    return [{"role": "assistant", "content": parts}] if parts else None


def _is_told(value: Any) -> bool:
    return value is not None and value != ""


def _typed(call: Any, kind: str) -> Any:
    return {"type": kind, **cast("dict[str, Any]", call)} if isinstance(call, dict) else call


def _events(wanted: Callable[[dict[str, Any]], bool]) -> Callable[[Any], list[Any] | None]:
    def read(value: Any) -> list[Any] | None:
        told = parsed(value)
        if not isinstance(told, list):
            return None
        events = [cast("dict[str, Any]", e) for e in cast("list[Any]", told) if isinstance(e, dict)]
        return [plain(message_of(event)) for event in events if wanted(event)] or None

    return read


def message_of(event: dict[str, Any]) -> dict[str, Any]:
    """The message in a GenAI event's body: a choice's own, else the body without its marks.

    The role is the event's, where the body has none: `gen_ai.user.message`.
    """
    name = str(event.get("event.name", ""))
    body = {key: value for key, value in event.items() if key not in _EVENT_MARKS}
    inner = parsed(body.get("message"))
    if name == _CHOICE_EVENT and isinstance(inner, dict):
        body = {
            **cast("dict[str, Any]", inner),
            **{k: v for k, v in body.items() if k != "message"},
        }
    for key in ("content", "tool_calls"):
        if key in body:
            body[key] = parsed(body[key])
    role = "assistant" if name == _CHOICE_EVENT else name[len("gen_ai.") : -len(".message")]
    return body if "role" in body or not role else {"role": role, **body}


_EVENT_MARKS = {"event.name", "gen_ai.message.index", "gen_ai.system", "gen_ai.provider.name"}


def _chat_messages(value: Any) -> list[Any] | None:
    told = (mapping(value) or {}).get("messages")
    return plain(told) if isinstance(told, list) and told else None


def _chat_tools(value: Any) -> list[Any] | None:
    told = mapping(value) or {}
    if not isinstance(told.get("messages"), list):
        return None
    found = told.get("tools") or told.get("functions")
    return plain(found) if isinstance(found, list) else None


EVENTS_INPUT = Shape(
    "JSON list of GenAI events: the messages",
    _events(lambda event: event.get("event.name") != _CHOICE_EVENT),
)
EVENTS_OUTPUT = Shape(
    "JSON list of GenAI events: the choices",
    _events(lambda event: event.get("event.name") == _CHOICE_EVENT),
)
CHAT_MESSAGES = Shape("chat request: its `messages`", _chat_messages)
CHAT_TOOLS = Shape("chat request: its `tools`", _chat_tools)


def _items(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in _items(value) if isinstance(item, dict)]


def _members(items: Any, wrappers: tuple[str, ...], member: str) -> list[Any] | None:
    found: list[Any] = []
    for item in _objects(items):
        for wrapper in wrappers:
            inner = item.get(wrapper)
            if isinstance(inner, dict) and member in inner:
                found.append(cast("dict[str, Any]", inner)[member])
    return found or None


def _message(item: Any) -> Any:
    message = _unwrapped(item)
    if not isinstance(message, dict):
        return message
    told = cast("dict[str, Any]", message)
    contents = told.pop("contents", None)
    if contents is not None:
        told["content"] = contents
    elif "content" in told:
        told["content"] = parsed(told["content"])
    return told


def _unwrapped(value: Any) -> Any:
    """The value without OpenInference's wrappers: `{"message": {…}}` is what is in it."""
    if isinstance(value, list):
        return [_unwrapped(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    told = cast("dict[str, Any]", value)
    if len(told) == 1:
        name, inner = next(iter(told.items()))
        if name in _WRAPPERS and isinstance(inner, dict):
            return _unwrapped(inner)
    return {name: _unwrapped(inner) for name, inner in told.items()}
