"""Every adapter, on what its source really sends."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from nilometer.conventions.usage import ADAPTERS, convention_of_scope, detect
from nilometer.domain.usage import TokenVector, Usage


def usage_of(raw: dict[str, Any], convention: str | None = None) -> Usage:
    name = convention or detect(raw)
    assert name is not None
    return ADAPTERS[name](raw)


def test_the_same_call_is_the_same_vector_by_every_convention() -> None:
    """LiteLLM's test call: 100 fresh, 5,000 read, 2,000 written (500 for an hour), 50 out."""
    split = {"ephemeral_5m_input_tokens": 1500, "ephemeral_1h_input_tokens": 500}
    cached = {"cache_read_input_tokens": 5000, "cache_creation_input_tokens": 2000}
    raw = {"input_tokens": 100, "output_tokens": 50, **cached, "cache_creation": split}
    litellm = {
        "prompt_tokens": 7100,
        "completion_tokens": 50,
        "total_tokens": 7150,
        **cached,
        "prompt_tokens_details": {"cached_tokens": 5000, "cache_creation_token_details": split},
    }
    langchain = {
        "input_tokens": 7100,
        "output_tokens": 50,
        "total_tokens": 7150,
        "input_token_details": {"cache_read": 5000, "cache_creation": 0, **split},
    }
    details = [{"ttl": "1h", "inputTokens": 500}, {"ttl": "5m", "inputTokens": 1500}]
    bedrock = {
        "inputTokens": 100,
        "outputTokens": 50,
        "totalTokens": 7150,
        "cacheDetails": details,
        "cacheReadInputTokens": 5000,
        "cacheWriteInputTokens": 2000,
    }
    payload = {"call_type": "acompletion", "prompt_tokens": 7100, "completion_tokens": 50}
    expected = TokenVector(
        uncached_input=100,
        cache_read=5000,
        cache_write_5m=1500,
        cache_write_1h=500,
        text_output=50,
    )
    seen = {
        "anthropic": usage_of(raw),
        "litellm": usage_of(litellm),
        "litellm_payload": usage_of({**payload, "metadata": {"usage_object": litellm}}),
        "langchain": usage_of(langchain),
        "bedrock_converse": usage_of(bedrock),
        "otel": usage_of({"gen_ai.usage.input_tokens": 1, "metadata.usage_object": str(litellm)}),
    }
    assert {name: usage.vector for name, usage in seen.items()} == dict.fromkeys(seen, expected)
    assert expected.input == 7100


ANTHROPICS = {
    "input_tokens": 100,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 50,
    "output_tokens": 20,
}


@pytest.mark.parametrize("total", [{}, {"total_tokens": 120}, {"total_tokens": 1170}])
def test_anthropics_cache_names_say_that_it_is_anthropics_whatever_total_was_added(
    total: dict[str, int],
) -> None:
    usage = usage_of({**ANTHROPICS, **total})
    assert (usage.convention, usage.reason) == ("anthropic", "")
    assert usage.vector == TokenVector(
        uncached_input=100, cache_read=1000, cache_write_5m=50, text_output=20
    )
    assert usage_of({**ANTHROPICS, "total_tokens": 1171}).reason == "contradictory_total"


def test_a_total_beside_a_compaction_is_of_the_rest() -> None:
    compacted = [{"type": "compaction", "input_tokens": 900, "output_tokens": 30}]
    usage = usage_of({**ANTHROPICS, "total_tokens": 1170, "iterations": compacted})
    assert usage.vector is not None
    assert (usage.vector.uncached_input, usage.vector.text_output) == (1000, 50)
    advisor = [
        {"type": "advisor_message", "input_tokens": 9, "output_tokens": 1, "total_tokens": 10}
    ]
    told = usage_of({**ANTHROPICS, "iterations": advisor})
    assert told.units == {"advisor_tokens": Decimal(10)}


