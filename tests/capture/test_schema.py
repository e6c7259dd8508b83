"""What is refused at the ai door because a schema says so, and what passes."""

from __future__ import annotations

import contextlib
import json
import time
from decimal import Decimal
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.capture.schema import SchemaViolation, check, schemas
from nilometer.conventions.ai_properties import EVENT_TYPES, PROPERTIES
from nilometer.errors import InvalidInput

SDK = {
    "$lib": "posthog-python",
    "$lib_version": "7.91.1",
    "$geoip_disable": True,
    "$is_server": True,
    "$os": "Linux",
    "$os_version": "12",
    "$os_distro": "Debian",
    "$python_runtime": "CPython",
    "$python_version": "3.11.2",
    "$process_person_profile": False,
    "$groups": {"company": "acme"},
    "$context_tags": [],
    "$ai_lib": "posthog-ai",
    "$ai_lib_version": "7.91.1",
}

# What the real SDKs send (capture contract, section 10).
SENT_BY_SDKS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": (
        "$ai_generation",
        {
            "$ai_provider": "openai",
            "$ai_model": "gpt-4o-mini",
            "$ai_model_parameters": {"temperature": 0.2, "max_tokens": None, "stream": False},
            "$ai_service_tier": "default",
            "$ai_input": [{"role": "user", "content": "hi"}],
            "$ai_output_choices": [
                {"role": "assistant", "content": [{"type": "text", "text": "ho"}]}
            ],
            "$ai_http_status": 200,
            "$ai_input_tokens": 8,
            "$ai_output_tokens": 2,
            "$ai_cache_read_input_tokens": 0,
            "$ai_reasoning_tokens": 0,
            "$ai_latency": 0.7310012,
            "$ai_trace_id": "0190e0f0-0000-7000-8000-000000000001",
            "$ai_base_url": "https://llm.example/v1/",
            "$ai_tools": None,
            "$ai_usage": {"prompt_tokens": 8, "completion_tokens": 2},
            "$ai_stop_reason": "stop",
            "$ai_tokens_source": "sdk",
        },
    ),
    "anthropic, streamed": (
        "$ai_generation",
        {
            "$ai_provider": "anthropic",
            "$ai_model": "claude-sonnet-4-5",
            "$ai_model_parameters": {"max_tokens": 1024, "stream": True},
            "$ai_input": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "hi"},
            ],
            "$ai_output_choices": [
                {"role": "assistant", "content": [{"type": "text", "text": "ho"}]}
            ],
            "$ai_http_status": 200,
            "$ai_input_tokens": 8,
            "$ai_output_tokens": 2,
            "$ai_cache_read_input_tokens": 0,
            "$ai_cache_creation_input_tokens": 1200,
            "$ai_latency": 1.5,
            "$ai_time_to_first_token": 0.2,
            "$ai_trace_id": "t",
            "$ai_base_url": "https://llm.example",
            "$ai_stop_reason": None,
            "$ai_session_id": None,
        },
    ),
    "an embedding": (
        "$ai_embedding",
        {
            "$ai_provider": "openai",
            "$ai_model": "text-embedding-3-small",
            "$ai_input": "hi",
            "$ai_http_status": 200,
            "$ai_input_tokens": 1,
            "$ai_latency": 0.1,
            "$ai_trace_id": "t",
            "$ai_base_url": "https://llm.example/v1/",
        },
    ),
    "an error": (
        "$ai_generation",
        {
            "$ai_provider": "openai",
            "$ai_model": "gpt-4o-mini",
            "$ai_model_parameters": {},
            "$ai_input": [{"role": "user", "content": "hi"}],
            "$ai_output_choices": None,
            "$ai_http_status": 0,
            "$ai_input_tokens": 0,
            "$ai_output_tokens": 0,
            "$ai_latency": 0,
            "$ai_trace_id": "t",
            "$ai_is_error": True,
            "$ai_error": "Connection error.",
        },
    ),
    "a langchain trace": (
        "$ai_trace",
        {
            "$ai_model": "gpt-4o-mini",
            "$ai_trace_id": "9b2d",
            "$ai_input_state": {"question": "hi"},
            "$ai_output_state": [{"messages": []}],
            "$ai_latency": 0.3,
            "$ai_span_name": "RunnableSequence",
            "$ai_span_id": "9b2d",
            "$ai_framework": "langchain",
        },
    ),
    "a langchain span": (
        "$ai_span",
        {
            "$ai_model": "gpt-4o-mini",
            "$ai_trace_id": "9b2d",
            "$ai_parent_id": "9b2d",
            "$ai_span_id": "a1",
            "$ai_input_state": "hi",
            "$ai_output_state": None,
            "$ai_latency": 0.01,
            "$ai_span_name": "ChatPromptTemplate",
            "$ai_framework": "langchain",
        },
    ),
    "a langchain generation": (
        "$ai_generation",
        {
            "$ai_model": "gpt-4o-mini",
            "$ai_base_url": None,
            "$ai_provider": "openai",
            "$ai_trace_id": "9b2d",
            "$ai_span_id": "b2",
            "$ai_parent_id": "9b2d",
            "$ai_span_name": "ChatOpenAI",
            "$ai_model_parameters": {"temperature": 0.7},
            "$ai_input": [{"role": "user", "content": "hi"}],
            "$ai_output_choices": [{"role": "assistant", "content": "ho"}],
            "$ai_http_status": 200,
            "$ai_input_tokens": 8,
            "$ai_output_tokens": 2,
            "$ai_cache_creation_input_tokens": None,
            "$ai_latency": 0.5,
            "$ai_framework": "langchain",
        },
    ),
    "an agent's handoff": (
        "$ai_span",
        {
            "$ai_model": "gpt-4o-mini",
            "$ai_trace_id": "t",
            "$ai_group_id": "g",
            "$ai_handoff_from_agent": "triage",
            "$ai_handoff_to_agent": "refunds",
            "$ai_agent_tools": ["lookup"],
            "$ai_guardrail_triggered": False,
            "$ai_span_data": {"any": 1},
        },
    ),
    "a metric of the browser": (
        "$ai_metric",
        {
            "$ai_model": "m",
            "$ai_metric_name": "rating",
            "$ai_metric_value": "good",
            "$ai_trace_id": 12,
        },
    ),
    "feedback of the browser": (
        "$ai_feedback",
        {"$ai_model": "m", "$ai_feedback_text": "fine", "$ai_trace_id": "12"},
    ),
    "litellm": (
        "$ai_generation",
        {
            "$ai_model": "gpt-4o-mini",
            "$ai_provider": "",
            "$ai_session_id": "",
            "$ai_input_tokens": 8,
            "$ai_output_tokens": 2,
            "$ai_total_cost_usd": 2.4e-06,
            "$ai_latency": 0.5,
            "$ai_is_error": "true",
            "$ai_error": {"code": 400},
            "litellm_call_id": "c",
        },
    ),
}


