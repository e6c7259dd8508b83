"""Every convention by its name: the adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from nilometer.conventions.usage import provider_shapes, providers, telemetry, telemetry_shapes
from nilometer.conventions.usage.detection import detect
from nilometer.conventions.usage.reading import Adapter, by_layout, read_by
from nilometer.domain.usage import Usage


def litellm_payload(raw: Mapping[str, Any]) -> Usage:
    """LiteLLM's StandardLoggingPayload: the detailed usage object, else its own three counts."""
    for details in (_member(raw, "metadata", "usage_object"), _member(raw, "response", "usage")):
        found = _litellm(details) if details is not None else None
        if found is not None and found.reason != "not_reported":
            return found
    return read_by(telemetry.LITELLM, raw)


def _litellm(details: Mapping[str, Any]) -> Usage:
    if "prompt_tokens" in details:
        return read_by(telemetry.LITELLM, details)
    convention = detect(details)
    if convention is None or convention == "litellm_payload":
        return read_by(telemetry.LITELLM, details)
    return ADAPTERS[convention](details)


def _member(raw: Mapping[str, Any], outer: str, inner: str) -> Mapping[str, Any] | None:
    found = raw.get(outer)
    value = cast("Mapping[str, Any]", found).get(inner) if isinstance(found, Mapping) else None
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else None


ADAPTERS: Mapping[str, Adapter] = {
    "anthropic": provider_shapes.anthropic,
    "bedrock_converse": provider_shapes.bedrock_converse,
    "bedrock_llama": by_layout(providers.BEDROCK_LLAMA),
    "bedrock_titan": provider_shapes.bedrock_titan,
    "cohere": provider_shapes.cohere,
    "deepseek": by_layout(providers.DEEPSEEK),
    "gemini": provider_shapes.gemini,
    "groq": by_layout(providers.GROQ),
    "langchain": by_layout(telemetry.LANGCHAIN),
    "langfuse": telemetry_shapes.langfuse,
    "litellm": by_layout(telemetry.LITELLM),
    "litellm_payload": litellm_payload,
    "mistral": by_layout(providers.MISTRAL),
    "ollama": by_layout(providers.OLLAMA, embedding=True),
    "openai_chat": by_layout(providers.OPENAI_CHAT),
    "openai_duration": by_layout(providers.OPENAI_DURATION),
    "openai_embeddings": by_layout(providers.OPENAI_EMBEDDINGS, embedding=True),
    "openai_images": provider_shapes.openai_images,
    "openai_realtime": by_layout(providers.OPENAI_REALTIME),
    "openai_responses": by_layout(providers.OPENAI_RESPONSES),
    "openinference": telemetry_shapes.openinference,
    "openllmetry": telemetry_shapes.openllmetry,
    "openllmetry_bedrock": telemetry_shapes.openllmetry_bedrock,
    "openrouter": by_layout(providers.OPENROUTER),
    "otel_genai": telemetry_shapes.otel_genai,
    "perplexity": by_layout(providers.PERPLEXITY),
    "posthog": telemetry_shapes.posthog,
    "vercel": telemetry_shapes.vercel,
    "vercel_usage": by_layout(telemetry.VERCEL_USAGE),
    "xai": by_layout(providers.XAI),
}
"""An adapter a convention: the source's object to a Usage. None of them raises."""