def test_a_cache_count_that_the_convention_does_not_know_never_vanishes() -> None:
    chat = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    told = {"prompt_tokens_details": {"cached_tokens": 50}}
    strange = usage_of({**chat, "prompt_cache_hit_tokens": 50})
    assert (strange.convention, strange.vector) == ("openai_chat", None)
    assert strange.reason == "unknown_count:prompt_cache_hit_tokens"
    assert usage_of({**chat, **told, "prompt_cache_hit_tokens": 50}).vector is not None
    assert usage_of({**chat, **told, "prompt_cache_hit_tokens": 49}).vector is None
    assert usage_of({**chat, "prompt_cache_hit_tokens": 0}).vector is not None
    responses = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
    assert usage_of({**responses, "cached_tokens": 50}).reason == "unknown_count:cached_tokens"
    billed = {"billed_units": {"input_tokens": 9, "output_tokens": 1}, "cached_tokens": 5}
    assert usage_of(billed).vector == TokenVector(uncached_input=9, text_output=1)


def test_openrouters_own_names_give_it_away_and_its_searches_are_counted() -> None:
    chat = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    searched = {**chat, "server_tool_use": {"web_search_requests": 2}}
    for name in ({"cost_details": {"upstream_inference_cost": None}}, {"is_byok": False}):
        usage = usage_of({**searched, **name})
        assert (usage.convention, usage.units) == ("openrouter", {"web_searches": Decimal(2)})


def test_langfuse_input_may_have_lost_its_reads_only_as_litellm_sends_it() -> None:
    cached = {"cache_read_input_tokens": 5000, "cache_creation_input_tokens": 2000}
    trap = usage_of({"input": 2100, "output": 50, "total": 7150, **cached})
    own = usage_of({"input": 100, "output": 50, **cached})
    inclusive = usage_of({"input": 7100, "output": 50, "total": 7150, **cached})
    assert trap.vector == own.vector == inclusive.vector
    assert own.vector is not None
    assert (own.vector.uncached_input, own.vector.total) == (100, 7150)


def test_reasoning_is_inside_the_output_unless_the_total_proves_it_beside() -> None:
    inside = usage_of(
        {
            "prompt_tokens": 32,
            "completion_tokens": 103,
            "total_tokens": 135,
            "completion_tokens_details": {"reasoning_tokens": 94},
        }
    )
    beside = usage_of(
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            "completion_tokens_details": {"reasoning_tokens": 94},
        }
    )
    assert inside.vector == beside.vector
    assert beside.vector == TokenVector(uncached_input=32, text_output=9, reasoning=94)


def test_cached_audio_is_taken_out_of_the_audio_and_of_the_cache() -> None:
    usage = usage_of(
        {
            "input_tokens": 132,
            "output_tokens": 121,
            "total_tokens": 253,
            "input_token_details": {
                "text_tokens": 119,
                "audio_tokens": 13,
                "cached_tokens": 70,
                "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 6},
            },
            "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
        }
    )
    assert usage.convention == "openai_realtime"
    assert usage.vector == TokenVector(
        uncached_input=55,
        cache_read=64,
        audio_input=7,
        audio_cache_read=6,
        text_output=30,
        audio_output=91,
    )


def test_an_image_is_all_the_output_where_no_details_say_otherwise() -> None:
    counts = {"input_tokens": 50, "output_tokens": 4160, "total_tokens": 4210}
    entered = {"input_tokens_details": {"text_tokens": 10, "image_tokens": 40}}
    told = {"output_tokens_details": {"text_tokens": 160, "image_tokens": 4000}}
    plain, detailed = usage_of({**counts, **entered}), usage_of({**counts, **entered, **told})
    assert plain.vector == TokenVector(uncached_input=10, image_input=40, image_output=4160)
    assert detailed.vector == TokenVector(
        uncached_input=10, image_input=40, image_output=4000, text_output=160
    )


def test_gemini_modalities_come_from_lists_and_thoughts_stand_beside() -> None:
    usage = usage_of(
        {
            "promptTokenCount": 1000,
            "cachedContentTokenCount": 600,
            "candidatesTokenCount": 50,
            "thoughtsTokenCount": 200,
            "toolUsePromptTokenCount": 30,
            "totalTokenCount": 1280,
            "promptTokensDetails": [
                {"modality": "AUDIO", "tokenCount": 300},
                {"modality": "IMAGE", "tokenCount": 258},
                {"modality": "TEXT", "tokenCount": 442},
            ],
            "cacheTokensDetails": [
                {"modality": "AUDIO", "tokenCount": 100},
                {"modality": "IMAGE", "tokenCount": 200},
                {"modality": "TEXT", "tokenCount": 300},
            ],
        }
    )
    assert usage.vector == TokenVector(
        uncached_input=142 + 30,
        cache_read=500,
        audio_input=200,
        audio_cache_read=100,
        image_input=58,
        text_output=50,
        reasoning=200,
    )


