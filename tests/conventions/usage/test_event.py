"""The usage of canonical events: raw usage first, else `$ai_*` counts by PostHog's rules."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from nilometer.conventions.usage import read
from nilometer.domain.usage import TokenVector

COUNTS = {
    "$ai_input_tokens": 100,
    "$ai_output_tokens": 50,
    "$ai_cache_read_input_tokens": 40,
    "$ai_cache_creation_input_tokens": 20,
}
INCLUSIVE = TokenVector(uncached_input=40, cache_read=40, cache_write_5m=20, text_output=50)
EXCLUSIVE = TokenVector(uncached_input=100, cache_read=40, cache_write_5m=20, text_output=50)


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"$ai_provider": "openai", "$ai_model": "gpt-4o"}, INCLUSIVE),
        ({"$ai_provider": "anthropic", "$ai_model": "claude-sonnet-4-5"}, EXCLUSIVE),
        ({"$ai_provider": "bedrock", "$ai_model": "us.anthropic.claude-opus-4-5"}, EXCLUSIVE),
        ({"$ai_provider": "custom", "$ai_model": "Claude-x"}, EXCLUSIVE),
        ({"$ai_provider": "anthropic", "$ai_cache_reporting_exclusive": False}, INCLUSIVE),
        ({"$ai_provider": "openai", "$ai_cache_reporting_exclusive": True}, EXCLUSIVE),
        ({"$ai_provider": "openai", "$ai_cache_reporting_exclusive": "true"}, EXCLUSIVE),
        ({"$ai_provider": "gateway", "$ai_framework": "vercel"}, INCLUSIVE),
    ],
)
def test_whether_input_contains_the_cache_follows_provider_model_and_flag(
    properties: dict[str, Any], expected: TokenVector
) -> None:
    usage = read({**COUNTS, **properties})
    assert (usage.vector, usage.convention) == (expected, "posthog")


def test_a_vercel_gateway_that_cannot_be_inclusive_is_exclusive() -> None:
    usage = read({**COUNTS, "$ai_input_tokens": 59}, provider="gateway")
    assert usage.reason == "negative_remainder"
    properties = {**COUNTS, "$ai_input_tokens": 59, "$ai_framework": "vercel"}
    vector = read(properties, provider="gateway").vector
    assert vector is not None
    assert vector.uncached_input == 59


def test_geminis_thoughts_are_beside_unless_the_total_says_inside() -> None:
    counts = {"$ai_input_tokens": 10, "$ai_output_tokens": 30, "$ai_reasoning_tokens": 20}
    gemini = read(counts, provider="gemini", model="gemini-2.5-flash").vector
    assert gemini == TokenVector(uncached_input=10, text_output=30, reasoning=20)
    total = read({**counts, "$ai_total_tokens": 40}, model="google/gemini-3-pro-preview").vector
    assert total == TokenVector(uncached_input=10, text_output=10, reasoning=20)
    assert read(counts, provider="openai", model="o3").vector == total
    assert read(counts, provider="openrouter", model="google/gemini-2.5-pro").vector == total
    assert read(counts, model="gemini-2.5-pro").vector == gemini


def test_raw_usage_wins_over_the_counts_and_keeps_their_searches() -> None:
    raw = {
        "input_tokens": 75,
        "output_tokens": 100,
        "total_tokens": 175,
        "output_tokens_details": {"reasoning_tokens": 60},
    }
    usage = read({**COUNTS, "$ai_usage": raw, "$ai_web_search_count": 2}, provider="openai")
    assert usage.convention == "openai_responses"
    assert usage.vector == TokenVector(uncached_input=75, text_output=40, reasoning=60)
    assert usage.units == {"web_searches": Decimal(2)}
    assert usage.raw == raw


@pytest.mark.parametrize(
    "raw", [None, "text", [], {}, {"unknown": 1}, {"output_tokens": 9}, {"completion_tokens": 9}, 5]
)
def test_raw_usage_of_no_known_shape_or_without_a_side_gives_way(raw: object) -> None:
    usage = read({**COUNTS, "$ai_usage": raw}, provider="openai")
    assert (usage.vector, usage.convention) == (INCLUSIVE, "posthog")


def test_litellms_posthog_callback_keeps_the_split_in_the_response() -> None:
    response = {
        "id": "chatcmpl-1",
        "usage": {
            "prompt_tokens": 7100,
            "completion_tokens": 50,
            "total_tokens": 7150,
            "cache_read_input_tokens": 5000,
            "cache_creation_input_tokens": 2000,
        },
    }
    counts = {"$ai_input_tokens": 7100, "$ai_output_tokens": 50, "$ai_provider": "anthropic"}
    usage = read({**counts, "$ai_output_choices": response})
    assert usage.convention == "litellm"
    assert usage.vector == TokenVector(
        uncached_input=100, cache_read=5000, cache_write_5m=2000, text_output=50
    )


def test_the_provider_tells_which_openai_like_usage_it_is() -> None:
    raw = {
        "prompt_tokens": 32,
        "completion_tokens": 9,
        "completion_tokens_details": {"reasoning_tokens": 94},
    }
    assert read({"$ai_usage": raw}, provider="xai").vector == TokenVector(
        uncached_input=32, text_output=9, reasoning=94
    )
    assert read({"$ai_usage": raw}, provider="openai").reason == "negative_remainder"


def test_the_door_may_know_the_convention() -> None:
    raw = {
        "gen_ai.usage.input_tokens": 1,
        "gen_ai.usage.output_tokens": 1,
        "gen_ai.usage.cache_read_input_tokens": 9,
    }
    vector = read({"$ai_usage": raw}, convention="openllmetry_bedrock").vector
    assert vector == TokenVector(uncached_input=1, cache_read=9, text_output=1)
    assert read({"$ai_usage": raw}, convention="no such").reason == "negative_remainder"


def test_an_embedding_event_needs_no_output() -> None:
    counts = {"$ai_input_tokens": 8}
    assert read(counts, event="$ai_embedding").vector == TokenVector(uncached_input=8)
    assert read(counts, event="$ai_generation").reason == "output_not_reported"
    assert read({}).reason == "not_reported"


def test_only_what_counts_is_kept_of_the_properties() -> None:
    usage = read({**COUNTS, "$ai_input": "a secret"}, provider="openai")
    assert usage.raw == COUNTS