def violation(properties: dict[str, Any], *, strict: bool = False) -> SchemaViolation:
    with pytest.raises(SchemaViolation) as caught:
        check("$ai_generation", properties, strict=strict)
    return caught.value


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("shape", SENT_BY_SDKS)
def test_what_real_sdks_send_passes(shape: str, strict: bool) -> None:
    event, properties = SENT_BY_SDKS[shape]
    check(event, {**SDK, **properties}, strict=strict)


@pytest.mark.parametrize(
    ("name", "value", "expected", "came"),
    [
        (
            "$ai_input_tokens",
            "10",
            "a whole number from 0 to 9223372036854775807",
            "a string of 2 characters",
        ),
        ("$ai_input_tokens", 10.5, "a whole number", "10.5"),
        ("$ai_input_tokens", -1, "a whole number", "-1"),
        ("$ai_input_tokens", 2**63, "a whole number", "9223372036854775808"),
        ("$ai_input_tokens", 10**4000, "a whole number", "a larger number"),
        ("$ai_input_tokens", True, "a whole number", "true"),
        ("$ai_input_tokens", 1e400, "a whole number", "a number too large for a double"),
        (
            "$ai_output_tokens",
            Decimal("1." + "1" * 100),
            "a whole number",
            "a number of many digits",
        ),
        ("$ai_latency", "1s", "a number of seconds from 0", "a string"),
        ("$ai_latency", 1.7e15, "a number of seconds", "1700000000000000.0"),
        ("$ai_latency", -0.5, "a number of seconds", "-0.5"),
        ("$ai_total_cost_usd", "1,20", "an amount from 0", "a string"),
        ("$ai_total_cost_usd", -1, "an amount from 0", "-1"),
        ("$ai_total_cost_usd", Decimal("1E+30"), "an amount from 0", "1E+30"),
        ("$ai_input_token_price", {}, "an amount from 0", "an object"),
        ("$ai_http_status", 1000, "a whole number from 0 (none known) to 999", "1000"),
        ("$ai_is_error", 1, "true or false", "1"),
        ("$ai_is_error", "yes", "true or false", "a string"),
        ("$ai_error", 5, "a string, object or array", "5"),
        ("$ai_trace_id", ["t"], "a string of at most 1024 characters", "an array"),
        (
            "$ai_trace_id",
            "t" * 1025,
            "a string of at most 1024 characters",
            "a string of 1025 characters",
        ),
        ("$ai_provider", 5, "a string", "5"),
        ("$ai_model_parameters", "{}", "an object", "a string"),
        ("$ai_temperature", "0.1", "a number", "a string"),
        ("$ai_metric_value", [], "a string, number or boolean", "an array"),
    ],
)
def test_a_mistyped_known_property_is_refused_with_path_and_reason(
    name: str, value: object, expected: str, came: str
) -> None:
    for event in EVENT_TYPES:
        with pytest.raises(SchemaViolation) as caught:
            check(event, {"$ai_model": "m", name: value})
        error = caught.value
        assert error.attr == f"properties.{name}"
        assert error.detail.startswith(f"properties.{name} must be {expected}")
        assert f", but is {came}" in error.detail
        assert error.detail.endswith(", or leave it out")
        assert isinstance(error, InvalidInput)
        assert error.code == "schema_violation"


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({}, "is missing"),
        ({"$ai_model": ""}, "an empty string"),
        ({"$ai_model": None}, "null"),
        ({"$ai_model": 4}, "4"),
    ],
)
def test_the_model_is_required_on_every_event(properties: dict[str, Any], reason: str) -> None:
    for event in EVENT_TYPES:
        with pytest.raises(SchemaViolation, match=reason) as caught:
            check(event, properties)
        assert caught.value.attr == "properties.$ai_model"
        assert "leave it out" not in caught.value.detail


