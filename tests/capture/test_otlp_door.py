"""`/v1/traces` and Langfuse's path: what is accepted, rejected and answered."""

import base64
import gzip
import json
import zlib

import pytest
import requests
import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from nilometer.access.types import CaptureMode
from nilometer.domain import otlp_record
from nilometer.log.port import LogUnavailable
from tests.capture.door import Access, Door
from tests.capture.otlp import (
    CHAT,
    HTTP,
    PROTOBUF,
    accepted,
    as_json,
    body,
    names,
    partial,
    post,
    request,
    span,
)

LANGFUSE = "/api/public/otel/v1/traces"


def basic(public: object, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{public}:{secret}".encode()).decode()


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/traces/", LANGFUSE])
def test_spans_are_kept_as_they_came(door: Door, path: str):
    sent = body(span(name="a"), span(HTTP, name="b"))
    assert partial(post(door, sent, path=path)) == (0, "")
    [envelope] = door.log.envelopes
    record = otlp_record.decode(envelope.payload)
    assert (record.request, record.protocol, record.ip) == (sent, "http", "127.0.0.1")
    assert record.retention_days == 30
    first = accepted(door)[0]
    assert (first.name, first.kind, first.attributes) == ("a", "client", CHAT)
    assert (first.scope_name, first.resource) == ("tests", {"service.name": "tests"})


def test_json_is_the_same_request(door: Door):
    rich = {"list": [1, "x", True], "object": {"a": 1.5}, "bytes": b"\x00\xff", "big": 2**62}
    made = request(span(rich, start_time_unix_nano=2**63 + 1, parent_span_id=b"12345678"))
    told = as_json(made)
    told["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["parentSpanId"] = b"12345678".hex()
    told["unheard"] = {"of": 1}
    answer = post(door, json.dumps(told).encode(), Content_Type="application/json; charset=utf-8")
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["content-type"] == "application/json"
    post(door, made.SerializeToString())
    as_json_came, as_protobuf_came = accepted(door)
    assert as_json_came == as_protobuf_came
    assert as_json_came.attributes == rich | {"bytes": "00ff"}


def test_json_values_without_a_value_count_as_unset(door: Door):
    made = as_json(request(span({})))
    [each] = made["resourceSpans"][0]["scopeSpans"][0]["spans"]
    each["attributes"] = [
        {"key": "empty", "value": {}},
        {"key": "null", "value": {"stringValue": None}},
        {"key": "kept", "value": {"intValue": "7"}},
    ]
    each["kind"] = "SPAN_KIND_SERVER"
    assert post(door, json.dumps(made).encode(), Content_Type="application/json").json() == {}
    [kept] = accepted(door)
    assert (kept.attributes, kept.kind) == ({"kept": 7}, "server")


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
    ],
)
def test_compressed_bodies_are_undone(door: Door, encoding: str, compress):
    sent = body(span())
    assert partial(post(door, compress(sent), Content_Encoding=encoding)) == (0, "")
    assert otlp_record.decode(door.log.envelopes[0].payload).request == sent


def test_an_empty_request_is_a_success(door: Door):
    assert partial(post(door, b"")) == (0, "")
    assert partial(post(door, body())) == (0, "")
    assert door.log.envelopes == []


@pytest.mark.parametrize("header", ["x-api-key", "api-key", "api_key"])
def test_a_key_may_have_a_header_of_its_own(door: Door, header: str):
    url = f"http://127.0.0.1:{door.port}/v1/traces"
    headers = {header: door.key, "Content-Type": PROTOBUF}
    assert partial(requests.post(url, data=body(span()), headers=headers, timeout=30)) == (0, "")


@pytest.mark.parametrize("form", ["bearer {}", "Bearer%20{}", "BEARER {}"])
def test_bearer_is_understood_as_exporters_write_it(door: Door, form: str):
    assert partial(post(door, body(span()), Authorization=form.format(door.key))) == (0, "")


def test_a_pair_of_keys_is_the_projects_id_and_a_key(door: Door):
    assert partial(
        post(door, body(span()), path=LANGFUSE, Authorization=basic(door.project, door.key))
    ) == (0, "")


