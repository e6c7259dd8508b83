"""The Vercel AI SDK: spans of `ai.*` attributes, one of them around each call to a provider."""

from __future__ import annotations

from nilometer.conventions.ai_properties import EMBEDDING, GENERATION
from nilometer.conventions.spans import content
from nilometer.conventions.spans.row import (
    DISTINCT_ID,
    INPUT,
    OUTPUT,
    PARAMETERS,
    Convention,
    Kinds,
    Row,
    tokens,
)
from nilometer.conventions.spans.shapes import (
    CONTENT,
    COUNT,
    ID,
    JSON_TEXTS,
    MILLIS,
    PROVIDER,
    SCALAR,
    SESSION,
    USER,
)

USAGE = "vercel"
_ALL = "AI SDK 4 to 6"

CONVENTION = Convention(
    name="vercel",
    title="Vercel AI SDK",
    source="AI SDK telemetry, versions 4 to 6",
    heads=frozenset({"ai", "eve"}),
    kinds=(
        Kinds(
            "ai.operationId",
            {"dogenerate": GENERATION, "dostream": GENERATION, "doembed": EMBEDDING},
            last_segment=True,
        ),
    ),
    adds={"$ai_framework": "vercel"},
    rows=(
        Row("$ai_model", ("ai.response.model", "ai.model.id"), version=_ALL),
        Row("$ai_provider", ("ai.model.provider",), PROVIDER, _ALL),
        Row("$ai_span_type", ("ai.operationId",), version=_ALL),
        Row("$ai_response_id", ("ai.response.id",), ID, _ALL, calls_only=True),
        Row("$ai_stop_reason", ("ai.response.finishReason", "ai.finishReason"), version=_ALL),
        Row(
            "$ai_time_to_first_token",
            ("ai.response.msToFirstChunk", "ai.stream.msToFirstChunk"),
            MILLIS,
            _ALL,
        ),
        Row("$ai_trace_name", ("ai.telemetry.functionId",), version=_ALL),
        Row("$ai_tools", ("ai.prompt.tools",), JSON_TEXTS, _ALL),
        Row(f"{PARAMETERS}.*", ("ai.settings.*",), SCALAR, _ALL),
        Row(
            "$ai_session_id",
            ("ai.telemetry.metadata.sessionId", "ai.telemetry.metadata.session_id"),
            SESSION,
            _ALL,
        ),
        Row(
            DISTINCT_ID,
            ("ai.telemetry.metadata.userId", "ai.telemetry.metadata.user_id"),
            USER,
            _ALL,
        ),
        Row(
            INPUT,
            ("ai.prompt.messages", "ai.prompt", "ai.toolCall.args", "ai.value"),
            CONTENT,
            _ALL,
        ),
        Row(INPUT, ("ai.values",), JSON_TEXTS, _ALL),
        Row(
            OUTPUT,
            (
                "ai.response.text",
                "ai.response.reasoning",
                "ai.response.toolCalls",
                "ai.response.object",
                "ai.response.files",
            ),
            version=_ALL,
            build=content.vercel_answer,
        ),
        Row(OUTPUT, ("ai.toolCall.result",), CONTENT, _ALL),
        *tokens(
            USAGE,
            "AI SDK 4; 5; 6: with or without cache, by provider and version",
            {
                "input_tokens": (
                    "ai.usage.inputTokens",
                    "ai.usage.promptTokens",
                    "ai.usage.tokens",
                ),
                "output_tokens": ("ai.usage.outputTokens", "ai.usage.completionTokens"),
                "total_tokens": ("ai.usage.totalTokens",),
                "cache_read_input_tokens": (
                    "ai.usage.inputTokenDetails.cacheReadTokens",
                    "ai.usage.cachedInputTokens",
                ),
                "cache_creation_input_tokens": ("ai.usage.inputTokenDetails.cacheWriteTokens",),
                "reasoning_tokens": (
                    "ai.usage.outputTokenDetails.reasoningTokens",
                    "ai.usage.reasoningTokens",
                ),
            },
            COUNT,
        ),
    ),
)
