"""LiteLLM's StandardLoggingPayload, as its `generic_api` callback posts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nilometer.conventions import ai_event, litellm, usage
from nilometer.conventions.litellm_secrets import scrubbed, scrubbed_text
from nilometer.conventions.spans import convert, kept
from nilometer.domain.span import Span

CALL = "b0b1b2b3-0000-4000-8000-000000000001"
RESPONSE = "chatcmpl-1d2c3b4a-aaaa-bbbb-cccc-1234567890ab"
CLAUDE_CODE = '{"device_id":"d1","account_uuid":"acc-1","session_id":"s-1"}'
# 100 fresh tokens, 5,000 read from and 2,000 written to the cache (500 for an hour), 50 written.
USAGE = {
    "prompt_tokens": 7100,
    "completion_tokens": 50,
    "total_tokens": 7150,
    "cache_read_input_tokens": 5000,
    "cache_creation_input_tokens": 2000,
    "prompt_tokens_details": {
        "cached_tokens": 5000,
        "cache_creation_tokens": 2000,
        "cache_creation_token_details": {
            "ephemeral_5m_input_tokens": 1500,
            "ephemeral_1h_input_tokens": 500,
        },
    },
}
SUCCESS: dict[str, Any] = {
    "id": RESPONSE,
    "trace_id": "tr-1",
    "session_id": "",
    "litellm_call_id": CALL,
    "call_type": "acompletion",
    "stream": True,
    "status": "success",
    "custom_llm_provider": "anthropic",
    "model": "claude-sonnet-4-5",
    "model_group": "smart",
    "api_base": "https://api.anthropic.com/v1/messages?key=sk-ant-secret",
    "prompt_tokens": 7100,
    "completion_tokens": 50,
    "total_tokens": 7150,
    "response_cost": 0.011175,
    "cost_breakdown": {
        "input_cost": 0.010425,
        "cache_read_cost": 0.0015,
        "cache_creation_cost": 0.008625,
        "output_cost": 0.00075,
        "total_cost": 0.011175,
    },
    "startTime": 1751367600.0,
    "completionStartTime": 1751367600.4,
    "endTime": 1751367601.5,
    "response_time": 0.4,
    "end_user": CLAUDE_CODE,
    "cache_hit": None,
    "cache_key": "ck-secret",
    "request_tags": ["repo:nile", "User-Agent: curl", "User-Agent: curl/8"],
    "requester_ip_address": "10.0.0.9",
    "messages": [{"role": "user", "content": "How high? My api_key is mine."}],
    "response": {
        "model": "claude-sonnet-4-5-20250929",
        "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "16"}}],
    },
    "model_parameters": {"temperature": 0.2, "extra_headers": {"x": "header-secret"}},
    "metadata": {
        "user_api_key_hash": "hash-secret",
        "user_api_key_alias": "ci",
        "user_api_key_team_alias": "hydrology",
        "user_api_key_spend": 12.5,
        "user_api_key_auth_metadata": {"k": "auth-secret"},
        "requester_metadata": {"feature": "floods", "headers": {"authorization": "Bearer secret"}},
        "requester_custom_headers": {"x-token": "header-secret"},
        "requester_ip_address": "10.0.0.9",
        "usage_object": USAGE,
    },
    "hidden_params": {"additional_headers": {"x-ratelimit": "header-secret"}},
}


def with_(**changes: Any) -> dict[str, Any]:
    return {**SUCCESS, **changes}


def call_of(payload: dict[str, Any]) -> tuple[str, str]:
    event = litellm.convert(payload)
    columns = ai_event.columns(event.event, event.properties)
    return ai_event.call_id(event.uuid, columns, event.properties)


def test_a_success_is_a_generation_with_what_the_payload_tells() -> None:
    event = litellm.convert(SUCCESS)
    assert (event.event, event.distinct_id) == ("$ai_generation", "acc-1")
    assert event.timestamp == 1_751_367_600_000_000
    assert (event.counts_usage, event.usage_convention) == (True, "litellm")
    assert event.properties == {
        "$ai_provider": "anthropic",
        "$ai_span_type": "acompletion",
        "$ai_trace_id": "tr-1",
        "$ai_session_id": "s-1",
        "$ai_span_id": CALL,
        "litellm_call_id": CALL,
        "litellm_model_group": "smart",
        "litellm_request_model": "claude-sonnet-4-5",
        "litellm_team_alias": "hydrology",
        "litellm_key_alias": "ci",
        "litellm_tags": ["repo:nile"],
        "litellm_metadata": {"requester_metadata": {"feature": "floods"}},
        "$ai_model": "claude-sonnet-4-5-20250929",
        "$ai_response_id": RESPONSE,
        "$ai_input": SUCCESS["messages"],
        "$ai_output_choices": SUCCESS["response"]["choices"],
        "$ai_model_parameters": {"temperature": 0.2},
        "$ai_base_url": "https://api.anthropic.com/v1/messages",
        "$ai_stream": True,
        "$ai_stop_reason": "stop",
        "$ai_usage": USAGE,
        "$ai_input_tokens": 7100,
        "$ai_output_tokens": 50,
        "$ai_total_tokens": 7150,
        "$ai_cache_read_input_tokens": 5000,
        "$ai_cache_creation_input_tokens": 2000,
        "$ai_cache_reporting_exclusive": False,
        "$ai_input_cost_usd": "0.010425",
        "$ai_output_cost_usd": "0.00075",
        "$ai_total_cost_usd": "0.011175",
        "$ai_latency": 1.5,
        "$ai_time_to_first_token": 0.4,
        "$ai_ingestion_source": "litellm",
        "$ai_lib": "litellm",
    }


def test_the_7100_tokens_are_counted_once_each() -> None:
    event = litellm.convert(SUCCESS)
    read = usage.read(event.properties, convention=event.usage_convention)
    assert read.vector is not None
    assert (read.vector.uncached_input, read.vector.cache_read) == (100, 5000)
    assert (read.vector.cache_write_5m, read.vector.cache_write_1h) == (1500, 500)
    assert read.vector.total == 7150


@pytest.mark.parametrize("payload", [SUCCESS, scrubbed(SUCCESS)], ids=["raw", "scrubbed"])
def test_no_secret_and_no_address_passes(payload: dict[str, Any]) -> None:
    for text in (json.dumps(scrubbed(payload)), json.dumps(litellm.convert(payload).properties)):
        assert "secret" not in text
        assert "10.0.0.9" not in text
        assert "12.5" not in text
        assert "My api_key is mine." in text, "content is the project's to redact"


def test_a_failure_is_an_error_and_no_response() -> None:
    event = litellm.convert(
        with_(
            id=CALL,
            status="failure",
            response=None,
            response_cost=0.0,
            response_cost_failure_debug_info={"error": "no price"},
            cost_breakdown=None,
            metadata={},
            prompt_tokens=0,
            completion_tokens=0,
            total_tokens=0,
            error_information={
                "error_code": "429",
                "error_class": "RateLimitError",
                "error_message": "slow down",
            },
        )
    )
    assert event.event == "$ai_generation"
    assert event.properties["$ai_is_error"] is True
    assert event.properties["$ai_error"] == "slow down"
    assert event.properties["$ai_error_type"] == "RateLimitError"
    assert event.properties["$ai_http_status"] == 429
    assert "$ai_response_id" not in event.properties
    assert "$ai_total_cost_usd" not in event.properties, "an unknown cost is not 0"


def test_a_payload_sent_again_is_one_event_and_each_attempt_its_own() -> None:
    first = litellm.convert(with_(status="failure", id=CALL)).uuid
    assert litellm.convert(with_(status="failure", id=CALL, endTime=1751367609.0)).uuid == first
    assert litellm.convert(with_(status="failure", id=CALL, startTime=1751367602.0)).uuid != first
    assert litellm.convert(SUCCESS).uuid != first


def test_an_answer_from_the_cache_is_not_the_call_that_filled_it() -> None:
    assert call_of(SUCCESS) == ("response", RESPONSE)
    hit = with_(cache_hit=True, litellm_call_id="another-call")
    assert call_of(hit) == ("litellm", "another-call")
    assert not litellm.convert(hit).counts_usage


@pytest.mark.parametrize(
    ("changes", "session"),
    [
        ({"session_id": "own"}, "own"),
        ({}, "s-1"),
        ({"end_user": "user_9f_account_acc-1_session_s-2"}, "s-2"),
        ({"end_user": "alice"}, None),
        (
            {
                "end_user": None,
                "metadata": {
                    "requester_metadata": {"headers": {"X-Claude-Code-Session-Id": "s-3"}}
                },
            },
            "s-3",
        ),
        (
            {"end_user": None, "metadata": {"requester_custom_headers": {"x-session-id": "s-4"}}},
            "s-4",
        ),
        ({"end_user": None, "metadata": {"requester_custom_headers": {"x-id": "s-5"}}}, None),
    ],
)
def test_the_session_is_the_callers_and_survives_the_scrubbing(
    changes: dict[str, Any], session: str | None
) -> None:
    payload = with_(**changes)
    for told in (payload, scrubbed(payload)):
        assert litellm.convert(told).properties.get("$ai_session_id") == session


@pytest.mark.parametrize(
    ("call_type", "consumed", "event"),
    [
        ("aembedding", 8, "$ai_embedding"),
        ("acompletion", 0, "$ai_generation"),
        ("aresponses", 8, "$ai_generation"),
        ("anthropic_messages", 8, "$ai_generation"),
        ("call_mcp_tool", 0, "$ai_span"),
        ("call_mcp_tool", 8, "$ai_span"),
        ("afile_list", 0, "$ai_span"),
        ("a_type_of_tomorrow", 8, "$ai_generation"),
        ("a_type_of_tomorrow", 0, "$ai_span"),
    ],
)
def test_the_type_of_the_call_decides_and_an_unknown_one_by_what_it_consumed(
    call_type: str, consumed: int, event: str
) -> None:
    told = litellm.convert(with_(call_type=call_type, total_tokens=consumed, response_cost=0.0))
    assert told.event == event
    assert told.counts_usage is (event != "$ai_span")
    assert ("$ai_input_tokens" in told.properties) is (event != "$ai_span")


@pytest.mark.parametrize(
    ("span_id", "expected"),
    [
        (RESPONSE, {"$ai_response_id": RESPONSE}),
        (CALL, {"litellm_call_id": CALL}),
        (None, {}),
        (7, {}),
    ],
)
def test_its_posthog_callback_has_the_calls_id_in_the_spans_place(
    span_id: Any, expected: dict[str, str]
):
    told = {"$ai_span_id": span_id, "user_api_key_request_route": "/v1/chat/completions"}
    assert litellm.posthog_ids(told) == expected
    assert litellm.posthog_ids({"$ai_span_id": span_id}) == {}


def test_metadata_as_text_is_scrubbed_too():
    told = {"user_api_key_hash": "secret", "user_api_key_alias": "ci", "requester_metadata": {}}
    assert json.loads(scrubbed_text(json.dumps(told))) == {
        "user_api_key_alias": "ci",
        "requester_metadata": {},
    }
    for other in ("no json: secret", "[1]", "[" * 100_000):
        assert scrubbed_text(other) == ""


def test_a_refused_call_that_its_phoenix_callback_tells_twice_is_one_call():
    marks = {"openinference.span.kind": "LLM", "llm.model_name": "m", "litellm.trace_id": "tr"}
    metadata = json.dumps({"user_api_key_hash": "secret"})

    def call(span_id: str, start: int, **more: str) -> tuple[str, str]:
        attributes = marks | {"metadata": metadata} | more
        span = Span(trace_id=span_id * 2, span_id=span_id, start=start, attributes=attributes)
        told = convert(span)
        assert told.properties["metadata"] == "{}"
        return ai_event.call_id(
            told.uuid, ai_event.columns(told.event, told.properties), told.properties
        )

    first = call("a" * 16, 1_751_367_600_000_000_000)
    assert first == ("litellm", "tr/1751367600000000000")
    assert call("b" * 16, 1_751_367_600_000_000_000) == first
    assert call("b" * 16, 1_751_367_600_000_000_001) != first
    answered = call("c" * 16, 1, **{"llm.response.id": RESPONSE})
    assert answered == ("response", RESPONSE)


GOLDEN = sorted((Path(__file__).parent / "golden").glob("litellm_*.json"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "secrets",
    [
        {},
        {"metadata.user_api_key_hash": "swordfish", "metadata.requester_ip_address": "swordfish"},
        {"langfuse.observation.metadata.requester_metadata": '{"headers": {"x": "swordfish"}}'},
        {"litellm.trace_id": "tr", "metadata": '{"user_api_key_auth": "swordfish", "team": "t"}'},
    ],
)
def test_what_is_kept_of_a_span_has_no_secret_and_is_the_same_event(
    path: Path, secrets: dict[str, str]
):
    told = json.loads(path.read_text())["span"]
    told = {**told, "attributes": {**told.get("attributes", {}), **secrets}}
    span = Span.from_json(json.dumps(told))
    assert "swordfish" not in kept(span).to_json()
    assert "swordfish" not in json.dumps(convert(span).properties)
    assert convert(kept(span)) == convert(span)