def test_a_compaction_is_added_and_an_advisor_is_apart() -> None:
    iteration = {"input_tokens": 1000, "output_tokens": 100, "cache_read_input_tokens": 0}
    usage = usage_of(
        {
            "input_tokens": 20,
            "output_tokens": 30,
            "iterations": [
                {"type": "compaction", **iteration},
                {"type": "message", "input_tokens": 20, "output_tokens": 30},
                {"type": "advisor_message", "model": "another", **iteration},
            ],
        }
    )
    assert usage.vector == TokenVector(uncached_input=1020, text_output=130)
    assert usage.units == {"advisor_tokens": Decimal(1100)}


def test_cohere_is_read_as_it_bills() -> None:
    tokens = {"tokens": {"input_tokens": 496, "output_tokens": 110}}
    billed = usage_of({"billed_units": {"input_tokens": 5, "output_tokens": 108}, **tokens})
    assert billed.vector == TokenVector(uncached_input=5, text_output=108)
    assert usage_of(tokens).vector == TokenVector(uncached_input=496, text_output=110)
    rerank = usage_of({"billed_units": {"search_units": 1}})
    assert (rerank.vector, rerank.units) == (TokenVector(), {"rerank_searches": Decimal(1)})


def test_an_embedding_has_no_output_and_a_generation_without_one_is_unknown() -> None:
    span = {"gen_ai.usage.input_tokens": 8}
    embedding = usage_of({**span, "gen_ai.operation.name": "embeddings"})
    assert embedding.vector == TokenVector(uncached_input=8)
    assert usage_of({**span, "gen_ai.operation.name": "chat"}).reason == "output_not_reported"
    assert usage_of({"prompt_tokens": 8, "total_tokens": 8}).vector == embedding.vector
    assert usage_of({"ai.usage.tokens": 8, "ai.operationId": "ai.embed.doEmbed"}).vector == (
        embedding.vector
    )
    assert usage_of({"inputTextTokenCount": 8, "embedding": []}).vector == embedding.vector


def test_a_missing_side_is_the_total_less_the_other() -> None:
    assert usage_of({"gen_ai.usage.input_tokens": 8, "gen_ai.usage.total_tokens": 10}).vector == (
        TokenVector(uncached_input=8, text_output=2)
    )
    assert usage_of({"gen_ai.usage.output_tokens": 2, "gen_ai.usage.total_tokens": 10}).vector == (
        TokenVector(uncached_input=8, text_output=2)
    )


def test_a_call_billed_by_the_second_has_no_tokens_but_is_known() -> None:
    usage = usage_of({"type": "duration", "seconds": 27.5})
    assert (usage.vector, usage.units) == (TokenVector(), {"audio_seconds": Decimal("27.5")})
    assert usage_of({"type": "duration", "seconds": "27"}).reason == "invalid_count:seconds"


def test_openllmetry_bedrock_is_exclusive_and_the_others_are_not() -> None:
    span = {
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.total_tokens": 150,
        "gen_ai.usage.cache_read_input_tokens": 5000,
    }
    scope = convention_of_scope("opentelemetry.instrumentation.bedrock")
    assert scope == "openllmetry_bedrock"
    assert usage_of(span, scope).vector == TokenVector(
        uncached_input=100, cache_read=5000, text_output=50
    )
    assert convention_of_scope("opentelemetry.instrumentation.anthropic") is None
    assert usage_of(span).reason == "negative_remainder"


def test_the_total_proves_that_openinference_bedrock_left_the_cache_out() -> None:
    span = {
        "llm.token_count.prompt": 100,
        "llm.token_count.completion": 50,
        "llm.token_count.prompt_details.cache_read": 80,
    }
    beside = usage_of({**span, "llm.token_count.total": 230})
    assert beside.vector == TokenVector(uncached_input=100, cache_read=80, text_output=50)
    inside = usage_of({**span, "llm.token_count.total": 150})
    assert inside.vector == TokenVector(uncached_input=20, cache_read=80, text_output=50)


