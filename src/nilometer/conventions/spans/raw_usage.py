"""The usage of a span as its adapter reads it: the attributes that count, under their own names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nilometer.conventions.loose_values import mapping
from nilometer.conventions.spans import genai, langfuse, litellm_spans, openinference, vercel
from nilometer.conventions.usage import convention_of_scope, detect
from nilometer.domain.span import plain

# What decides how counts are to be read, beside them.
_PREFIXES: Mapping[str, tuple[str, ...]] = {
    genai.USAGE: ("gen_ai.usage.", "llm.usage."),
    openinference.USAGE: ("llm.token_count.",),
    vercel.USAGE: (
        *("ai.usage.", "ai.model.provider", "ai.operationId"),
        "ai.response.providerMetadata",
    ),
}
_OBJECTS = {
    langfuse.USAGE: "langfuse.observation.usage_details",
    litellm_spans.USAGE: "metadata.usage_object",
}
_DETAILS = ".inputTokenDetails."
_EMBEDDING = ("gen_ai.operation.name", "llm.request.type", "openinference.span.kind")
_EXCLUSIVE = {
    genai.USAGE: False,
    "openllmetry": False,
    "openllmetry_bedrock": True,
    openinference.USAGE: False,
    litellm_spans.USAGE: False,
    langfuse.USAGE: True,
    "openai_chat": False,
    "openai_responses": False,
    "anthropic": True,
}


@dataclass(frozen=True, slots=True)
class RawUsage:
    """`value` is the object to keep as `$ai_usage`, `taken` the attributes that are in it."""

    usage: str
    value: dict[str, Any]
    taken: frozenset[str]

    def convention(self, scope: str, spoken: str) -> str:
        """The adapter's name: an instrumentation's own where it breaks its convention's rule.

        Langfuse's SDKs pass a provider's usage object on as it came. Its details are objects, which
        Langfuse's own counts never are.
        """
        if self.usage == langfuse.USAGE and any(isinstance(v, dict) for v in self.value.values()):
            return detect(self.value) or self.usage
        if self.usage != genai.USAGE:
            return self.usage
        return convention_of_scope(scope) or (spoken if spoken == "openllmetry" else self.usage)

    def describe(self, properties: dict[str, Any], convention: str) -> None:
        """Add the raw usage, and whether its input leaves the cache out, where that is known."""
        properties.setdefault("$ai_usage", self.value)
        exclusive = _EXCLUSIVE.get(convention)
        if self.usage == vercel.USAGE and any(_DETAILS in name for name in self.value):
            exclusive = False
        if exclusive is not None:
            properties.setdefault("$ai_cache_reporting_exclusive", exclusive)


def collect(usage: str, attributes: Mapping[str, Any], *, embedding: bool) -> RawUsage:
    """The raw usage of a call that counts in the way `usage`."""
    attribute = _OBJECTS.get(usage)
    if attribute is not None:
        value = plain(mapping(attributes.get(attribute)) or {})
        return RawUsage(usage, value, frozenset({attribute}))
    counts = {
        name: value if type(value) is int else plain(value)
        for name, value in attributes.items()
        if name.startswith(_PREFIXES[usage])
    }
    taken = frozenset(name for name in counts if name.startswith(_PREFIXES[usage][:1]))
    if embedding:
        counts |= {name: attributes[name] for name in _EMBEDDING if name in attributes}
    return RawUsage(usage, counts, taken)
