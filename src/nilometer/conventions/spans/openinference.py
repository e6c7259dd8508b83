"""OpenInference (Arize): flattened messages, counts that include the cache."""

from __future__ import annotations

from nilometer.conventions.ai_properties import EMBEDDING, GENERATION
from nilometer.conventions.spans import content
from nilometer.conventions.spans.row import (
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
    FIRST,
    LOWER,
    OBJECT,
    SESSION,
    USD,
)

USAGE = "openinference"
_ALL = "0.1 and later"
_DETAIL = "llm.token_count.prompt_details"

CONVENTION = Convention(
    name="openinference",
    title="OpenInference",
    source="openinference-semantic-conventions 0.1.42 and before",
    heads=frozenset({"openinference"}),
    kinds=(Kinds("openinference.span.kind", {"llm": GENERATION, "embedding": EMBEDDING}),),
    rows=(
        Row(
            "$ai_model",
            (
                "llm.response.model_name",
                "llm.model_name",
                "llm.request.model_name",
                "embedding.model_name",
                "reranker.model_name",
                "decision.response.model_name",
                "decision.model_name",
                "decision.request.model_name",
            ),
            version=_ALL,
        ),
        Row(
            "$ai_provider",
            ("llm.provider", "llm.system", "decision.provider", "decision.system"),
            LOWER,
            _ALL,
        ),
        Row("$ai_span_type", ("openinference.span.kind",), LOWER, _ALL),
        Row("$ai_session_id", ("session.id",), SESSION, _ALL),
        Row("$ai_stop_reason", ("llm.finish_reason",), FIRST, _ALL),
        Row("$ai_agent_name", ("agent.name",), version=_ALL),
        Row("$ai_prompt_name", ("prompt.id",), version=_ALL),
        Row(
            PARAMETERS,
            ("llm.invocation_parameters", "embedding.invocation_parameters"),
            OBJECT,
            _ALL,
        ),
        Row("$ai_tools", ("llm.tools.N.*",), version=_ALL, build=content.openinference_tools),
        Row(INPUT, ("llm.input_messages.N.*",), version=_ALL, build=content.messages),
        Row(OUTPUT, ("llm.output_messages.N.*",), version=_ALL, build=content.messages),
        Row(INPUT, ("llm.prompts.N.*",), version=_ALL, build=content.prompt_texts),
        Row(OUTPUT, ("llm.choices.N.*",), version=_ALL, build=content.prompt_texts),
        Row(INPUT, ("embedding.embeddings.N.*",), version=_ALL, build=content.embedded_texts),
        Row(OUTPUT, ("retrieval.documents.N.*",), version=_ALL, build=content.documents),
        Row(INPUT, ("reranker.input_documents.N.*",), version=_ALL, build=content.documents),
        Row(OUTPUT, ("reranker.output_documents.N.*",), version=_ALL, build=content.documents),
        Row(INPUT, ("input.value", "tool.parameters"), CONTENT, _ALL),
        Row(OUTPUT, ("output.value",), CONTENT, _ALL),
        *tokens(
            USAGE,
            "inclusive of cache",
            {
                "input_tokens": ("llm.token_count.prompt",),
                "output_tokens": ("llm.token_count.completion",),
                "total_tokens": ("llm.token_count.total",),
                "cache_read_input_tokens": (f"{_DETAIL}.cache_read", f"{_DETAIL}.cache_input"),
                "cache_creation_input_tokens": (f"{_DETAIL}.cache_write",),
                "reasoning_tokens": ("llm.token_count.completion_details.reasoning",),
                "audio_input_tokens": (f"{_DETAIL}.audio",),
                "audio_output_tokens": ("llm.token_count.completion_details.audio",),
            },
            COUNT,
        ),
        Row("$ai_input_cost_usd", ("llm.cost.prompt",), USD, _ALL, calls_only=True),
        Row("$ai_output_cost_usd", ("llm.cost.completion",), USD, _ALL, calls_only=True),
        Row("$ai_total_cost_usd", ("llm.cost.total",), USD, _ALL, calls_only=True),
    ),
)
