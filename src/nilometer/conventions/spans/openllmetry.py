"""OpenLLMetry (Traceloop): GenAI attributes, and its workflows, entities and associations."""

from __future__ import annotations

from nilometer.conventions.ai_properties import EMBEDDING
from nilometer.conventions.spans import content
from nilometer.conventions.spans.genai import OPERATIONS
from nilometer.conventions.spans.row import (
    DISTINCT_ID,
    INPUT,
    OUTPUT,
    PARAMETERS,
    Convention,
    Kinds,
    Row,
)
from nilometer.conventions.spans.shapes import CONTENT, FIRST, FLAG, LOWER, SCALAR, SESSION, USER

_ALL = "0.20 and later"
_FORMER = "up to 0.40"

CONVENTION = Convention(
    name="openllmetry",
    title="OpenLLMetry",
    source="opentelemetry-semantic-conventions-ai 0.5.1 and before",
    heads=frozenset({"traceloop", "llm"}),
    kinds=(
        Kinds("llm.request.type", {**OPERATIONS, "embeddings": EMBEDDING}),
        Kinds("traceloop.span.kind", {}),
    ),
    rows=(
        Row("$ai_span_type", ("llm.request.type", "traceloop.span.kind"), LOWER, _ALL),
        Row("$ai_trace_name", ("traceloop.workflow.name",), version=_ALL),
        Row("$ai_prompt_name", ("traceloop.prompt.key",), version=_ALL),
        Row(
            "$ai_session_id",
            (
                "traceloop.association.properties.session_id",
                "traceloop.association.properties.thread_id",
            ),
            SESSION,
            _ALL,
        ),
        Row(DISTINCT_ID, ("traceloop.association.properties.user_id", "llm.user"), USER, _ALL),
        Row("$ai_stream", ("llm.is_streaming",), FLAG, _FORMER),
        Row(
            "$ai_stop_reason",
            ("llm.response.finish_reason", "llm.response.stop_reason"),
            FIRST,
            _FORMER,
        ),
        Row("$ai_tools", ("llm.request.functions.N.*",), version=_FORMER, build=content.tools),
        Row(
            f"{PARAMETERS}.*",
            (
                "llm.frequency_penalty",
                "llm.presence_penalty",
                "llm.top_k",
                "llm.chat.stop_sequences",
                "llm.request.repetition_penalty",
                "llm.request.reasoning_effort",
            ),
            SCALAR,
            _FORMER,
        ),
        Row(INPUT, ("traceloop.entity.input",), CONTENT, _ALL),
        Row(OUTPUT, ("traceloop.entity.output",), CONTENT, _ALL),
    ),
)
