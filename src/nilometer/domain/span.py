"""A span as OpenTelemetry tells it, whatever encoding it came in: the noun between door and table.

Its JSON is what a row keeps as `source`, so that the server can map it again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, cast

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
"""Names of the span kinds, at OTLP's numbers."""
STATUSES = ("unset", "ok", "error")
"""Names of the status codes, at OTLP's numbers."""
MAX_DEPTH = 64
"""Levels of lists and objects inside one attribute; what lies deeper is not kept."""


def known_id(text: str, digits: int) -> str | None:
    """The id in lowercase when it is `digits` hex digits and not all zero, else None.

    OpenTelemetry calls any other id invalid: 32 digits name a trace, 16 a span.
    """
    if len(text) != digits or not text.isascii() or not text.isalnum():
        return None
    try:
        return text.lower() if any(bytes.fromhex(text)) else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened during a span; `time` is nanoseconds since the epoch."""

    name: str
    time: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class SpanLink:
    """Another span that this one names as a cause; ids as on the span."""

    trace_id: str | None
    span_id: str | None
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span with what its resource and scope say of it.

    Ids are lowercase hex, None where the source gave none that is valid (`known_id`). `start` and
    `end` are nanoseconds since the epoch, 0 when unknown. Attributes are plain JSON values: bytes
    as hex, numbers that JSON has not as text (`plain`).
    """

    trace_id: str | None = None
    span_id: str | None = None
    parent_id: str | None = None
    name: str = ""
    kind: str = "unspecified"
    start: int = 0
    end: int = 0
    status: str = "unset"
    status_message: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    resource: Mapping[str, Any] = field(default_factory=dict[str, Any])
    scope_name: str = ""
    scope_version: str = ""
    trace_state: str = ""
    events: Sequence[SpanEvent] = ()
    links: Sequence[SpanLink] = ()
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])

    def members(self) -> dict[str, Any]:
        """What `to_json` writes, as values of which one may have no JSON form."""
        members = {
            name: value
            for name, value in zip(_PLAIN_MEMBERS, _PLAIN_VALUES(self), strict=True)
            if value
        }
        if self.events:
            members["events"] = [_event_members(event) for event in self.events]
        if self.links:
            members["links"] = [_link_members(link) for link in self.links]
        return members

    def to_json(self) -> str:
        """Compact JSON text of the span, without what has its default value."""
        members = self.members()
        try:
            return _dumps(members)
        except (ValueError, TypeError, RecursionError):
            return _dumps(plain(members))

    @classmethod
    def from_json(cls, text: str | bytes) -> Span:
        """The span that `to_json` wrote. Raises ValueError when the text is no such JSON."""
        try:
            members = cast("dict[str, Any]", json.loads(text))
            events = tuple(SpanEvent(**event) for event in members.pop("events", ()))
            links = tuple(SpanLink(**link) for link in members.pop("links", ()))
            return cls(**members, events=events, links=links)
        except (TypeError, AttributeError, RecursionError) as error:
            raise ValueError("this JSON is not a span") from error


_PLAIN_MEMBERS = (
    *("trace_id", "span_id", "parent_id", "name", "start", "end", "status_message"),
    *("attributes", "resource", "scope_name", "scope_version", "trace_state", "dropped"),
    *("kind", "status"),
)
_PLAIN_VALUES = attrgetter(*_PLAIN_MEMBERS)


def plain(value: Any, depth: int = MAX_DEPTH + 8) -> Any:
    """The value as plain JSON of bounded depth.

    NaN and infinities become their names, as in OTLP's JSON; whole numbers beyond 64 bits their
    digits; bytes hex; half of a surrogate pair U+FFFD; what has no JSON form, or lies deeper than
    `depth` levels, a note that says so.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 64 else _digits(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else _number_name(value)
    if isinstance(value, str):
        return value if value.isascii() else _text(value)
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    return _plain_container(value, depth - 1)


def _plain_container(value: Any, depth: int) -> Any:
    if isinstance(value, (Mapping, list, tuple)) and depth > 0:
        if isinstance(value, Mapping):
            members = cast("Mapping[Any, Any]", value)
            return {plain(str(key)): plain(item, depth) for key, item in members.items()}
        return [plain(item, depth) for item in cast("Sequence[Any]", value)]
    return "<nested too deep or without a JSON form>"


def _text(value: str) -> str:
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _digits(value: int) -> str:
    return str(value) if value.bit_length() <= 1024 else hex(value)


def _number_name(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _event_members(event: SpanEvent) -> dict[str, Any]:
    return {"name": event.name, "time": event.time, "attributes": event.attributes}


def _link_members(link: SpanLink) -> dict[str, Any]:
    return {"trace_id": link.trace_id, "span_id": link.span_id, "attributes": link.attributes}


def _dumps(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if not text.isascii():
        text.encode()  # half of a surrogate pair is a ValueError here
    return text