def test_every_optional_known_property_may_be_null() -> None:
    nulls = {known.name: None for known in PROPERTIES if not known.required}
    for event in EVENT_TYPES:
        check(event, {**nulls, "$ai_model": "m"}, strict=True)


def test_standard_properties_are_never_refused_for_their_type() -> None:
    odd = {
        known.name: [1, {"a": None}] for known in PROPERTIES if not known.name.startswith("$ai_")
    }
    del odd["litellm_call_id"]
    check("$ai_trace", {**odd, "$ai_model": "m"}, strict=True)


def test_at_most_three_violations_are_told_and_the_rest_counted() -> None:
    wrong = {
        f"$ai_{which}_tokens": "x"
        for which in ("total", "input", "output", "reasoning", "image_input")
    }
    error = violation({"$ai_model": "m", **wrong})
    assert error.detail.count("must be") == 3
    assert error.detail.endswith("; and 2 more")
    assert error.attr == "properties.$ai_image_input_tokens"
    assert error.detail.startswith("properties.$ai_image_input_tokens ")


def test_a_refusal_never_repeats_what_was_sent() -> None:
    error = violation(
        {"$ai_model": "m", "$ai_input_tokens": "sk-secret", "$ai_model_parameters": ["sk-secret"]}
    )
    assert "sk-secret" not in error.detail


