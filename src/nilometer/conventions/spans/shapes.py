"""How the value of an attribute is read: one small function a shape, None when it does not fit.

Readers never raise and never guess, and their work is bounded by the value's size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from nilometer.conventions import typed_values
from nilometer.conventions.loose_values import claude_code_ids, mapping, parsed, without_query
from nilometer.domain import clock
from nilometer.domain.span import plain


class Moment(int):
    """A time in nanoseconds since the epoch, told where a duration from the start belongs."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A way to read a value: `name` is what the documentation calls it."""

    name: str
    read: Callable[[Any], Any]


def _content(value: Any) -> Any:
    if not isinstance(value, str):
        return plain(value)
    read = parsed(value)
    return plain(read) or None if isinstance(read, str) else read


def _first(value: Any) -> str | None:
    read = parsed(value)
    if isinstance(read, list):
        items = cast("list[Any]", read)
        return typed_values.name(items[0]) if items else None
    return typed_values.name(read)


def _provider(value: Any) -> str | None:
    """Vercel names a provider with the API it was called by: `openai.chat`."""
    text = typed_values.name(value)
    head, _, api = (text or "").rpartition(".")
    return head if head and api in _VERCEL_APIS else text


_VERCEL_APIS = {
    *("chat", "completion", "embedding", "image", "messages", "responses", "speech"),
    *("transcription", "generative-ai"),
}


def _stream(value: Any) -> bool | None:
    """Python writes its booleans `True` and `False`, and LiteLLM sends that."""
    if isinstance(value, bool):
        return value
    text = value.lower() if isinstance(value, str) and len(value) <= len("false") else ""
    return {"true": True, "false": False}.get(text)


def _millis(value: Any) -> float | None:
    seconds = typed_values.seconds(value)
    return None if seconds is None else seconds / 1000


def _moment(value: Any) -> Moment | None:
    """A time from ISO 8601 text, bare or as a JSON string."""
    text = value.strip().strip('"') if isinstance(value, str) and len(value) <= 64 else ""
    try:
        moment = datetime.fromisoformat(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return Moment(clock.to_micros(aware) * 1000)
    except (ValueError, OverflowError):
        return None


def _user(value: Any) -> str | None:
    account, _ = claude_code_ids(value)
    return account or typed_values.name(value)


def _session(value: Any) -> str | None:
    _, session = claude_code_ids(value)
    return session or typed_values.normalise_id(value)


def _lower(value: Any) -> str | None:
    text = typed_values.name(value)
    return text.lower() if text else None


def _json_texts(value: Any) -> Any:
    """A list whose items may each be the JSON text of one."""
    read = parsed(value)
    if not isinstance(read, list):
        return None
    return plain([parsed(item) for item in cast("list[Any]", read)])


def _parameters(value: Any) -> dict[str, Any] | None:
    read = mapping(value)
    return plain(read) if read else None


def _scalar(value: Any) -> Any:
    return plain(value) if value != "" else None


def _function_tools(value: Any) -> Any:
    tools = (mapping(value) or {}).get("function_tools")
    return plain(tools) if isinstance(tools, list) and tools else None


def _cost(value: Any) -> str | None:
    return None if value == "" else typed_values.usd(value)


def _either_bool(value: Any) -> bool | None:
    return True if typed_values.flag(value) or value == "True" else None


ID = Shape("id", typed_values.normalise_id)
NAME = Shape("name", typed_values.name)
LOWER = Shape("name in lowercase", _lower)
TEXT = Shape("text", typed_values.text)
USER = Shape("person (an account, from Claude Code's ids)", _user)
SESSION = Shape("session (from Claude Code's ids too)", _session)
PROVIDER = Shape("provider, without Vercel's API suffix", _provider)
URL = Shape("URL without user and query", without_query)
COUNT = Shape("count", typed_values.count)
USD = Shape("USD", _cost)
SECONDS = Shape("seconds", typed_values.seconds)
MILLIS = Shape("milliseconds", _millis)
MOMENT = Shape("ISO 8601 time, made seconds since the start", _moment)
FLAG = Shape("true or false", _stream)
IF_TRUE = Shape("true", _either_bool)
STATUS = Shape("HTTP status", typed_values.http_status)
FIRST = Shape("first of a list", _first)
CONTENT = Shape("JSON text, structured value, or text", _content)
OBJECT = Shape("object", _parameters)
MAPPING = Shape("object, JSON text or Python text of one", mapping)
SCALAR = Shape("as it is", _scalar)
JSON_TEXTS = Shape("list of JSON texts", _json_texts)
FUNCTION_TOOLS = Shape("its member `function_tools`", _function_tools)
