"""The tests of the original's `integration_otel_endpoint.rs` (capture contract, section 11): the
same names and expectations, against the real door. What differs: docs/contract-exemptions.md."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from nilometer.access.types import CaptureMode
from nilometer.conventions import spans as converted_spans
from nilometer.domain.span import Span
from tests.capture.door import Access, Door, open_door
from tests.capture.otlp import CHAT, HTTP, accepted, as_json, body, names, post, request, span

PATH = "/i/v0/ai/otel"
EMBEDDING = {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "text-embedding-3"}


def export(door: Door, data: bytes, **options: Any) -> tuple[int, str]:
    answer = post(door, data, path=PATH, **options)
    return answer.status_code, answer.text


def refused(door: Door, data: bytes, text: str, **options: Any) -> bool:
    status, told = export(door, data, **options)
    assert (status, told) == (400, f"failed to parse request: {text}")
    return door.log.envelopes == []


def events(spans: list[Span]) -> list[str]:
    return [converted_spans.convert(each).event for each in spans]


@pytest.fixture(scope="module")
def small(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A door that takes spans of at most 1,000 bytes."""
    directory = tmp_path_factory.mktemp("small")
    with open_door(access, directory, max_otlp_span_bytes=1000) as door:
        yield door


def test_single_span_produces_one_event(door: Door):
    assert export(door, body(span())) == (200, "{}")
    assert events(accepted(door)) == ["$ai_generation"]


def test_multiple_spans_produce_multiple_events(door: Door):
    parent = span()
    child = span({"gen_ai.operation.name": "execute_tool"}, parent_span_id=parent.span_id)
    assert export(door, body(parent, span(EMBEDDING), child)) == (200, "{}")
    kept = accepted(door)
    assert events(kept) == ["$ai_generation", "$ai_embedding", "$ai_span"]
    assert converted_spans.convert(kept[2]).properties["$ai_parent_id"] == parent.span_id.hex()


def test_span_attributes_and_resource_attributes_passthrough(door: Door):
    sent = body(span(CHAT | {"own": "value"}), resource={"service.name": "s", "host.name": "h"})
    assert export(door, sent) == (200, "{}")
    properties = converted_spans.convert(accepted(door)[0]).properties
    assert (properties["own"], properties["service.name"]) == ("value", "s")
    assert "host.name" not in properties
    assert properties["$ai_ingestion_source"] == "otel"


def test_multiple_resource_spans(door: Door):
    made = request(span(), resource={"service.name": "first"})
    made.MergeFrom(request(span(), resource={"service.name": "second"}))
    assert export(door, made.SerializeToString()) == (200, "{}")
    services = [each.resource["service.name"] for each in accepted(door)]
    assert services == ["first", "second"]


def test_irrelevant_http_spans_are_ignored(door: Door):
    assert export(door, body(span(HTTP), span({}))) == (200, "{}")
    assert door.log.envelopes == []


def test_all_spans_filtered_warns_and_still_returns_200(door: Door):
    assert export(door, body(span(HTTP, name="llm.call"))) == (200, "{}")
    assert door.log.envelopes == []


def test_mixed_requests_only_emit_relevant_ai_spans(door: Door):
    assert export(door, body(span(HTTP), span(name="ai"), span(HTTP))) == (200, "{}")
    assert names(accepted(door)) == ["ai"]


def test_mixed_batch_ingests_ai_spans_without_warning(door: Door):
    sent = json.dumps(as_json(request(span(HTTP), span(name="ai")))).encode()
    assert export(door, sent, Content_Type="application/json") == (200, "{}")
    assert names(accepted(door)) == ["ai"]


def test_over_budget_spans_are_shed_while_the_export_succeeds(small: Door):
    small.log.envelopes.clear()
    large = span(CHAT | {"large": "x" * 1000}, name="large")
    assert export(small, body(large, span(name="small"))) == (200, "{}")
    assert names(accepted(small)) == ["small"]