def test_vercel_five_leaves_anthropics_cache_out_and_six_does_not() -> None:
    five = {
        "ai.model.provider": "anthropic.messages",
        "ai.usage.inputTokens": 100,
        "ai.usage.outputTokens": 50,
        "ai.usage.cachedInputTokens": 5000,
        "ai.usage.totalTokens": 150,
    }
    six = {
        "ai.model.provider": "anthropic.messages",
        "ai.usage.inputTokens": 5100,
        "ai.usage.outputTokens": 50,
        "ai.usage.inputTokenDetails.cacheReadTokens": 5000,
        "ai.usage.inputTokenDetails.noCacheTokens": 100,
    }
    expected = TokenVector(uncached_input=100, cache_read=5000, text_output=50)
    assert usage_of(five).vector == usage_of(six).vector == expected
    metadata = '{"anthropic":{"usage":{"input_tokens":100,"cache_creation_input_tokens":7}}}'
    told = usage_of({**five, "ai.response.providerMetadata": metadata})
    assert told.reason == "output_not_reported", "the provider's own usage is what is read"


def test_perplexity_counts_reasoning_and_citations_beside_its_total() -> None:
    usage = usage_of(
        {
            "prompt_tokens": 33,
            "completion_tokens": 7163,
            "total_tokens": 7196,
            "citation_tokens": 20016,
            "num_search_queries": 18,
            "reasoning_tokens": 73997,
        }
    )
    assert usage.vector == TokenVector(uncached_input=33, text_output=7163, reasoning=73997)
    assert usage.units == {"web_searches": Decimal(18), "citation_tokens": Decimal(20016)}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 7}, "contradictory_total"),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 1,
                "total_tokens": 6,
                "prompt_tokens_details": {"cached_tokens": 9},
            },
            "negative_remainder",
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "prompt_cache_hit_tokens": 5,
                "prompt_cache_miss_tokens": 3,
            },
            "contradictory_counts:uncached",
        ),
        (
            {
                "input_tokens": 9,
                "output_tokens": 1,
                "cache_creation_input_tokens": 5,
                "cache_creation": {"ephemeral_1h_input_tokens": 6},
            },
            "contradictory_counts:cache_write",
        ),
        (
            {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.prompt_tokens": 6},
            "contradictory_counts:input",
        ),
        ({"prompt_tokens": True, "completion_tokens": 1}, "invalid_count:prompt_tokens"),
        ({"prompt_tokens": "5", "completion_tokens": 1}, "invalid_count:prompt_tokens"),
        ({"prompt_tokens": 5.5, "completion_tokens": 1}, "invalid_count:prompt_tokens"),
        ({"prompt_tokens": -1, "completion_tokens": 1}, "invalid_count:prompt_tokens"),
        ({"prompt_tokens": 2**63, "completion_tokens": 1}, "invalid_count:prompt_tokens"),
        ({"prompt_tokens": float("inf"), "completion_tokens": 1}, "invalid_count:prompt_tokens"),
        ({"prompt_tokens": 2**63 - 1, "completion_tokens": 1}, "too_large"),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": [1]},
            "invalid_count:prompt_tokens_details/cached_tokens",
        ),
        ({"prompt_tokens": None, "completion_tokens": 1}, "input_not_reported"),
        ({"prompt_tokens": float("nan"), "completion_tokens": float("nan")}, "not_reported"),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, "not_reported"),
        ({"promptTokenCount": 5, "promptTokensDetails": {}}, "invalid_count:promptTokensDetails"),
    ],
)
def test_what_cannot_be_counted_has_a_reason_and_no_vector(
    raw: dict[str, Any], reason: str
) -> None:
    usage = usage_of(raw)
    assert (usage.vector, usage.reason) == (None, reason)
    assert usage.raw == raw


def test_whole_floats_and_a_total_of_zero_are_fine() -> None:
    usage = usage_of({"prompt_tokens": 5.0, "completion_tokens": Decimal("1.0"), "total_tokens": 0})
    assert usage.vector == TokenVector(uncached_input=5, text_output=1)


def test_the_documentation_names_every_convention() -> None:
    page = (Path(__file__).parents[3] / "docs" / "tokens.md").read_text(encoding="utf-8")
    assert [name for name in ADAPTERS if f"\n| `{name}` | " not in page] == []
