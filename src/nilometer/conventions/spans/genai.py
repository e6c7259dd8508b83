"""OpenTelemetry's semantic conventions for generative AI, as they are and as they were."""

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
    FIRST,
    FLAG,
    ID,
    LOWER,
    NAME,
    SCALAR,
    SECONDS,
    STATUS,
    URL,
    USD,
    USER,
)

USAGE = "otel_genai"
_NOW = "1.37 and later"
_ALL = "1.27 and later"
_FORMER = "up to 1.36"
# LiteLLM writes its own names of call types as the operation.
OPERATIONS = {
    **dict.fromkeys(("chat", "generate_content", "text_completion", "responses"), GENERATION),
    **dict.fromkeys(("completion", "acompletion", "aresponses", "atext_completion"), GENERATION),
    **dict.fromkeys(("anthropic_messages", "aanthropic_messages", "image_generation"), GENERATION),
    **dict.fromkeys(("aimage_generation", "speech", "aspeech", "transcription"), GENERATION),
    **dict.fromkeys(("atranscription", "agenerate_content"), GENERATION),
    **dict.fromkeys(("generate_content_stream", "agenerate_content_stream"), GENERATION),
    **dict.fromkeys(("embeddings", "embedding", "aembedding"), EMBEDDING),
}

CONVENTION = Convention(
    name="otel_genai",
    title="OpenTelemetry GenAI",
    source="OpenTelemetry semantic conventions for GenAI, gen-ai-dev/1.42.0-dev and before",
    heads=frozenset({"gen_ai"}),
    kinds=(Kinds("gen_ai.operation.name", OPERATIONS),),
    rows=(
        Row("$ai_model", ("gen_ai.response.model", "gen_ai.request.model"), version=_ALL),
        Row("$ai_provider", ("gen_ai.provider.name",), version=_NOW),
        Row("$ai_provider", ("gen_ai.system",), version=_FORMER),
        Row("$ai_span_type", ("gen_ai.operation.name",), LOWER, _ALL),
        Row("$ai_response_id", ("gen_ai.response.id", "gen_ai.response_id"), ID, _ALL),
        Row("$ai_session_id", ("gen_ai.conversation.id",), ID, _ALL),
        Row(
            "$ai_stop_reason",
            (
                "gen_ai.response.finish_reasons",
                "gen_ai.response.finish_reason",
                "gen_ai.response.stop_reason",
            ),
            FIRST,
            _ALL,
        ),
        Row(
            "$ai_time_to_first_token",
            ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token"),
            SECONDS,
            _NOW,
        ),
        Row("$ai_stream", ("gen_ai.request.stream", "gen_ai.is_streaming"), FLAG, _NOW),
        Row(
            "$ai_service_tier",
            # Not the request's: a tier that was asked for is not yet one that answered.
            ("openai.response.service_tier", "gen_ai.openai.response.service_tier"),
            NAME,
            _ALL,
        ),
        Row("$ai_base_url", ("gen_ai.openai.api_base", "server.address"), URL, _ALL),
        Row(
            "$ai_http_status", ("http.response.status_code", "http.status_code"), STATUS, "HTTP 1.x"
        ),
        Row("$ai_error_type", ("error.type",), version=_ALL),
        Row("$ai_agent_name", ("gen_ai.agent.name",), version=_ALL),
        Row("$ai_agent_id", ("gen_ai.agent.id",), ID, _ALL),
        Row("$ai_trace_name", ("gen_ai.workflow.name",), version=_NOW),
        Row("$ai_prompt_name", ("gen_ai.prompt.name",), version=_NOW),
        Row("$ai_framework", ("gen_ai.framework",), version="LiteLLM"),
        Row("$ai_tools", ("gen_ai.tool.definitions",), CONTENT, _NOW),
        Row("$ai_tools", ("gen_ai.tool.N.*",), version="LiteLLM v2", build=content.tools),
        Row("$ai_instructions", ("gen_ai.system_instructions",), CONTENT, _NOW),
        Row(f"{PARAMETERS}.*", ("gen_ai.request.*",), SCALAR, _ALL),
        Row(
            INPUT,
            ("gen_ai.input.messages", "gen_ai.tool.call.arguments", "gen_ai.retrieval.query.text"),
            CONTENT,
            _NOW,
        ),
        Row(
            OUTPUT,
            (
                "gen_ai.output.messages",
                "gen_ai.tool.call.result",
                "gen_ai.retrieval.documents",
            ),
            CONTENT,
            _NOW,
        ),
        Row(INPUT, ("gen_ai.prompt.N.*",), version=_FORMER, build=content.messages),
        Row(OUTPUT, ("gen_ai.completion.N.*",), version=_FORMER, build=content.messages),
        Row(INPUT, ("gen_ai.prompt",), CONTENT, _FORMER),
        Row(OUTPUT, ("gen_ai.completion",), CONTENT, _FORMER),
        Row(DISTINCT_ID, ("gen_ai.user.id", "gen_ai.user", "enduser.id"), USER, _ALL),
        *tokens(
            USAGE,
            "inclusive of cache; the former and the clients' own names follow",
            {
                "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
                "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
                "total_tokens": ("gen_ai.usage.total_tokens", "llm.usage.total_tokens"),
                "cache_read_input_tokens": (
                    "gen_ai.usage.cache_read.input_tokens",
                    "gen_ai.usage.cache_read_input_tokens",
                    "gen_ai.usage.input_tokens.cached",
                    "gen_ai.usage.details.cache_read_tokens",
                ),
                "cache_creation_input_tokens": (
                    "gen_ai.usage.cache_write.input_tokens",
                    "gen_ai.usage.cache_creation.input_tokens",
                    "gen_ai.usage.cache_creation_input_tokens",
                    "gen_ai.usage.input_tokens.cache_write",
                    "gen_ai.usage.details.cache_write_tokens",
                ),
                "reasoning_tokens": (
                    "gen_ai.usage.reasoning.output_tokens",
                    "gen_ai.usage.reasoning_tokens",
                    "gen_ai.usage.output_tokens.reasoning",
                    "gen_ai.usage.details.reasoning_tokens",
                    "llm.usage.reasoning_tokens",
                ),
                "audio_input_tokens": ("gen_ai.usage.details.input_audio_tokens",),
                "audio_output_tokens": ("gen_ai.usage.details.output_audio_tokens",),
            },
            COUNT,
        ),
        Row("$ai_total_cost_usd", ("gen_ai.usage.cost",), USD, "OpenRouter", calls_only=True),
    ),
)