def test_unknown_properties_are_kept_unless_strict() -> None:
    properties = {"$ai_model": "m", "plan": "gold", "$ai_colour": 3}
    check("$ai_generation", properties)
    error = violation(properties, strict=True)
    assert "properties.plan is not in the schema ai_generation.v1" in error.detail
    assert "properties.$ai_colour is not in the schema" in error.detail
    assert "NILOMETER_STRICT_SCHEMA" in error.detail


def test_a_hostile_name_is_shortened_and_escaped() -> None:
    error = violation({"$ai_model": "m", "a\r\nSet-Cookie: x" * 1000: 1}, strict=True)
    assert "\r" not in error.detail + str(error.attr)
    assert "\n" not in error.detail + str(error.attr)
    assert len(error.detail) < 500


def test_ten_thousand_unknown_names_make_a_short_answer() -> None:
    error = violation({"$ai_model": "m", **{f"x{i}": i for i in range(10_000)}}, strict=True)
    assert error.detail.endswith("; and 9997 more")
    assert len(error.detail) < 1000


def test_half_a_surrogate_pair_in_a_name_is_refused() -> None:
    assert violation({"$ai_model": "m", "\ud800": 1}).attr == "properties"


def test_an_event_of_another_type_is_refused() -> None:
    with pytest.raises(SchemaViolation, match=r"must be one of \$ai_generation"):
        check("$pageview", {"$ai_model": "m"})


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from([known.name for known in PROPERTIES])


@given(
    st.sampled_from(EVENT_TYPES),
    st.dictionaries(NAMES | st.text(), NESTED, max_size=5),
    st.booleans(),
)
def test_any_json_is_accepted_or_refused_and_nothing_else(
    event: str, properties: dict[str, Any], strict: bool
) -> None:
    with contextlib.suppress(SchemaViolation):
        check(event, properties, strict=strict)


@pytest.mark.parametrize(
    "name", ["ai_generation", "ai_trace", "ai_span", "ai_embedding", "ai_metric", "ai_feedback"]
)
def test_each_published_schema_is_versioned_and_a_valid_draft_2020_12_schema(name: str) -> None:
    document = json.loads(schemas()[f"{name}.v1"])
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["$id"] == f"urn:nilometer:schema:{name}:v1"
    jsonschema_rs.meta.validate(document)
    for path in (document, document["properties"]["properties"]):
        assert path["additionalProperties"] is True
    for known, schema in document["properties"]["properties"]["properties"].items():
        assert schema["title"] == known
        assert schema["description"]


def test_a_published_schema_validates_a_whole_event() -> None:
    validator = jsonschema_rs.validator_for(json.loads(schemas()["ai_span.v1"]))
    event = {"event": "$ai_span", "uuid": "u", "distinct_id": "d", "properties": {"$ai_model": "m"}}
    assert validator.is_valid(event)
    assert not validator.is_valid({**event, "event": "$ai_trace"})
    assert not validator.is_valid({**event, "properties": {}})
    assert not validator.is_valid({**event, "properties": {"$ai_model": "m", "$ai_latency": "1"}})


def test_checking_a_typical_event_takes_microseconds() -> None:
    event, properties = SENT_BY_SDKS["openai"]
    properties = {**SDK, **properties, "$ai_input": [{"role": "user", "content": "x" * 900_000}]}
    check(event, properties)
    runs = []
    for _ in range(50):
        start = time.perf_counter()
        check(event, properties)
        runs.append(time.perf_counter() - start)
    assert min(runs) < 200e-6