def test_a_wrong_pair_is_an_unknown_key(door: Door, access: Access):
    other, others_key = access.project()
    pairs = [
        basic(door.project, others_key),
        basic(other, door.key),
        basic(door.project, "nlm_proj_nobody-has-this-key"),
        "Basic " + base64.b64encode(door.key.encode()).decode(),
        "Basic ###",
        "Basic " + base64.b64encode(b"\xff:key").decode(),
    ]
    for pair in pairs:
        answer = post(door, body(span()), Authorization=pair)
        assert answer.status_code == 401, pair
        assert "API key is not valid" in answer.text
    assert door.log.envelopes == []


def test_another_projects_key_captures_into_that_project(door: Door, access: Access):
    other, key = access.project()
    named = body(span({"project_id": door.project, "$ai_project": door.project}))
    assert partial(post(door, named, key=key)) == (0, "")
    assert [envelope.project_id for envelope in door.log.envelopes] == [other]


def test_no_key_gets_into_the_log(door: Door):
    header = "http.request.header.authorization"
    telling = span(CHAT | {header: f"Bearer {door.key}", "request.dump": f"Bearer {door.key}"})
    assert partial(post(door, body(telling))) == (0, "")
    assert door.key.encode() not in door.log.envelopes[0].payload
    kept = accepted(door)[0].attributes
    assert header not in kept
    assert kept["request.dump"].startswith("Bearer **")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"trace_id": bytes(16)}, "id that is zero or not of"),
        ({"span_id": bytes(8)}, "id that is zero or not of"),
        ({"trace_id": b"short"}, "id that is zero or not of"),
        ({"span_id": b""}, "id that is zero or not of"),
        ({"parent_span_id": b"123"}, "id that is zero or not of"),
    ],
)
def test_a_span_with_a_wrong_id_is_rejected_alone(door: Door, fields, reason: str):
    sent = body(span(name="before"), span(**fields), span(name="after"))
    count, message = partial(post(door, sent))
    assert count == 1
    assert message.startswith("1 of 3 spans were rejected: 1 ")
    assert reason in message
    assert names(accepted(door)) == ["before", "after"]


def test_ids_that_are_not_hexadecimal_are_rejected_alone_in_json(door: Door):
    made = as_json(request(span(), span(name="good")))
    made["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"] = "q83v"
    answer = post(door, json.dumps(made).encode(), Content_Type="application/json")
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert "1 of 2 spans" in answer.json()["partialSuccess"]["errorMessage"]
    assert names(accepted(door)) == ["good"]


def test_a_parent_of_zeros_is_no_parent(door: Door):
    assert partial(post(door, body(span(parent_span_id=bytes(8))))) == (0, "")
    assert accepted(door)[0].parent_id is None


def test_cyclic_parents_and_odd_times_are_kept(door: Door):
    trace = b"t" * 16
    spans = [
        span(trace_id=trace, span_id=b"a" * 8, parent_span_id=b"b" * 8),
        span(trace_id=trace, span_id=b"b" * 8, parent_span_id=b"a" * 8),
        span(trace_id=trace, span_id=b"c" * 8, parent_span_id=b"c" * 8),
        span(start_time_unix_nano=2**64 - 1, end_time_unix_nano=1),
        span(start_time_unix_nano=0, end_time_unix_nano=0),
    ]
    assert partial(post(door, body(*spans))) == (0, "")
    assert len(accepted(door)) == 5


def test_spans_that_are_not_of_ai_are_dropped_where_the_project_says_so(door: Door, access: Access):
    project, key = access.project()
    access.accounts.projects.change(project, keep_other_spans=False)
    sent = body(span(name="ai"), span(HTTP, name="other"))
    assert partial(post(door, sent, key=key)) == (0, "")
    [envelope] = door.log.envelopes
    assert names(accepted(_of(door, project))) == ["ai"]
    assert b"other" not in envelope.payload


