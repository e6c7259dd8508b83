"""OTLP requests for tests, and the spans of what a door accepted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import requests
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from nilometer.domain import otlp_record
from nilometer.domain.otlp_request import single_spans
from nilometer.domain.otlp_span import SpanDecoder, span_message
from nilometer.domain.span import Span as DomainSpan
from tests.capture.door import Door

PROTOBUF = "application/x-protobuf"
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
HTTP = {"http.request.method": "GET"}


def value(given: Any) -> AnyValue:
    match given:
        case bool():
            return AnyValue(bool_value=given)
        case int():
            return AnyValue(int_value=given)
        case float():
            return AnyValue(double_value=given)
        case bytes():
            return AnyValue(bytes_value=given)
        case list():
            return AnyValue(array_value=ArrayValue(values=map(value, given)))
        case dict():
            return AnyValue(kvlist_value=KeyValueList(values=attributes(given)))
        case _:
            return AnyValue(string_value=given)


def attributes(given: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(each)) for key, each in given.items()]


def span(given: Mapping[str, Any] = CHAT, **fields: Any) -> Span:
    """A valid span with these attributes; `fields` are of the message."""
    usual = {"trace_id": os.urandom(16), "span_id": os.urandom(8), "name": "chat gpt-4o", "kind": 3}
    return Span(**(usual | fields), attributes=attributes(given))


def request(
    *spans: Span, resource: Mapping[str, Any] | None = None, scope: str = "tests"
) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    group.resource.attributes.extend(attributes(resource or {"service.name": "tests"}))
    inner = group.scope_spans.add()
    inner.scope.name, inner.scope.version = scope, "1.2"
    inner.spans.extend(spans)
    return made


def body(*spans: Span, **options: Any) -> bytes:
    return request(*spans, **options).SerializeToString()


def as_json(made: ExportTraceServiceRequest) -> dict[str, Any]:
    """OTLP's JSON: as protobuf's, but for ids in hexadecimal and enums as numbers."""
    told = json_format.MessageToDict(made, use_integers_for_enums=True)
    for group in told["resourceSpans"]:
        for inner in group["scopeSpans"]:
            for each, message in zip(
                inner["spans"], made.resource_spans[0].scope_spans[0].spans, strict=True
            ):
                each["traceId"] = message.trace_id.hex()
                each["spanId"] = message.span_id.hex()
    return told


def post(
    door: Door, data: bytes | None, *, path: str = "/v1/traces", key: str | None = None, **h: str
) -> requests.Response:
    """A POST with a key in `Authorization: Bearer`; `h` are headers, with `_` for `-`."""
    headers = {"Authorization": f"Bearer {key or door.key}", "Content-Type": PROTOBUF}
    headers |= {name.replace("_", "-"): text for name, text in h.items()}
    named = {name: text for name, text in headers.items() if text}
    url = f"http://127.0.0.1:{door.port}{path}"
    return requests.post(url, data=data, headers=named, timeout=30)


def partial(response: requests.Response) -> tuple[int, str]:
    """What a protobuf answer says was rejected, and why."""
    assert (response.status_code, response.headers["content-type"]) == (200, PROTOBUF)
    told = ExportTraceServiceResponse.FromString(response.content).partial_success
    return told.rejected_spans, told.error_message


def accepted(door: Door) -> list[DomainSpan]:
    """Every span in the door's log."""
    found: list[DomainSpan] = []
    for envelope in door.log.envelopes:
        assert (envelope.door, envelope.project_id) == ("otlp", door.project)
        decoder = SpanDecoder()
        groups = otlp_record.decode(envelope.payload).groups()
        found += [
            decoder.span(group.head, scope.head, span_message(data))
            for group, scope, data in single_spans(groups)
        ]
    return found


def names(spans: Sequence[DomainSpan]) -> list[str]:
    return [each.name for each in spans]
