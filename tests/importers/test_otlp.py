import random
from pathlib import Path

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.trace_records import otlp as request_of
from nilometer.importers import parsing, reading
from nilometer.importers.chunk import Limits, Options, Tally
from nilometer.importers.trace_call import Reason, TraceCall
from tests.importers.records import call_of, parsed


def request(number=1, **span):
    made = request_of(random.Random(number), number)
    made["resourceSpans"][0]["scopeSpans"][0]["spans"][0].update(span)
    return made


def attributes(**told):
    return [
        {"key": name.replace("__", "."), "value": {"stringValue": value}}
        if isinstance(value, str)
        else {"key": name.replace("__", "."), "value": {"intValue": value}}
        for name, value in told.items()
    ]


def protobuf(made):
    message = ExportTraceServiceRequest()
    json_format.ParseDict(made, message)
    for resource in message.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                span.trace_id, span.span_id = b"\x01" * 16, b"\x02" * 8
    return message.SerializeToString()


def calls_in(path: Path, **limits: int) -> tuple[list[TraceCall], list[Reason]]:
    calls, reasons = [], []
    for chunk in reading.read_chunks(reading.sources([str(path)])[0], limits=Limits(**limits)):
        found = parsing.parse_chunk(chunk, Options())
        calls += found.calls
        reasons += [each.reason for each in found.rejected]
    return calls, reasons


def test_a_span_is_the_call_that_the_conventions_say():
    told = attributes(
        gen_ai__operation__name="chat",
        gen_ai__provider__name="openai",
        gen_ai__request__model="gpt-4o",
        gen_ai__response__model="gpt-4o-2024-08-06",
        gen_ai__usage__input_tokens=100,
        gen_ai__usage__output_tokens=9,
        session__id="s1",
        user__id="ada",
    )
    times = {"startTimeUnixNano": "1000000000", "endTimeUnixNano": 2_500_000_000}
    call = call_of(request(attributes=told, **times))
    assert (call.model, call.resolved_model) == ("gpt-4o", "gpt-4o-2024-08-06")
    assert (call.tokens_in, call.tokens_out, call.provider) == (100, 9, "openai")
    assert (call.started_at, call.latency_ms) == (1_000_000, 1500.0)
    assert (call.session, call.developer, call.failed) == ("s1", "ada", False)


def test_whom_nobody_names_is_nobody():
    call = call_of(request())
    assert (call.session, call.developer) == (None, None)


def test_a_failed_span_is_a_failed_call():
    call = call_of(request(status={"code": "STATUS_CODE_ERROR", "message": "overloaded"}))
    assert call.failed is True


def test_spans_that_are_no_calls_are_passed():
    plain = attributes(http__method="GET")
    assert parsed(request(attributes=plain)).tally == Tally(records=1, passed=1)
    assert parsed({"resourceSpans": []}).tally == Tally(records=1, passed=1)


def test_a_bad_span_harms_no_other_of_its_request():
    made = request()
    spans = made["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans += ["no span", {**spans[0], "startTimeUnixNano": -5}]
    found = parsed(made)
    assert len(found.calls) == 1
    (letter,) = found.rejected
    assert letter.reason is Reason.BAD_MESSAGE
    assert letter.detail.startswith("2 of 3 spans are none; 1 times: ")


def test_json_and_protobuf_tell_the_same_call(tmp_path):
    made = request(traceId="01" * 16, spanId="02" * 8)
    (tmp_path / "dump.pb").write_bytes(protobuf(request(traceId="", spanId="")))
    (call,), reasons = calls_in(tmp_path / "dump.pb")
    assert not reasons
    assert call._replace(line=1, offset=0) == call_of(made)._replace(line=1, offset=0)


@pytest.mark.parametrize("prefix", ["fixed", "varint"])
def test_messages_with_their_lengths_are_read_one_by_one(tmp_path, prefix):
    good = protobuf(request(traceId="", spanId=""))
    parts = [good, b"\x0a\x05\xff\xff\xff\xff\xff", good, b"\x0a" * 3000, good[:-3]]
    file = b""
    for part in parts:
        length = len(part) if part is not parts[-1] else len(good)
        high, low = length >> 7, length & 127
        short = bytes([low | 128, high]) if high else bytes([low])
        file += (length.to_bytes(4, "big") if prefix == "fixed" else short) + part
    (tmp_path / "dump.binpb").write_bytes(file)
    calls, reasons = calls_in(tmp_path / "dump.binpb", line=2000, chunk=100)
    assert [call.line for call in calls] == [1, 3]
    assert reasons == [Reason.BAD_MESSAGE, Reason.LINE_TOO_LONG, Reason.CUT_SHORT]
