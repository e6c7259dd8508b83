"""LiteLLM's StandardLoggingPayload of one call, as the JSON object that is kept and sent: as it is,
but for the keys' records, headers and addresses in it (`conventions.litellm_secrets`)."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from typing import Any, cast

from nilometer.conventions.litellm_secrets import scrubbed
from nilometer.conventions.loose_values import within
from nilometer.domain.span import plain
from nilometer.errors import InvalidInput
from nilometer.sdk.delivery.records import Form
from nilometer.sdk.scopes import Scopes

_MEMORY_BESIDE_TEXT = 300
_MEMORY_OF_VALUE = 64
_MEMORY_OF_NUMBER = 16
_LARGEST = 256 * 1024 * 1024
_AT_ONCE = 64 * 1024
"""A larger payload is written in pieces: json's encoder in C lets no other thread run meanwhile,
which is 10 ms for each MB or two."""
_NO_SCOPES = Scopes()
_SESSION_HEADER = re.compile(r"x-(?:[a-z0-9-]+-)?session-id")


class Payload:
    """One payload; `text` is its JSON, in one line."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    def of(cls, told: Mapping[str, Any], size: int = 0) -> Payload:
        """What LiteLLM tells, about so large. What has no JSON form becomes a text; nothing is
        raised for it."""
        return cls(_json(scrubbed(told), in_pieces=size > _AT_ONCE))

    @classmethod
    def from_json(cls, line: bytes) -> Payload:
        """What `to_json` wrote. Raises InvalidInput for another line."""
        try:
            text = line.decode()
            if isinstance(json.loads(text), dict):
                return cls(text)
        except (ValueError, RecursionError):
            pass
        raise InvalidInput("the line is no JSON object")

    @property
    def scopes(self) -> Scopes:
        """None: what a call belongs to, LiteLLM tells itself."""
        return _NO_SCOPES

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return len(self.text) + _MEMORY_BESIDE_TEXT

    def to_json(self) -> str:
        """Its JSON."""
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Its JSON, read."""
        return json.loads(self.text)


class Noted:
    """One payload as LiteLLM told it, to be written as JSON later, by another thread than its own.

    Lists and objects are copies, texts are not: who called goes on with its messages, and what was
    told stays. `size` is about how many bytes of memory it keeps.
    """

    __slots__ = ("size", "told")

    def __init__(self, told: Mapping[str, Any]) -> None:
        copy = _Copy()
        self.told = {name: copy.of(value, _DEEPEST) for name, value in told.items()}
        self.size = copy.size

    @property
    def scopes(self) -> Scopes:
        """None: what a call belongs to, LiteLLM tells itself."""
        return _NO_SCOPES


class _Copy:
    """Copies values, and counts about how much memory they keep."""

    def __init__(self) -> None:
        self.size = _MEMORY_BESIDE_TEXT

    def of(self, value: Any, depth: int) -> Any:
        """The copy; what lies deeper, or beyond what any queue takes, is as it was."""
        is_large = isinstance(value, (dict, list, str))
        self.size += _MEMORY_OF_VALUE if is_large else _MEMORY_OF_NUMBER
        if isinstance(value, str):
            self.size += len(value)
        elif depth and self.size < _LARGEST:
            if isinstance(value, dict):
                members = cast("dict[Any, Any]", value)
                return {name: self.of(member, depth - 1) for name, member in members.items()}
            if isinstance(value, list):
                return [self.of(item, depth - 1) for item in cast("list[Any]", value)]
        return value


def _weight(record: Any) -> int:
    return cast("Payload", record).size


PAYLOADS = Form(Payload.from_json, _weight)
"""How a lane reads and weighs them."""


class Assembly:
    """What stands for the making of metrics."""

    def metric(self, observed: Noted, /) -> Payload:
        """The payload, written."""
        return Payload.of(observed.told, observed.size)


def payload_in(kwargs: Any) -> Mapping[str, Any] | None:
    """The payload among what LiteLLM calls a callback with; None where it has none, as for calls
    that it does not log. A session that only a header of the request names is put into it: not
    every version (1.85) tells of headers."""
    told = within(kwargs, ("standard_logging_object",))
    if not isinstance(told, Mapping):
        return None
    payload = cast("Mapping[str, Any]", told)
    if payload.get("session_id"):
        return payload
    session = _session(within(kwargs, ("litellm_params", "proxy_server_request", "headers")))
    return {**payload, "session_id": session} if session else payload


def _session(headers: Any) -> str | None:
    if not isinstance(headers, Mapping):
        return None
    for name, value in cast("Mapping[Any, Any]", headers).items():
        if _SESSION_HEADER.fullmatch(str(name).lower()) and isinstance(value, str):
            return value or None
    return None


def call_of(told: Mapping[str, Any]) -> Hashable:
    """Which attempt at which call a payload is of: LiteLLM's call id, its outcome and its start, as
    in the id of its event (`conventions.litellm`)."""
    call = told.get("litellm_call_id") or told.get("id")
    return str(call), str(told.get("status")), str(told.get("startTime"))


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _json(value: dict[str, Any], *, in_pieces: bool) -> str:
    try:
        text = "".join(_ENCODER.iterencode(value)) if in_pieces else _ENCODER.encode(value)
        text.encode()
    except (TypeError, ValueError, RecursionError):  # a datetime, NaN, half of a surrogate pair …
        tame = plain(_formed(value, _DEEPEST))
        return json.dumps(tame, ensure_ascii=False, separators=(",", ":"))
    return text


_DEEPEST = 128


def _formed(value: Any, depth: int) -> Any:
    """The value with the objects of libraries in it as what they hold."""
    if depth == 0:
        return None
    if isinstance(value, Mapping):
        members = cast("Mapping[Any, Any]", value)
        return {str(name): _formed(member, depth - 1) for name, member in members.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_formed(item, depth - 1) for item in cast("list[Any]", value)]
    if value is None or isinstance(value, (str, int, float, bytes)):
        return value
    dump = getattr(value, "model_dump", None)
    return _formed(dump(), depth - 1) if callable(dump) else str(value)
