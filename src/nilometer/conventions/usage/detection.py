"""Which convention an object speaks, by the names that only that one has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

_ATTRIBUTES = (
    ("langfuse.observation.usage_details", "langfuse"),
    ("ai.usage.", "vercel"),
    ("llm.token_count.", "openinference"),
    ("gen_ai.usage.", "otel_genai"),
    ("llm.usage.", "otel_genai"),
    ("metadata.usage_object", "otel_genai"),
    ("$ai_", "posthog"),
)
_EXCLUSIVE_SCOPES = {
    "opentelemetry.instrumentation.bedrock": "openllmetry_bedrock",
}


_KEPT_SIGNS = 512


@dataclass(frozen=True, slots=True)
class _Sign:
    """Names that give a convention away: one of `any_of` and all of `all_of`."""

    convention: str
    any_of: tuple[str, ...]
    all_of: tuple[str, ...] = ()


# In order: the first that fits wins. `/` steps into a nested object.
_SIGNS = (
    _Sign("litellm_payload", ("litellm_call_id", "call_type"), ("prompt_tokens",)),
    _Sign("bedrock_llama", ("generation_token_count",)),
    _Sign(
        "gemini",
        (
            *("promptTokenCount", "candidatesTokenCount", "totalTokenCount"),
            *("prompt_token_count", "candidates_token_count", "total_token_count"),
        ),
    ),
    _Sign("bedrock_titan", ("inputTextTokenCount",)),
    _Sign("ollama", ("prompt_eval_count", "eval_count")),
    _Sign("cohere", ("billed_units", "tokens/input_tokens")),
    _Sign(
        "vercel_usage",
        ("cachedInputTokens", "reasoningTokens", "inputTokenDetails", "outputTokenDetails"),
        ("inputTokens",),
    ),
    _Sign("bedrock_converse", ("inputTokens", "inputTokenCount")),
    _Sign("deepseek", ("prompt_cache_miss_tokens",), ("prompt_tokens",)),
    _Sign("perplexity", ("citation_tokens", "num_search_queries"), ("prompt_tokens",)),
    _Sign("xai", ("num_sources_used", "cost_in_usd_ticks"), ("prompt_tokens",)),
    _Sign(
        "litellm",
        (
            *("cache_read_input_tokens", "cache_creation_input_tokens"),
            "prompt_tokens_details/cache_creation_tokens",
            "prompt_tokens_details/cache_creation_token_details",
        ),
        ("prompt_tokens",),
    ),
    _Sign("openrouter", ("cost_details", "is_byok"), ("prompt_tokens",)),
    _Sign("groq", ("queue_time", "prompt_time"), ("prompt_tokens",)),
    _Sign("mistral", ("prompt_audio_seconds", "num_cached_tokens"), ("prompt_tokens",)),
    _Sign("openai_chat", ("completion_tokens",)),
    _Sign("openai_embeddings", ("total_tokens",), ("prompt_tokens",)),
    _Sign("openai_duration", ("seconds",), ("type",)),
    _Sign(
        "langchain",
        (
            *("input_token_details/cache_read", "input_token_details/cache_creation"),
            *("input_token_details/audio", "output_token_details/reasoning"),
            "output_token_details/audio",
        ),
    ),
    _Sign("openai_realtime", ("input_token_details", "output_token_details")),
    _Sign(
        "openai_images",
        ("input_tokens_details/image_tokens", "output_tokens_details/image_tokens"),
        ("total_tokens",),
    ),
    _Sign(
        "openai_responses",
        (
            *("input_tokens_details", "output_tokens_details/reasoning_tokens"),
            "server_side_tool_usage_details",
        ),
        ("input_tokens",),
    ),
    # Before a bare total, which wrappers add to Anthropic's counts too.
    _Sign(
        "anthropic",
        ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"),
        ("input_tokens",),
    ),
    _Sign("openai_responses", ("total_tokens",), ("input_tokens",)),
    _Sign("anthropic", ("output_tokens",), ("input_tokens",)),
    _Sign("langfuse", ("input", "output", "total")),
)


def detect(raw: Mapping[str, Any]) -> str | None:
    """The convention of an object or of attributes, None when no name gives it away.

    Two conventions that write the same names (a Groq answer without its times is an OpenAI one)
    also mean the same by them.
    """
    names = [key for key in raw if isinstance(key, str)]  # pyright: ignore[reportUnnecessaryIsInstance]
    attributes = [name for name in names if "." in name or name.startswith("$")]
    for prefix, convention in _ATTRIBUTES if attributes else ():
        if any(name.startswith(prefix) for name in attributes):
            return convention
    for sign in _signs(_FIRSTS.intersection(names)):
        if any(_has(raw, name) for name in sign.any_of) and all(
            _has(raw, name) for name in sign.all_of
        ):
            return sign.convention
    return None


@lru_cache(_KEPT_SIGNS)
def _signs(present: frozenset[str]) -> tuple[_Sign, ...]:
    """The signs that an object with these names may have, in their order."""
    return tuple(
        sign
        for sign in _SIGNS
        if any(_first(name) in present for name in sign.any_of)
        and all(_first(name) in present for name in sign.all_of)
    )


def _first(name: str) -> str:
    return name.partition("/")[0]


_FIRSTS = frozenset(_first(name) for sign in _SIGNS for name in (*sign.any_of, *sign.all_of))


def convention_of_scope(scope: str) -> str | None:
    """The convention of an instrumentation scope whose spans break their attributes' rule.

    None for every other scope: `detect` on the attributes then tells.
    """
    return _EXCLUSIVE_SCOPES.get(scope)


def _has(raw: Mapping[str, Any], name: str) -> bool:
    if "/" not in name:
        return raw.get(name) is not None
    value: Any = raw
    for step in name.split("/"):
        value = cast("Mapping[str, Any]", value).get(step) if isinstance(value, Mapping) else None
    return value is not None
