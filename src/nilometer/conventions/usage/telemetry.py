"""What instrumentations and gateways report, a layout each: attributes of spans, payloads.

OpenTelemetry's rule is that input contains cache reads and writes, and output reasoning. Several
clients break it; where their instrumentation is known by its scope, it has its own layout here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nilometer.conventions.usage.layout import (
    CACHE,
    INPUT_PARTS,
    INSIDE,
    OUTPUT_PARTS,
    REASONING,
    WRITES,
    Count,
    Layout,
    Paths,
)
from nilometer.conventions.usage.providers import OPENAI_CHAT

_G = "gen_ai.usage."
_D = "gen_ai.usage.details."

OTEL_GENAI = Layout(
    convention="otel_genai",
    source="OpenTelemetry GenAI attributes, current and former; Sentry's and Pydantic AI's too",
    counts={
        "input": (f"{_G}input_tokens", f"{_G}prompt_tokens", "llm.usage.prompt_tokens"),
        "output": (f"{_G}output_tokens", f"{_G}completion_tokens", "llm.usage.completion_tokens"),
        "total": (f"{_G}total_tokens", "llm.usage.total_tokens"),
        "cache_read": (
            *(f"{_G}cache_read.input_tokens", f"{_G}cache_read_input_tokens"),
            *(f"{_D}cache_read_tokens", f"{_D}cache_read_input_tokens", f"{_D}cached_tokens"),
            f"{_G}input_tokens.cached",
        ),
        "cache_write": (
            *(f"{_G}cache_write.input_tokens", f"{_G}cache_creation.input_tokens"),
            f"{_G}cache_creation_input_tokens",
            *(f"{_D}cache_write_tokens", f"{_D}cache_creation_input_tokens"),
            f"{_G}input_tokens.cache_write",
        ),
        "audio_input": (f"{_D}input_audio_tokens",),
        "audio_cache_read": (f"{_D}cache_audio_read_tokens",),
        "reasoning": (
            *(f"{_G}reasoning.output_tokens", f"{_G}reasoning_tokens"),
            *(f"{_D}reasoning_tokens", f"{_D}thoughts_tokens"),
            f"{_G}output_tokens.reasoning",
        ),
        "audio_output": (f"{_D}output_audio_tokens",),
    },
    or_beside=(CACHE, REASONING, CACHE | REASONING),
    units={"web_searches": (f"{_D}web_search_requests",)},
)
OPENLLMETRY = replace(
    OTEL_GENAI,
    convention="openllmetry",
    source="opentelemetry-instrumentation-{openai,anthropic,langchain} 0.62.4: inclusive",
)
OPENLLMETRY_BEDROCK = replace(
    OTEL_GENAI,
    convention="openllmetry_bedrock",
    source="opentelemetry-instrumentation-bedrock 0.62.4: Bedrock's own counts, cache beside",
    beside=CACHE,
    or_beside=(),
)

_L = "llm.token_count."

OPENINFERENCE = Layout(
    convention="openinference",
    source="OpenInference semantic conventions, llm.token_count.*: inclusive",
    counts={
        "input": (f"{_L}prompt",),
        "output": (f"{_L}completion",),
        "total": (f"{_L}total",),
        "cache_read": (f"{_L}prompt_details.cache_read", f"{_L}prompt_details.cache_input"),
        "cache_write": (f"{_L}prompt_details.cache_write",),
        "audio_input": (f"{_L}prompt_details.audio",),
        "reasoning": (f"{_L}completion_details.reasoning",),
        "audio_output": (f"{_L}completion_details.audio",),
    },
    or_beside=(CACHE, REASONING, CACHE | REASONING),
)

_V = "ai.usage."

VERCEL = Layout(
    convention="vercel",
    source="Vercel AI SDK telemetry: 6 is inclusive and says details, 4 and 5 mostly inclusive",
    counts={
        "input": (f"{_V}inputTokens", f"{_V}promptTokens"),
        "output": (f"{_V}outputTokens", f"{_V}completionTokens"),
        "total": (f"{_V}totalTokens", f"{_V}tokens"),
        "uncached": (f"{_V}inputTokenDetails.noCacheTokens",),
        "cache_read": (f"{_V}inputTokenDetails.cacheReadTokens", f"{_V}cachedInputTokens"),
        "cache_write": (f"{_V}inputTokenDetails.cacheWriteTokens",),
        "reasoning": (f"{_V}outputTokenDetails.reasoningTokens", f"{_V}reasoningTokens"),
    },
    or_beside=(REASONING, CACHE, CACHE | REASONING),
)
VERCEL_EXCLUSIVE = replace(
    VERCEL,
    convention="vercel_exclusive",
    source="Vercel AI SDK 5 with Anthropic's models: inputTokens is Anthropic's own count",
    beside=CACHE,
    or_beside=(),
)
VERCEL_USAGE = replace(
    VERCEL,
    convention="vercel_usage",
    source="Vercel AI SDK LanguageModelUsage, the object",
    counts={
        known: tuple(path.removeprefix(_V).replace(".", "/") for path in paths)
        for known, paths in VERCEL.counts.items()
    },
)
LANGCHAIN = Layout(
    convention="langchain",
    source="langchain-core UsageMetadata: inclusive",
    counts={
        "input": ("input_tokens",),
        "output": ("output_tokens",),
        "total": ("total_tokens",),
        "cache_read": ("input_token_details/cache_read",),
        "cache_write": ("input_token_details/cache_creation",),
        "cache_write_5m": ("input_token_details/ephemeral_5m_input_tokens",),
        "cache_write_1h": ("input_token_details/ephemeral_1h_input_tokens",),
        "audio_input": ("input_token_details/audio",),
        "reasoning": ("output_token_details/reasoning",),
        "audio_output": ("output_token_details/audio",),
    },
)

LANGFUSE = Layout(
    convention="langfuse",
    source="Langfuse usage_details: every key beside the others, unless the total says otherwise",
    counts={
        "input": ("input",),
        "output": ("output",),
        "total": ("total",),
        "cache_read": (
            *("cache_read_input_tokens", "input_cached_tokens", "input_cache_read"),
            *("input_cached", "cached_tokens"),
        ),
        "cache_write": (
            *("cache_creation_input_tokens", "input_cache_creation", "input_cache_write"),
        ),
        "cache_write_5m": (
            *("cache_creation_ephemeral_5m_input_tokens", "input_cache_creation_5m"),
        ),
        "cache_write_1h": (
            *("cache_creation_ephemeral_1h_input_tokens", "input_cache_creation_1h"),
        ),
        "audio_input": ("input_audio", "input_audio_tokens", "input_modality_AUDIO"),
        "image_input": ("input_image", "input_image_tokens", "input_modality_IMAGE"),
        "reasoning": ("output_reasoning", "output_reasoning_tokens", "reasoning_tokens"),
        "audio_output": ("output_audio", "output_audio_tokens", "output_modality_AUDIO"),
        "image_output": ("output_image", "output_image_tokens", "output_modality_IMAGE"),
    },
    beside=INPUT_PARTS | OUTPUT_PARTS,
    # LiteLLM takes reads out of the input and leaves writes in; others take out nothing.
    or_beside=(
        INPUT_PARTS - WRITES,
        INPUT_PARTS,
        OUTPUT_PARTS,
        INSIDE,
    ),
)

LITELLM = replace(
    OPENAI_CHAT,
    convention="litellm",
    source="litellm 1.109.1 types/utils.py Usage: prompt_tokens contains cache reads and writes",
    counts={
        **OPENAI_CHAT.counts,
        "cache_read": (
            *("cache_read_input_tokens", "prompt_tokens_details/cached_tokens"),
            "prompt_cache_hit_tokens",
        ),
        "cache_write": (
            *("cache_creation_input_tokens", "prompt_tokens_details/cache_creation_tokens"),
            "prompt_tokens_details/cache_write_tokens",
        ),
        "cache_write_5m": (
            "prompt_tokens_details/cache_creation_token_details/ephemeral_5m_input_tokens",
            "prompt_tokens_details/cache_creation_token_details/ephemeral_30m_input_tokens",
        ),
        "cache_write_1h": (
            "prompt_tokens_details/cache_creation_token_details/ephemeral_1h_input_tokens",
            "prompt_tokens_details/cache_creation_token_details/ephemeral_12h_input_tokens",
        ),
    },
    units={
        "web_searches": (
            *("server_tool_use/web_search_requests", "prompt_tokens_details/web_search_requests"),
        ),
        "maps_searches": ("prompt_tokens_details/google_maps_grounding_requests",),
        "audio_seconds": ("duration_seconds", "prompt_tokens_details/audio_length_seconds"),
        "characters": ("prompt_tokens_details/character_count",),
        "images": ("prompt_tokens_details/image_count",),
    },
)

_POSTHOG: Mapping[Count, Paths] = {
    "input": ("$ai_input_tokens",),
    "output": ("$ai_output_tokens",),
    "total": ("$ai_total_tokens",),
    "cache_read": ("$ai_cache_read_input_tokens",),
    "cache_write": ("$ai_cache_creation_input_tokens",),
    "cache_write_5m": ("$ai_cache_creation_5m_input_tokens",),
    "cache_write_1h": ("$ai_cache_creation_1h_input_tokens",),
    "audio_input": ("$ai_audio_input_tokens",),
    "image_input": ("$ai_image_input_tokens",),
    "video_input": ("$ai_video_input_tokens",),
    "reasoning": ("$ai_reasoning_tokens",),
    "audio_output": ("$ai_audio_output_tokens",),
    "image_output": ("$ai_image_output_tokens",),
}
POSTHOG = Layout(
    convention="posthog",
    source="PostHog's cost enrichment: what contains what depends on provider, model and a flag",
    counts=_POSTHOG,
    units={"web_searches": ("$ai_web_search_count",)},
)