def test_spans_of_a_dropped_person_are_dropped(door: Door, access: Access):
    project, key = access.project(dropped=["robot"])
    sent = body(span(CHAT | {"user.id": "robot"}), span(CHAT | {"user.id": "me"}, name="mine"))
    assert partial(post(door, sent, key=key)) == (0, "")
    assert names(accepted(_of(door, project))) == ["mine"]


def test_the_projects_mode_counts(door: Door, access: Access):
    _, dropping = access.project(CaptureMode.DROP)
    assert partial(post(door, body(span()), key=dropping)) == (0, "")
    _, full = access.project(CaptureMode.OVER_QUOTA)
    answer = post(door, body(span()), key=full)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert door.log.envelopes == []


@pytest.mark.parametrize(
    ("data", "headers", "status", "code", "text"),
    [
        (b"\x0a\xff", {}, 400, 3, "Invalid protobuf"),
        (b"{", {"Content_Type": "application/json"}, 400, 3, "Invalid JSON"),
        (b"[]", {"Content_Type": "application/json"}, 400, 3, "not an object"),
        (b"", {"Content_Type": "application/json"}, 400, 3, "missing data"),
        (b"x", {"Content_Type": "text/plain"}, 415, 3, "Content-Type must be"),
        (b"x", {"Content_Encoding": "br"}, 400, 3, "content-encoding"),
        (b"x", {"Content_Encoding": "gzip"}, 400, 3, "Failed to decompress gzip"),
        (b"x", {"Authorization": ""}, 401, 16, "without an api_key"),
        (b"x", {"Authorization": "Bearer phx_1"}, 401, 16, "personal_api_key"),
    ],
)
def test_a_refusal_is_a_google_rpc_status(door: Door, data, headers, status, code, text):
    answer = post(door, data, **headers)
    assert answer.status_code == status
    if headers.get("Content_Type") == "application/json":
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["code"] == code
        assert text in answer.json()["message"]
    else:
        assert answer.headers["content-type"] == PROTOBUF
        assert answer.content[:2] == bytes([8, code])  # field 1 is the code
        assert text in answer.content[3:].decode("utf-8", "replace")
    assert door.log.envelopes == []


def test_an_unexpected_json_value_is_not_quoted(door: Door):
    made = as_json(request(span()))
    secret = "the prompt " * 3
    made["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["startTimeUnixNano"] = secret
    answer = post(door, json.dumps(made).encode(), Content_Type="application/json")
    assert (answer.status_code, secret in answer.text) == (400, False)
    assert "Invalid OTLP trace format" in answer.text


def test_a_log_that_is_away_is_503_with_retry_after(door: Door):
    door.log.error = LogUnavailable("the log is away")
    answer = post(door, body(span()))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.content[:2] == bytes([8, 14])


def test_metrics_and_logs_are_told_that_they_are_not_kept(door: Door):
    logs = ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add()
    logs.resource_logs.add().scope_logs.add().log_records.add()
    answer = post(door, logs.SerializeToString(), path="/v1/logs")
    told = ExportLogsServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, told.rejected_log_records) == (200, 2)
    assert "OTEL_LOGS_EXPORTER=none" in told.error_message

    metrics = ExportMetricsServiceRequest()
    metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.sum.data_points.add()
    metric.sum.data_points.add()
    answer = post(door, metrics.SerializeToString(), path="/api/public/otel/v1/metrics")
    told = ExportMetricsServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, told.rejected_data_points) == (200, 2)

    told = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{}, {}, {}]}]}]}
    answer = post(door, json.dumps(told).encode(), path="/v1/logs", Content_Type="application/json")
    assert answer.json()["partialSuccess"]["rejectedLogRecords"] == "3"
    assert partial(post(door, b"", path="/v1/metrics")) == (0, "")
    assert post(door, b"x", path="/v1/logs", Authorization="Bearer nobody").status_code == 401
    assert door.log.envelopes == []


def _of(door: Door, project: int) -> Door:
    """The same door, seen from another project."""
    return Door(
        door.port, door.log, door.blobs, door.access, door.app, project, door.key, door.server
    )
