"""The usage of a canonical event: the provider's own words before the client's counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from nilometer.conventions.usage.adapters import ADAPTERS
from nilometer.conventions.usage.detection import detect
from nilometer.conventions.usage.telemetry_shapes import posthog_counts
from nilometer.domain.usage import Usage

# Providers that speak OpenAI's names with another meaning, or count other things besides.
_OPENAI_LIKE: Mapping[str, str] = {
    "deepseek": "deepseek",
    "grok": "xai",
    "groq": "groq",
    "mistral": "mistral",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "x-ai": "xai",
    "xai": "xai",
}


def read(
    properties: Mapping[str, Any],
    *,
    provider: str | None = None,
    model: str | None = None,
    event: str | None = None,
    convention: str | None = None,
) -> Usage:
    """What the call of a `$ai_generation` or `$ai_embedding` event consumed; never raises.

    In order: the raw usage (`$ai_usage`) when its convention is known, the usage inside a whole
    response that was sent as `$ai_output_choices` (LiteLLM's PostHog callback sends its details
    nowhere else), the `$ai_*` counts. One that reports nothing gives way to the next.

    `provider` and `model` default to the event's own. `event` is the event's name. `convention`
    names the raw usage's where the door knows it (`convention_of_scope`); else it is detected.
    """
    provider = properties.get("$ai_provider") if provider is None else provider
    for raw, name in (
        (_object(properties.get("$ai_usage")), convention),
        (_object(_object(properties.get("$ai_output_choices")).get("usage")), None),
    ):
        usage = _read_raw(raw, name, provider)
        if usage is not None and not usage.reason.endswith("not_reported"):
            return _with_searches(usage, properties)
    return posthog_counts(
        _usage_properties(properties),
        provider=provider,
        model=properties.get("$ai_model") if model is None else model,
        framework=properties.get("$ai_framework"),
        embedding=event == "$ai_embedding",
    )


def _with_searches(usage: Usage, properties: Mapping[str, Any]) -> Usage:
    """The searches that a client counted in the answer, where the usage does not tell them."""
    if not properties.get("$ai_web_search_count"):
        return usage
    searched = ADAPTERS["posthog"](_usage_properties(properties)).units
    return replace(usage, units={**searched, **usage.units})


def _read_raw(raw: Mapping[str, Any], convention: str | None, provider: Any) -> Usage | None:
    if not raw:
        return None
    name = convention if convention in ADAPTERS else detect(raw)
    if name == "openai_chat" and isinstance(provider, str):
        name = _OPENAI_LIKE.get(provider.lower(), name)
    return None if name is None else ADAPTERS[name](raw)


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _usage_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties that a count can stand in, for reading them again."""
    return {
        name: value
        for name, value in properties.items()
        if name.endswith(("_tokens", "_search_count")) or name == "$ai_cache_reporting_exclusive"
    }
