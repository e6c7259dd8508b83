"""OTLP's JSON to its protobuf, by the rules of the OTLP specification ("JSON Protobuf Encoding").

protobuf's own JSON reader does the work; it takes names in lowerCamelCase and with underscores,
numbers as texts, enums as numbers and names, and passes over what it does not know. Ids are the
exception to its rules: hexadecimal here, not base64.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, cast

import orjson
from google.protobuf import json_format
from google.protobuf.message import EncodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from nilometer.capture.refusals import ParsingFault, TooBig

MAX_NODES = 1_000_000
"""Objects and lists of one body; an honest one has about one in 25 bytes."""
_MAX_DEPTH = 100  # protobuf's own
_INVALID_ID = base64.b64encode(b"\0").decode()
"""Stands for an id that is not hexadecimal: no id has one byte, so its span is refused as such."""


def to_protobuf(body: bytes) -> bytes:
    """The export request of a JSON body, as protobuf. Raises ParsingFault and TooBig."""
    if body.count(b"{") + body.count(b"[") > MAX_NODES:
        raise TooBig(f"the JSON has more than {MAX_NODES} objects and lists")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ParsingFault(f"Invalid JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise ParsingFault("Invalid OTLP trace format: not an object", code="invalid_otlp")
    request = cast("dict[str, Any]", value)
    for span in _spans(request):
        _decode_ids(span)
    try:
        message = ExportTraceServiceRequest()
        json_format.ParseDict(
            request, message, ignore_unknown_fields=True, max_recursion_depth=_MAX_DEPTH
        )
        return message.SerializeToString()
    except (json_format.ParseError, EncodeError, ValueError, RecursionError) as error:
        # The reader's own text quotes what was sent, which may be a prompt.
        raise ParsingFault(
            f"Invalid OTLP trace format: {_place(error)}", code="invalid_otlp"
        ) from None


def _place(error: Exception) -> str:
    """Where the reader stopped, as a path, without what it found there."""
    _, at, path = str(error).rpartition(" at ")
    path = path.strip(' ".')
    known = at and len(path) < 200 and path.startswith("ExportTraceServiceRequest")
    return f"unexpected value at {path}" if known else "an unexpected value"


def _spans(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in _members(request, "resourceSpans", "resource_spans"):
        for scope in _members(resource, "scopeSpans", "scope_spans"):
            yield from _members(scope, "spans", "spans")


def _members(holder: dict[str, Any], *names: str) -> Iterator[dict[str, Any]]:
    for name in dict.fromkeys(names):
        found = holder.get(name)
        if isinstance(found, list):
            yield from (
                cast("dict[str, Any]", each)
                for each in cast("list[Any]", found)
                if isinstance(each, dict)
            )


def _decode_ids(span: dict[str, Any]) -> None:
    for name in ("traceId", "trace_id", "spanId", "span_id", "parentSpanId", "parent_span_id"):
        _decode_id(span, name)
    for link in _members(span, "links"):
        for name in ("traceId", "trace_id", "spanId", "span_id"):
            _decode_id(link, name)


def _decode_id(holder: dict[str, Any], name: str) -> None:
    text = holder.get(name)
    if text is None:
        return
    try:
        holder[name] = base64.b64encode(bytes.fromhex(text)).decode()
    except (TypeError, ValueError):
        holder[name] = _INVALID_ID