def test_both_spans_publish_when_no_byte_budget_is_configured(door: Door):
    large = span(CHAT | {"large": "x" * 1000}, name="large")
    assert export(door, body(large, span(name="small"))) == (200, "{}")
    assert names(accepted(door)) == ["large", "small"]


def test_oversized_spans_are_shed_and_warn_while_the_export_succeeds(small: Door):
    small.log.envelopes.clear()
    assert export(small, body(span(CHAT | {"large": "x" * 1000}))) == (200, "{}")
    assert small.log.envelopes == []


def test_too_many_ai_spans_warns_with_the_ai_stage(door: Door):
    sent = body(*(span() for _ in range(102)), span(HTTP))
    assert refused(door, sent, "Too many AI spans: 102 exceeds limit of 100")


def test_too_many_spans_returns_400(door: Door):
    sent = body(*(span() for _ in range(101)))
    assert refused(door, sent, "Too many AI spans: 101 exceeds limit of 100")
    assert export(door, body(*(span() for _ in range(100)))) == (200, "{}")


def test_too_many_raw_spans_returns_400(door: Door):
    sent = body(*(span(HTTP) for _ in range(1001)))
    assert refused(door, sent, "Too many spans: 1001 exceeds limit of 1000")
    assert export(door, body(*(span(HTTP) for _ in range(1000)))) == (200, "{}")


def test_unparseable_body_warns_with_unknown_attribution(door: Door):
    assert export(door, b"\x0a\xff")[1].startswith("failed to parse request: Invalid protobuf: ")
    as_text = {"Content_Type": "application/json"}
    assert export(door, b"{]", **as_text)[1].startswith("failed to parse request: Invalid JSON: ")
    status, told = export(door, b'{"resourceSpans":[{"scopeSpans":[{"spans":[7]}]}]}', **as_text)
    assert (status, "Invalid OTLP trace format: " in told) == (400, True)
    assert door.log.envelopes == []


def test_empty_body_returns_400(door: Door):
    assert export(door, b"") == (400, "request missing data payload")


def test_unsupported_content_encoding_returns_400(door: Door):
    for encoding in ("deflate", "identity", "zstd"):
        text = f"Unsupported content-encoding: {encoding}"
        assert refused(door, body(span()), text, Content_Encoding=encoding)


def test_unsupported_content_type_returns_400(door: Door):
    text = "Content-Type must be application/x-protobuf or application/json"
    assert refused(door, body(span()), text, Content_Type="application/protobuf")


def test_missing_auth_returns_401(door: Door):
    assert export(door, body(span()), Authorization="")[0] == 401


def test_invalid_token_returns_401(door: Door):
    status, told = export(door, body(span()), key="phx_personal")
    assert (status, told) == (401, "API key is not valid: personal_api_key")


def test_quota_limit_exceeded_returns_400_with_no_events(door: Door, access: Access):
    _, key = access.project(CaptureMode.OVER_QUOTA)
    assert export(door, body(span()), key=key) == (400, '{"error":"quota exceeded"}')
    assert export(door, body(span(HTTP)), key=key) == (200, "{}")
    assert door.log.envelopes == []


def test_a_dropped_token_is_answered_200(door: Door, access: Access):
    _, key = access.project(CaptureMode.DROP)
    assert export(door, b"not even protobuf", key=key) == (200, "{}")
    assert door.log.envelopes == []


def test_a_body_over_the_limit_is_413_also_after_gunzip(door: Door):
    large = bytes(4 * 1024 * 1024 + 1)
    assert export(door, large)[0] == 413
    assert export(door, gzip.compress(large), Content_Encoding="gzip")[0] == 413
    assert export(door, gzip.compress(body(span())), Content_Encoding="gzip") == (200, "{}")


def test_ids_are_not_checked(door: Door):
    assert export(door, body(span(trace_id=b"", span_id=b""))) == (200, "{}")
    assert len(accepted(door)) == 1
