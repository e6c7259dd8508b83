"""From OTLP's messages to `Span`. Needs the `server` extra: the client library never comes here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from nilometer.domain.protobuf_wire import MalformedMessage
from nilometer.domain.span import KINDS, STATUSES, Span, SpanEvent, SpanLink

_DROPPED = ("dropped_attributes_count", "dropped_events_count", "dropped_links_count")


class SpanDecoder:
    """Reads the spans of one request. What their resource and scope say is read once for all.

    Its methods raise MalformedMessage for bytes that are no such message: cut, nested beyond
    protobuf's 100 levels, or with text that is not UTF-8.
    """

    def __init__(self) -> None:
        self._resources: dict[bytes, Mapping[str, Any]] = {}
        self._scopes: dict[bytes, tuple[str, str]] = {}

    def span(self, resource_head: bytes, scope_head: bytes, message: SpanMessage) -> Span:
        """The span of a message, with what the heads around it say (`otlp_request`)."""
        name, version = self.scope(scope_head)
        return Span(
            trace_id=_id(message.trace_id, 32),
            span_id=_id(message.span_id, 16),
            parent_id=_id(message.parent_span_id, 16),
            name=message.name,
            kind=_named(KINDS, message.kind),
            start=message.start_time_unix_nano,
            end=message.end_time_unix_nano,
            status=_named(STATUSES, message.status.code),
            status_message=message.status.message,
            attributes=_attributes(message.attributes),
            resource=self.resource(resource_head),
            scope_name=name,
            scope_version=version,
            trace_state=message.trace_state,
            events=[_event(event) for event in message.events],
            links=[_link(link) for link in message.links],
            dropped=_dropped(message),
        )

    def resource(self, head: bytes) -> Mapping[str, Any]:
        """The attributes of a resource."""
        known = self._resources.get(head)
        if known is None:
            message = _parsed(ResourceSpans.FromString, head, "resource")
            known = self._resources[head] = _attributes(message.resource.attributes)
        return known

    def scope(self, head: bytes) -> tuple[str, str]:
        """Name and version of a scope."""
        known = self._scopes.get(head)
        if known is None:
            scope = _parsed(ScopeSpans.FromString, head, "scope").scope
            known = self._scopes[head] = (scope.name, scope.version)
        return known


def span_message(data: bytes) -> SpanMessage:
    """The message of a span. Raises MalformedMessage."""
    return _parsed(SpanMessage.FromString, data, "span")


def _parsed(parse: Callable[[bytes], Any], data: bytes, what: str) -> Any:
    try:
        return parse(data)
    except (DecodeError, RecursionError) as error:
        raise MalformedMessage(f"a {what} is no such message: {error}") from None


def _id(given: bytes, digits: int) -> str | None:
    """As `known_id`, of an id in bytes."""
    return given.hex() if len(given) * 2 == digits and any(given) else None


def _named(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else names[0]


def _event(event: SpanMessage.Event) -> SpanEvent:
    return SpanEvent(event.name, event.time_unix_nano, _attributes(event.attributes))


def _link(link: SpanMessage.Link) -> SpanLink:
    return SpanLink(_id(link.trace_id, 32), _id(link.span_id, 16), _attributes(link.attributes))


def _dropped(message: SpanMessage) -> dict[str, int]:
    counts = ((name, getattr(message, name)) for name in _DROPPED)
    return {name.removesuffix("_count"): number for name, number in counts if number}


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Attributes by key; the last of a key that comes twice. One without a value is left out."""
    found: dict[str, Any] = {}
    for pair in pairs:
        value = pair.value
        # Most are texts, and this is half the time of asking which it is.
        read = value.string_value or _value(value)
        if read is not None:
            found[pair.key] = read
    return found


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None or kind == "string_value_strindex":  # of profiles: says nothing on a span
        return None
    read = _NESTED.get(kind)
    return getattr(value, kind) if read is None else read(value)


_NESTED: Mapping[str, Callable[[AnyValue], Any]] = {
    "array_value": lambda value: [
        item.string_value or _value(item) for item in value.array_value.values
    ],
    "kvlist_value": lambda value: _attributes(value.kvlist_value.values),
    "bytes_value": lambda value: value.bytes_value.hex(),
}
