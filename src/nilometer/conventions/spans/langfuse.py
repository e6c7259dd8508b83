"""Langfuse's SDKs, versions 3 to 5, which speak OpenTelemetry with `langfuse.*` attributes."""

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
    IF_TRUE,
    LOWER,
    MOMENT,
    OBJECT,
    SESSION,
    TEXT,
    USD,
    USER,
)

USAGE = "langfuse"
_ALL = "3 to 5"
_LITELLM = "LiteLLM langfuse"
_OBSERVATION = "langfuse.observation"
_USAGE = f"{_OBSERVATION}.usage_details"
_COST = f"{_OBSERVATION}.cost_details"

CONVENTION = Convention(
    name="langfuse",
    title="Langfuse",
    source="langfuse 5.0.4 and before",
    heads=frozenset({"langfuse"}),
    scopes=frozenset({"langfuse-sdk"}),
    kinds=(Kinds(f"{_OBSERVATION}.type", {"generation": GENERATION, "embedding": EMBEDDING}),),
    rows=(
        Row("$ai_model", (f"{_OBSERVATION}.model.name",), version=_ALL),
        Row("$ai_provider", (f"{_OBSERVATION}.metadata.provider",), LOWER, "LiteLLM v2"),
        Row("litellm_call_id", (f"{_OBSERVATION}.metadata.litellm_call_id",), ID, _LITELLM),
        Row("$ai_response_id", (f"{_OBSERVATION}.metadata.response_id",), ID, _LITELLM),
        Row(
            "$ai_cache_hit",
            (f"{_OBSERVATION}.metadata.cache_hit",),
            IF_TRUE,
            _LITELLM,
            calls_only=True,
        ),
        Row("$ai_span_type", (f"{_OBSERVATION}.type",), LOWER, _ALL),
        Row("$ai_session_id", ("langfuse.session.id", "langfuse.trace.session_id"), SESSION, _ALL),
        Row(DISTINCT_ID, ("langfuse.user.id", "langfuse.trace.user_id"), USER, _ALL),
        Row("$ai_trace_name", ("langfuse.trace.name",), version=_ALL),
        Row("$ai_prompt_name", (f"{_OBSERVATION}.prompt.name",), version=_ALL),
        Row("$ai_experiment_id", ("langfuse.experiment.id",), ID, "4 and 5"),
        Row(PARAMETERS, (f"{_OBSERVATION}.model.parameters",), OBJECT, _ALL),
        Row(
            "$ai_time_to_first_token",
            (f"{_OBSERVATION}.completion_start_time",),
            MOMENT,
            _ALL,
        ),
        Row("$ai_error", (f"{_OBSERVATION}.status_message",), TEXT, _ALL),
        Row("$ai_tools", (f"{_OBSERVATION}.input",), content.CHAT_TOOLS, "LiteLLM langfuse_otel"),
        Row(INPUT, (f"{_OBSERVATION}.input",), content.CHAT_MESSAGES, "LiteLLM langfuse_otel"),
        Row(INPUT, (f"{_OBSERVATION}.input", "langfuse.trace.input"), CONTENT, _ALL),
        Row(OUTPUT, (f"{_OBSERVATION}.output", "langfuse.trace.output"), CONTENT, _ALL),
        *tokens(
            USAGE,
            "exclusive of what has its own key",
            {
                "input_tokens": (
                    f"{_USAGE}#input",
                    f"{_USAGE}#prompt_tokens",
                    f"{_USAGE}#input_tokens",
                ),
                "output_tokens": (
                    f"{_USAGE}#output",
                    f"{_USAGE}#completion_tokens",
                    f"{_USAGE}#output_tokens",
                ),
                "total_tokens": (f"{_USAGE}#total", f"{_USAGE}#total_tokens"),
                "cache_read_input_tokens": (
                    f"{_USAGE}#input_cached_tokens",
                    f"{_USAGE}#input_cache_read",
                    f"{_USAGE}#cache_read_input_tokens",
                    f"{_USAGE}#prompt_tokens_details.cached_tokens",
                    f"{_USAGE}#input_tokens_details.cached_tokens",
                ),
                "cache_creation_input_tokens": (
                    f"{_USAGE}#input_cache_creation",
                    f"{_USAGE}#cache_creation_input_tokens",
                ),
                "reasoning_tokens": (
                    f"{_USAGE}#output_reasoning_tokens",
                    f"{_USAGE}#output_reasoning",
                    f"{_USAGE}#completion_tokens_details.reasoning_tokens",
                    f"{_USAGE}#output_tokens_details.reasoning_tokens",
                ),
            },
            COUNT,
        ),
        Row("$ai_input_cost_usd", (f"{_COST}#input",), USD, _ALL, calls_only=True),
        Row("$ai_output_cost_usd", (f"{_COST}#output",), USD, _ALL, calls_only=True),
        Row("$ai_total_cost_usd", (f"{_COST}#total",), USD, _ALL, calls_only=True),
    ),
)
