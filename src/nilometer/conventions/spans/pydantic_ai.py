"""Pydantic AI and Logfire: GenAI attributes, and the messages in JSON of their own."""

from __future__ import annotations

from nilometer.conventions.spans import content
from nilometer.conventions.spans.row import INPUT, OUTPUT, Convention, Row
from nilometer.conventions.spans.shapes import CONTENT, FUNCTION_TOOLS, USD

_FORMER = "Pydantic AI up to 0.8, instrumentation version 1"
_NOW = "Pydantic AI 1 and 2"

CONVENTION = Convention(
    name="pydantic_ai",
    title="Pydantic AI and Logfire",
    source="Pydantic AI 2.68 and before; Logfire's GenAI integrations",
    heads=frozenset({"pydantic_ai", "model_request_parameters"}),
    scopes=frozenset({"pydantic-ai"}),
    adds={"$ai_framework": "pydantic-ai"},
    rows=(
        Row(INPUT, ("events",), content.EVENTS_INPUT, _FORMER),
        Row(OUTPUT, ("events",), content.EVENTS_OUTPUT, _FORMER),
        Row(INPUT, ("pydantic_ai.all_messages", "all_messages_events"), CONTENT, _NOW),
        Row(OUTPUT, ("final_result",), CONTENT, _NOW),
        Row(INPUT, ("tool_arguments",), CONTENT, _FORMER),
        Row(OUTPUT, ("tool_response",), CONTENT, _FORMER),
        Row("$ai_agent_name", ("agent_name",), version=_FORMER),
        Row("$ai_model", ("model_name",), version=_FORMER),
        Row("$ai_tools", ("model_request_parameters",), FUNCTION_TOOLS, _NOW),
        Row("$ai_total_cost_usd", ("operation.cost",), USD, _NOW, calls_only=True),
    ),
)
