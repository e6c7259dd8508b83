"""From a record of the OTLP doors to rows."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from nilometer.conventions import spans
from nilometer.conventions.spans.detection import is_ai
from nilometer.domain.ai_record import RecordBroken
from nilometer.domain.otlp_record import OtlpRecord
from nilometer.domain.protobuf_wire import field
from nilometer.domain.span import Span
from nilometer.log.envelope import Envelope
from nilometer.pipeline.mapping import Rows, Unmappable, excerpt, map_record
from tests.pipeline.records import ACCEPTED_AT, mapped

RECORD = "01980000-0000-7000-8000-000000000000"
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.response.model": "gpt-4o"}


def record(*attributes: dict[str, Any], request: bytes = b"", **fields: Any) -> Envelope:
    made = ExportTraceServiceRequest()
    scopes = made.resource_spans.add()
    scopes.resource.attributes.add(key="service.name").value.string_value = "s"
    inner = scopes.scope_spans.add()
    for each in attributes:
        span = inner.spans.add(trace_id=os.urandom(16), span_id=os.urandom(8), **fields)
        for key, value in each.items():
            kind = "int_value" if isinstance(value, int) else "string_value"
            setattr(span.attributes.add(key=key).value, kind, value)
    kept = OtlpRecord(
        request=made.SerializeToString() + request, protocol="http", ip="1.2.3.4", retention_days=7
    )
    return Envelope(3, RECORD, "otlp", 1, ACCEPTED_AT, 1, kept.encode())


def test_a_span_becomes_an_event_that_can_be_mapped_again():
    start = 1_751_367_500_000_000_000
    rows = mapped(record(CHAT, start_time_unix_nano=start, end_time_unix_nano=start + 10**9))
    row = orjson.loads(rows.event)
    assert (row["project_id"], row["event"], row["door"]) == (3, "$ai_generation", "otlp")
    assert (row["model"], row["ip"]) == ("gpt-4o", "1.2.3.4")
    assert row["timestamp"] == "2025-07-01T10:58:20Z"
    assert row["expires_at"] == "2025-07-09T00:00:00Z"
    assert row["latency"] == 1
    assert row["converter"] == f"spans/{spans.MAPPING_VERSION}"
    again = spans.convert(Span.from_json(row["source"]))
    assert (again.uuid, again.properties) == (rows.uuid, json.loads(row["properties"]))
    assert rows.call is not None


def test_the_call_of_a_span_has_its_exact_cost():
    """100 tokens at $0.15 and 20 at $0.60 a million."""
    used = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20}
    asked = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini"}
    call = orjson.loads(mapped(record({"gen_ai.operation.name": "chat"} | asked | used)).call or "")
    assert (call["input_tokens"], call["output_tokens"]) == (100, 20)
    assert Decimal(call["cost_total"]) == Decimal("0.000027")
    assert (call["identity"], call["source_rank"]) == ("span", 20)


def test_a_record_gives_its_spans_in_order_and_the_same_rows_again():
    envelope = record(CHAT, {"http.route": "/"}, CHAT)
    first, second = list(map_record(envelope)), list(map_record(envelope))
    assert first == second
    kinds = [orjson.loads(rows.event)["event"] for rows in first if isinstance(rows, Rows)]
    assert kinds == ["$ai_generation", "$ai_trace", "$ai_generation"]


def test_a_span_without_times_happened_when_it_was_accepted():
    row = orjson.loads(mapped(record(CHAT)).event)
    assert row["timestamp"] == row["accepted_at"]


def test_an_excerpt_maps_to_equal_rows():
    envelope = record(CHAT, CHAT, {"http.route": "/"})
    for index, rows in enumerate(map_record(envelope)):
        assert isinstance(rows, Rows)
        alone = excerpt(envelope, index)
        assert (alone.uuid, alone.accepted_at) == (rows.uuid, ACCEPTED_AT)
        assert mapped(alone) == rows


def test_a_span_that_cannot_be_read_harms_no_other():
    broken = field(1, field(2, field(2, field(5, b"\xff")) + field(2, field(5, b"\xfe"))))
    envelope = record(CHAT, request=broken)
    good, *bad = list(map_record(envelope))
    assert isinstance(good, Rows)
    assert [type(each) for each in bad] == [Unmappable, Unmappable]
    uuids = {excerpt(envelope, index).uuid for index in range(3)}
    assert len(uuids) == 3
    assert uuids == {excerpt(envelope, index).uuid for index in range(3)}
    [still] = map_record(excerpt(envelope, 1))
    assert isinstance(still, Unmappable)


@pytest.mark.parametrize("payload", [b"", b"{}\n", b'{"protocol":"http"', b"[]\n"])
def test_another_payload_is_broken_as_a_whole(payload: bytes):
    with pytest.raises(RecordBroken):
        list(map_record(replace(record(CHAT), payload=payload)))


def test_a_request_that_cannot_be_taken_apart_is_broken_as_a_whole():
    with pytest.raises(RecordBroken):
        list(map_record(record(CHAT, request=b"\x0a\xff")))


@pytest.mark.parametrize(
    ("attributes", "scope"),
    [
        ({"gen_ai.operation.name": "chat"}, ""),
        ({"ai.operationId": "ai.generateText"}, ""),
        ({"eve.session.id": "1"}, ""),
        ({"llm.request.type": "chat"}, ""),
        ({"traceloop.span.kind": "workflow"}, ""),
        ({"openinference.span.kind": "LLM"}, ""),
        ({"langfuse.observation.type": "span"}, ""),
        ({"pydantic_ai.all_messages": "[]"}, ""),
        ({"$ai_model": "m"}, ""),
        ({}, "langfuse-sdk"),
        ({"http.route": "/", "user.id": "me"}, "other"),
        ({"generic": "ai."}, ""),
        ({}, ""),
    ],
)
def test_what_is_of_ai_is_known_before_it_is_converted(attributes: dict[str, str], scope: str):
    span = Span(attributes=attributes, scope_name=scope)
    assert is_ai(attributes, scope) == spans.convert(span).is_ai
