"""Whole spans of each client, as it sends them, against the events that they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nilometer.conventions import ai_event, usage
from nilometer.conventions.spans import convert
from nilometer.domain.span import Span, SpanEvent

GOLDEN = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "golden").glob("*.json"))
    if path.stem != "rows"
}
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 5,
}


def span_of(name: str) -> Span:
    return Span.from_json(json.dumps(GOLDEN[name]["span"]))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_span_becomes_its_event(name: str) -> None:
    expected = GOLDEN[name]
    event = convert(span_of(name))
    assert event.properties == expected["properties"]
    for member in ("event", "distinct_id", "timestamp", "is_ai", "convention"):
        assert getattr(event, member) == expected[member], member
    assert event.counts_usage is expected["counts_usage"]
    assert event.usage_convention == expected["usage_convention"]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_span_read_back_from_its_source_gives_the_same_event(name: str) -> None:
    span = span_of(name)
    assert Span.from_json(span.to_json()) == span
    assert convert(Span.from_json(span.to_json())) == convert(span)


@pytest.mark.parametrize(
    ("name", "vector"),
    [
        ("otel_genai_current", (100, 5000, 2000, 0, 38, 12)),
        ("vercel_do_generate", (100, 5000, 2000, 0, 50, 0)),
        ("litellm_v1_request", (100, 5000, 1500, 500, 50, 0)),
        ("litellm_v2", (100, 5000, 2000, 0, 50, 0)),
        ("langfuse_generation", (100, 5000, 2000, 0, 50, 0)),
        ("openllmetry_bedrock", (100, 5000, 0, 0, 50, 0)),
        ("openinference_llm", (20, 100, 0, 0, 20, 10)),
    ],
)
def test_the_raw_usage_is_what_its_adapter_reads(name: str, vector: tuple[int, ...]) -> None:
    event = convert(span_of(name))
    read = usage.read(event.properties, event=event.event, convention=event.usage_convention)
    told = read.vector
    assert told is not None, read.reason
    assert (
        told.uncached_input,
        told.cache_read,
        told.cache_write_5m,
        told.cache_write_1h,
        told.text_output,
        told.reasoning,
    ) == vector


@pytest.mark.parametrize(
    "name",
    [
        "otel_genai_agent",
        "vercel_wrapper",
        "pydantic_ai_agent",
        "litellm_phoenix_proxy",
        "litellm_v1_raw",
        "logfire_pending_span",
    ],
)
def test_a_span_around_calls_is_none_and_counts_nothing(name: str) -> None:
    event = convert(span_of(name))
    assert not event.counts_usage
    columns = ai_event.columns(event.event, event.properties)
    assert columns["input_tokens"] is None
    assert columns["total_cost_usd"] is None


def test_the_callbacks_of_litellm_tell_of_one_call() -> None:
    ids = set()
    for name in ("litellm_v1_request", "litellm_v2"):
        event = convert(span_of(name))
        columns = ai_event.columns(event.event, event.properties)
        ids.add(ai_event.call_id(event.uuid, columns, event.properties))
    assert ids == {("response", "chatcmpl-1d2c3b4a-aaaa-bbbb-cccc-1234567890ab")}


def test_an_answer_from_the_cache_is_a_call_of_its_own_that_consumed_nothing() -> None:
    event = convert(span_of("litellm_cache_hit"))
    columns = ai_event.columns(event.event, event.properties)
    kind, _ = ai_event.call_id(event.uuid, columns, event.properties)
    assert (kind, event.counts_usage) == ("litellm", False)


def test_no_secret_of_litellm_becomes_a_property() -> None:
    text = json.dumps(convert(span_of("litellm_v1_request")).properties)
    for secret in ("88dc28d0", "10.0.0.9", "authorization", "x-request-id", "12.5"):
        assert secret not in text


def test_a_span_sent_again_is_the_same_event_and_another_span_is_not() -> None:
    span = span_of("otel_genai_current")
    assert convert(span).uuid == convert(replace(span, name="renamed", end=0)).uuid
    assert convert(span).uuid != convert(replace(span, span_id="0" * 15 + "1")).uuid
    assert convert(span).uuid != convert(replace(span, trace_id="0" * 31 + "1")).uuid


def test_spans_without_valid_ids_are_told_apart_by_what_they_say() -> None:
    one, other = Span(name="a", attributes=CHAT), Span(name="b", attributes=CHAT)
    assert convert(one).uuid == convert(replace(one)).uuid
    assert convert(one).uuid != convert(other).uuid
    assert "$ai_trace_id" not in convert(one).properties
    assert convert(one).distinct_id


def test_a_span_that_is_its_own_parent_is_a_root() -> None:
    event = convert(Span(trace_id="1" * 32, span_id="2" * 16, parent_id="2" * 16))
    assert event.event == "$ai_trace"
    assert "$ai_parent_id" not in event.properties


@pytest.mark.parametrize(
    ("start", "end", "timestamp", "latency"),
    [
        (0, 0, None, None),
        (0, 5_000_000, 5_000, None),
        (5_000_000, 0, 5_000, None),
        (5_000_000, 5_000_000, 5_000, None),
        (2_000_000_000, 1_000_000_000, 2_000_000, None),
        (1_000_000_000, 2_500_000_000, 1_000_000, 1.5),
        (1, (1 << 64) - 1, 0, None),
        ((1 << 64) - 1, (1 << 64) - 1, 4_291_747_199_999_999, None),
    ],
)
def test_times_that_are_missing_reversed_or_far_away_are_defined(
    start: int, end: int, timestamp: int | None, latency: float | None
) -> None:
    event = convert(Span(start=start, end=end))
    assert event.timestamp == timestamp
    assert event.properties.get("$ai_latency") == latency


def test_the_person_is_the_span_s_then_the_resource_s_then_one_by_session_or_trace() -> None:
    def person(attributes: dict[str, Any], resource: dict[str, Any], trace: str = "1" * 32) -> str:
        return convert(Span(trace_id=trace, attributes=attributes, resource=resource)).distinct_id

    assert person({"user.id": "a"}, {"user.id": "b"}) == "a"
    assert person({"user.id": ""}, {"user.id": "b"}) == "b"
    assert person({}, {"user.id": "b", "posthog.distinct_id": "c"}) == "c"
    by_session = person({"gen_ai.conversation.id": "s"}, {})
    # uuid5 of `session:s` under the contract's namespace.
    assert by_session == "c563c3a3-1036-5b59-8feb-1e71d1fa2c60"
    assert person({"gen_ai.conversation.id": "s"}, {}, "2" * 32) == by_session
    assert person({}, {}) != person({}, {}, "2" * 32)


def test_an_exception_that_a_span_went_on_from_is_no_failure() -> None:
    event = convert(
        Span(attributes=CHAT, events=(SpanEvent("exception", 1, {"exception.message": "oh"}),))
    )
    assert "$ai_is_error" not in event.properties


def test_one_way_of_counting_is_read_whole_and_never_mixed_with_another() -> None:
    both = {**CHAT, "llm.token_count.prompt": 99, "llm.token_count.prompt_details.cache_read": 1}
    event = convert(Span(attributes=both))
    assert event.properties["$ai_input_tokens"] == 10
    assert "$ai_cache_read_input_tokens" not in event.properties
    more = {**both, "llm.token_count.completion": 5}
    assert convert(Span(attributes=more)).properties["$ai_input_tokens"] == 99


def test_a_value_of_the_wrong_type_gives_way_to_the_next_source_and_stays_readable() -> None:
    event = convert(Span(attributes={**CHAT, "gen_ai.response.model": 7}))
    assert event.properties["$ai_model"] == "gpt-4o"
    assert event.properties["gen_ai.response.model"] == 7


def test_a_tier_that_was_only_asked_for_is_not_the_one_that_answered() -> None:
    span = span_of("otel_genai_current")
    bare = {name: told for name, told in span.attributes.items() if "service_tier" not in name}
    asked = {**bare, "openai.request.service_tier": "priority"}
    answered = {**asked, "openai.response.service_tier": "default"}
    for attributes, tier in ((asked, None), (answered, "default")):
        event = convert(replace(span, attributes=attributes))
        assert event.properties.get("$ai_service_tier") == tier
