"""What an attacker, or an accident, may cost the OTLP doors."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from nilometer.capture.otlp_export import MAX_REPEATED_BYTES, SpanRules, read_export
from nilometer.domain.otlp_request import TooManySpans, joined, single_spans, split
from nilometer.domain.protobuf_wire import MalformedMessage, field
from tests.capture.door import Door
from tests.capture.otlp import accepted, body, names, partial, post, request, span

RULES = SpanRules(4 * 1024 * 1024)
MIB = 1024 * 1024


def test_an_attribute_of_5_mb_is_rejected_alone(door: Door):
    sent = body(span({"big": "x" * 5 * MIB}), span(name="small"))
    count, message = partial(post(door, gzip.compress(sent), Content_Encoding="gzip"))
    assert (count, "1 larger than 4194304 bytes" in message) == (1, True)
    assert names(accepted(door)) == ["small"]


def test_a_million_spans_are_refused(door: Door):
    tiny = field(1, field(2, field(2, b"") * 1_000_000))
    answer = post(door, gzip.compress(tiny), Content_Encoding="gzip")
    assert answer.status_code == 413
    assert "more than 10000 spans in one request" in answer.text


def test_a_bomb_is_refused(door: Door):
    bomb = gzip.compress(bytes(64 * MIB), 1)
    answer = post(door, bomb, Content_Encoding="gzip")
    assert answer.status_code == 413
    assert "decompressed body exceeds maximum size (20971520 bytes)" in answer.text


def test_deep_nesting_is_rejected_alone(door: Door):
    deep = b"\x10\x01"
    for _ in range(5000):
        deep = field(5, field(1, deep))
    bad = span().SerializeToString() + field(9, field(1, b"deep") + field(2, deep))
    good = span(name="good").SerializeToString()
    sent = field(1, field(2, field(2, bad) + field(2, good)))
    count, message = partial(post(door, sent))
    assert (count, "nested too deep" in message) == (1, True)
    assert names(accepted(door)) == ["good"]


def test_deep_json_is_refused(door: Door):
    value: dict[str, object] = {"intValue": 1}
    for _ in range(150):
        value = {"arrayValue": {"values": [value]}}
    made = {"attributes": [{"key": "deep", "value": value}]}
    sent = {"resourceSpans": [{"scopeSpans": [{"spans": [made]}]}]}
    answer = post(door, json.dumps(sent).encode(), Content_Type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (400, 3)


def test_text_that_is_not_utf_8_is_rejected_alone(door: Door):
    bad = span().SerializeToString() + field(5, b"\xff\xfe")
    sent = field(1, field(2, field(2, bad) + field(2, span(name="good").SerializeToString())))
    assert partial(post(door, sent))[0] == 1
    assert names(accepted(door)) == ["good"]


def test_millions_of_empty_attributes_are_rejected_before_they_are_allocated():
    """Two bytes each on the wire, 56 in memory."""
    crowded = field(1, field(2, field(2, b"\x4a\x00" * MIB)))
    export = read_export(crowded, RULES, most_spans=10)
    assert export.rejected == {"too_many_parts": 1}


def test_values_nested_in_one_attribute_count_too():
    many = field(5, b"\x0a\x00" * 100_000)
    crowded = field(9, field(1, b"k") + field(2, many))
    export = read_export(field(1, field(2, field(2, crowded))), RULES, most_spans=10)
    assert export.rejected == {"too_many_parts": 1}


def test_a_resource_is_not_multiplied_without_end():
    """It is kept with each span: 2,000 spans of 60 kB of resource would be 120 MB of rows."""
    export = read_export(
        body(*(span() for _ in range(2000)), resource={"k": "x" * 60_000}), RULES, most_spans=2000
    )
    assert export.kept == MAX_REPEATED_BYTES // 60_000 - 1
    assert export.rejected == {"repeated_resource": 2000 - export.kept}


def test_a_large_resource_or_one_that_is_broken_takes_its_spans_along():
    made = ExportTraceServiceRequest()
    made.resource_spans.extend(request(span(), resource={"k": "x" * 70_000}).resource_spans)
    made.resource_spans.extend(request(span(name="good")).resource_spans)
    broken = field(1, field(1, field(1, b"\xff\xff")) + field(2, field(2, b"")))
    export = read_export(made.SerializeToString() + broken, RULES, most_spans=10)
    assert export.rejected == {"large_resource": 1, "malformed": 1}
    assert export.kept == 1


ids = st.binary(min_size=0, max_size=16)
spans = st.builds(span, st.dictionaries(st.text(), st.text() | st.integers(0, 9)), trace_id=ids)


@settings(max_examples=50, deadline=None)
@given(st.lists(spans, max_size=5), st.lists(spans, max_size=3))
def test_a_request_taken_apart_and_put_together_is_the_same(first, second):
    made = request(*first)
    made.resource_spans[0].scope_spans.add(schema_url="other").spans.extend(second)
    groups = split(made.SerializeToString())
    assert len(list(single_spans(groups))) == len(first) + len(second)
    again = ExportTraceServiceRequest.FromString(joined(groups))
    kept = [s for r in again.resource_spans for i in r.scope_spans for s in i.spans]
    assert kept == [*first, *second]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes):
    try:
        export = read_export(data, RULES, most_spans=10)
    except (MalformedMessage, TooManySpans):
        return
    assert export.total == len(list(single_spans(split(data))))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 300), st.binary(max_size=4))
def test_a_damaged_request_is_read_or_refused(extra: bytes, at: int, put: bytes):
    whole = body(span(), span())
    data = whole[:at] + put + whole[at + len(put) :] + extra
    try:
        export = read_export(data, RULES, most_spans=10)
    except (MalformedMessage, TooManySpans):
        return
    again = read_export(export.request, RULES, most_spans=10)
    assert (again.kept, dict(again.rejected)) == (export.kept, {})


@pytest.mark.parametrize("size", [1, 3])
def test_a_request_within_its_spans_is_taken(size: int):
    sent = body(*(span() for _ in range(3)))
    if size < 3:
        with pytest.raises(TooManySpans):
            split(sent, size)
    else:
        assert len(list(single_spans(split(sent, size)))) == 3
