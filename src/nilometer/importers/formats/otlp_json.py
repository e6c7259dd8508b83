"""A span of OTLP's JSON ("JSON Protobuf Encoding" of its specification) as `Span`.

Names come in lowerCamelCase, or with underscores as protobuf's own writer puts them; 64-bit numbers
as texts or numbers; enums as numbers or names; ids in hexadecimal.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any, cast

from nilometer.domain.span import KINDS, MAX_DEPTH, STATUSES, Span, SpanEvent, SpanLink, known_id
from nilometer.importers.formats.record import Record, RecordFault
from nilometer.importers.trace_call import Reason


def spans(record: Record) -> Iterator[tuple[Record, Record, Any]]:
    """Each span of an export request, unread, with its resource and scope."""
    for group in _objects(record, "resourceSpans", "resource_spans"):
        resource = _object(group, "resource")
        for inner in _objects(group, "scopeSpans", "scope_spans", "instrumentationLibrarySpans"):
            scope = _object(inner, "scope", "instrumentationLibrary")
            found = inner.get("spans")
            for span in cast("list[Any]", found) if type(found) is list else ():
                yield resource, scope, span


def span(resource: Record, scope: Record, told: Any) -> Span:
    """The span. Raises RecordFault for what is none."""
    if type(told) is not dict:
        raise RecordFault(Reason.BAD_MESSAGE, "a span is no object")
    source = cast("Record", told)
    status = _object(source, "status")
    return Span(
        trace_id=_id(source, 32, "traceId", "trace_id"),
        span_id=_id(source, 16, "spanId", "span_id"),
        parent_id=_id(source, 16, "parentSpanId", "parent_span_id"),
        name=_text(source.get("name")),
        kind=_named(KINDS, source.get("kind"), "SPAN_KIND_"),
        start=_nanos(source, "startTimeUnixNano", "start_time_unix_nano"),
        end=_nanos(source, "endTimeUnixNano", "end_time_unix_nano"),
        status=_named(STATUSES, status.get("code"), "STATUS_CODE_"),
        status_message=_text(status.get("message")),
        attributes=_attributes(source.get("attributes")),
        resource=_attributes(resource.get("attributes")),
        scope_name=_text(scope.get("name")),
        scope_version=_text(scope.get("version")),
        trace_state=_text(_member(source, "traceState", "trace_state")),
        events=[_event(event) for event in _objects(source, "events")],
        links=[_link(link) for link in _objects(source, "links")],
    )


def _event(told: Record) -> SpanEvent:
    moment = _nanos(told, "timeUnixNano", "time_unix_nano")
    return SpanEvent(_text(told.get("name")), moment, _attributes(told.get("attributes")))


def _link(told: Record) -> SpanLink:
    return SpanLink(
        _id(told, 32, "traceId", "trace_id"),
        _id(told, 16, "spanId", "span_id"),
        _attributes(told.get("attributes")),
    )


def _attributes(pairs: Any, depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Attributes by key; the last of a key that comes twice. One without a value is left out."""
    found: dict[str, Any] = {}
    for pair in cast("list[Any]", pairs) if type(pairs) is list else ():
        if type(pair) is dict:
            told = cast("Record", pair)
            value = _value(told.get("value"), depth)
            if value is not None and type(told.get("key")) is str:
                found[told["key"]] = value
    return found


def _value(told: Any, depth: int) -> Any:
    if type(told) is not dict or depth == 0:
        return None
    for name, value in cast("Record", told).items():
        known = name.replace("_v", "V")
        if known in ("stringValue", "boolValue", "doubleValue"):
            return value
        if known == "intValue":
            return _whole(value)
        if known == "arrayValue":
            items = cast("Record", value).get("values") if type(value) is dict else None
            each = cast("list[Any]", items) if type(items) is list else []
            return [_value(item, depth - 1) for item in each]
        if known == "kvlistValue":
            return _attributes(
                cast("Record", value).get("values") if type(value) is dict else None, depth - 1
            )
        if known == "bytesValue":
            return _hex(value)
    return None


def _whole(value: Any) -> Any:
    if type(value) is str and len(value) <= 20:
        try:
            return int(value)
        except ValueError:
            return value
    return value


def _hex(value: Any) -> str | None:
    try:
        return base64.b64decode(value).hex()
    except (TypeError, ValueError, binascii.Error):
        return None


def _id(holder: Record, digits: int, *names: str) -> str | None:
    value = _member(holder, *names)
    return known_id(value, digits) if type(value) is str else None


def _nanos(holder: Record, *names: str) -> int:
    value = _whole(_member(holder, *names) or 0)
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise RecordFault(Reason.BAD_MESSAGE, "a time of a span is no number of nanoseconds")
    return value


def _named(names: tuple[str, ...], value: Any, prefix: str) -> str:
    if type(value) is str and value.startswith(prefix):
        name = value[len(prefix) :].lower()
        return name if name in names else names[0]
    return names[value] if type(value) is int and 0 <= value < len(names) else names[0]


def _member(holder: Record, *names: str) -> Any:
    return next((holder[name] for name in names if name in holder), None)


def _object(holder: Record, *names: str) -> Record:
    value = _member(holder, *names)
    return cast("Record", value) if type(value) is dict else {}


def _objects(holder: Record, *names: str) -> list[Record]:
    value = _member(holder, *names)
    members = cast("list[Any]", value) if type(value) is list else []
    return [cast("Record", each) for each in members if type(each) is dict]


def _text(value: Any) -> str:
    return value if type(value) is str else ""
