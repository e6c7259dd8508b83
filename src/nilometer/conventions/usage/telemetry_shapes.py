"""What instrumentations nest, write as text, or mean differently by provider."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any, cast

from nilometer.conventions.usage import telemetry
from nilometer.conventions.usage.layout import CACHE, INSIDE, REASONING, Beside
from nilometer.conventions.usage.provider_shapes import anthropic
from nilometer.conventions.usage.reading import read_by
from nilometer.domain.usage import Usage

_MAX_TEXT_CHARS = 65536
_EMBEDDING = {
    "gen_ai.operation.name": "embeddings",
    "llm.request.type": "embedding",
    "openinference.span.kind": "EMBEDDING",
}
_ANTHROPIC_VIA_VERCEL = (
    "anthropic",
    "vertex.anthropic",
    "google.vertex.anthropic",
    "amazon-bedrock",
)
_GOOGLE = frozenset(
    {"", "gemini", "google", "vertex", "vertex_ai", "google-ai-studio", "google-vertex"}
)


def otel_genai(raw: Mapping[str, Any]) -> Usage:
    """GenAI attributes; LiteLLM's first exporter keeps the details as text beside them."""
    details = parsed(raw.get("metadata.usage_object"))
    if details is not None:
        usage = read_by(telemetry.LITELLM, details)
        if usage.reason != "not_reported":
            return usage
    return read_by(telemetry.OTEL_GENAI, raw, embedding=is_embedding(raw))


def openllmetry(raw: Mapping[str, Any]) -> Usage:
    """OpenLLMetry's attributes, but for the instrumentations that break the rule."""
    return read_by(telemetry.OPENLLMETRY, raw, embedding=is_embedding(raw))


def openllmetry_bedrock(raw: Mapping[str, Any]) -> Usage:
    """OpenLLMetry's Bedrock instrumentation: Bedrock's own, exclusive counts."""
    return read_by(telemetry.OPENLLMETRY_BEDROCK, raw, embedding=is_embedding(raw))


def openinference(raw: Mapping[str, Any]) -> Usage:
    """OpenInference's attributes."""
    return read_by(telemetry.OPENINFERENCE, raw, embedding=is_embedding(raw))


def vercel(raw: Mapping[str, Any]) -> Usage:
    """Vercel's attributes: the provider's own usage where version 5 keeps it, else its counts."""
    own = _anthropic_metadata(raw)
    if own is not None:
        return anthropic(own)
    embedding = "embed" in str(raw.get("ai.operationId", "")).lower()
    detailed = any(str(key).startswith("ai.usage.inputTokenDetails.") for key in raw)
    provider = str(raw.get("ai.model.provider", ""))
    if not detailed and provider.startswith(_ANTHROPIC_VIA_VERCEL):
        return read_by(telemetry.VERCEL_EXCLUSIVE, raw, embedding=embedding)
    return read_by(telemetry.VERCEL, raw, embedding=embedding)


def langfuse(raw: Mapping[str, Any]) -> Usage:
    """Langfuse's usage details, the object or the attribute that holds it as text."""
    attribute = raw.get("langfuse.observation.usage_details")
    details = raw if attribute is None else parsed(attribute) or {}
    return read_by(telemetry.LANGFUSE, details, embedding="output" not in details)


def posthog(raw: Mapping[str, Any]) -> Usage:
    """The counts of `$ai_*` properties, by PostHog's rules of what contains what."""
    return posthog_counts(
        raw,
        provider=raw.get("$ai_provider"),
        model=raw.get("$ai_model"),
        framework=raw.get("$ai_framework"),
        embedding=bool(raw.get("$ai_embedding")),
    )


def posthog_counts(
    raw: Mapping[str, Any], *, provider: Any, model: Any, framework: Any, embedding: bool
) -> Usage:
    """As `posthog`, of counts alone: whose they are is told beside them."""
    provider, model = _lower(provider), _lower(model)
    cache = CACHE if _reports_exclusively(raw, provider, model, framework) else INSIDE
    reasoning = REASONING if _reasons_beside(provider, model) else INSIDE
    other: Beside = INSIDE if reasoning else REASONING
    return read_by(
        telemetry.POSTHOG,
        raw,
        beside=cache | reasoning,
        or_beside=(cache | other,),
        embedding=embedding and raw.get("$ai_output_tokens") is None,
    )


def parsed(value: Any) -> Mapping[str, Any] | None:
    """An object written as JSON, or as Python's repr of a dict; None when it is neither."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value)
    if not isinstance(value, str) or len(value) > _MAX_TEXT_CHARS or not value.startswith("{"):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        return cast("Mapping[str, Any]", found) if isinstance(found, dict) else None
    return None


def is_embedding(raw: Mapping[str, Any]) -> bool:
    """Whether a span's attributes say that it made an embedding, which has no output tokens."""
    return any(raw.get(name) == value for name, value in _EMBEDDING.items())


def _anthropic_metadata(raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
    metadata = parsed(raw.get("ai.response.providerMetadata")) or {}
    part = metadata.get("anthropic")
    usage = cast("Mapping[str, Any]", part).get("usage") if isinstance(part, Mapping) else None
    if not isinstance(usage, Mapping) or "input_tokens" not in usage:
        return None
    return cast("Mapping[str, Any]", usage)


def _reports_exclusively(raw: Mapping[str, Any], provider: str, model: str, framework: Any) -> bool:
    said = raw.get("$ai_cache_reporting_exclusive")
    if said is True or said == "true":
        return True
    if said is False or said == "false":
        return False
    if provider == "gateway" and _lower(framework) == "vercel":
        return _cached_exceeds_input(raw)
    return provider == "anthropic" or "anthropic" in model or model.startswith("claude")


def _cached_exceeds_input(raw: Mapping[str, Any]) -> bool:
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    counts = [raw.get(f"$ai_{name}") for name in names]
    numbers = [number if type(number) is int else 0 for number in counts]
    return numbers[0] < numbers[1] + numbers[2]


def _reasons_beside(provider: str, model: str) -> bool:
    """Gemini's candidates do not contain its thoughts, and PostHog's SDK sends them apart.

    PostHog goes by the model alone; but others who sell Gemini (OpenRouter) count as OpenAI does.
    """
    return provider in _GOOGLE and model.rpartition("/")[2].startswith("gemini")


def _lower(value: Any) -> str:
    return value.lower() if isinstance(value, str) else ""
