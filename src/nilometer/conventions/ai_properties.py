"""The dictionary of `$ai_*` properties: one table, from which columns, JSON Schemas and the
documentation are derived.

Names and meanings are PostHog's (its `ai_events` table, SDKs and ingestion), because existing
clients send them. A column is the property's name without `$ai_`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nilometer.conventions.kinds import (
    COUNT,
    FLAG,
    HTTP_STATUS,
    ID,
    JSON,
    MESSAGE,
    NAME,
    NUMBER,
    OBJECT,
    SCALAR,
    SECONDS,
    TEXT,
    USD,
    Kind,
)

GENERATION = "$ai_generation"
TRACE = "$ai_trace"
SPAN = "$ai_span"
EMBEDDING = "$ai_embedding"
METRIC = "$ai_metric"
FEEDBACK = "$ai_feedback"

EVENT_TYPES = (GENERATION, TRACE, SPAN, EMBEDDING, METRIC, FEEDBACK)
CALLS = (GENERATION, EMBEDDING)
STEPS = (GENERATION, TRACE, SPAN, EMBEDDING)

_AI_EVENTS = "PostHog ai_events column"
_CLIENT = "PostHog SDKs"
_BROWSER = "posthog-js"
_PRICE = "PostHog custom price"
_SERVER = "written by PostHog's ingestion"
_ANY_EVENT = "PostHog SDKs, on any event"
_LITELLM = "LiteLLM's logging payload"
_SDK = "Nilometer's client library"


@dataclass(frozen=True, slots=True)
class Property:
    """One property, or a family of them when its name ends in `*`.

    `events` are the types that usually carry it; any type may. `heavy` values (prompts, answers)
    can be megabytes and have no column: readers take them from the properties. `required` means
    that the ai door refuses an event without it. `description` is one line and names the unit.
    """

    name: str
    kind: Kind
    events: tuple[str, ...]
    description: str
    source: str
    column: str | None = None
    heavy: bool = False
    required: bool = False

    @property
    def is_family(self) -> bool:
        """Whether the name stands for every name that starts with it."""
        return self.name.endswith("*")


def _properties(
    kind: Kind,
    events: tuple[str, ...],
    source: str,
    descriptions: Mapping[str, str],
    *,
    heavy: bool = False,
    required: bool = False,
) -> tuple[Property, ...]:
    """Properties without a column."""
    return tuple(
        Property(name, kind, events, text, source, heavy=heavy, required=required)
        for name, text in descriptions.items()
    )


def _columns(
    kind: Kind,
    events: tuple[str, ...],
    source: str,
    descriptions: Mapping[str, str],
    *,
    required: bool = False,
) -> tuple[Property, ...]:
    """Properties with a column of the same name."""
    return tuple(
        Property(name, kind, events, text, source, name.removeprefix("$ai_"), required=required)
        for name, text in descriptions.items()
    )


_IDS = _columns(
    ID,
    EVENT_TYPES,
    _AI_EVENTS,
    {
        "$ai_trace_id": "The trace: one run of a feature, from request to answer.",
        "$ai_session_id": "The session: traces that belong together, such as a conversation.",
        "$ai_parent_id": "The span (or trace) that this step was part of.",
        "$ai_span_id": "This step within its trace.",
        "$ai_generation_id": "The generation that a metric or feedback speaks of.",
        "$ai_experiment_id": "The experiment that the step took part in.",
    },
)
_NAMES = (
    *_columns(
        NAME,
        EVENT_TYPES,
        "PostHog ai_events column; required by its capture endpoint",
        {"$ai_model": "The model, as the provider names it."},
        required=True,
    ),
    *_columns(
        NAME,
        STEPS,
        _AI_EVENTS,
        {
            "$ai_provider": "The provider: openai, anthropic, bedrock …",
            "$ai_framework": "The framework that made the call: langchain, vercel …",
            "$ai_span_type": "What kind of step a span is: chain, tool, retriever …",
            "$ai_span_name": "The step's name.",
            "$ai_trace_name": "The trace's name.",
            "$ai_prompt_name": "The managed prompt that was used.",
        },
    ),
)
_TOKENS = _columns(
    COUNT,
    CALLS,
    _AI_EVENTS,
    {
        "$ai_total_tokens": "All tokens of the call, as the client counts them.",
        "$ai_input_tokens": "Input tokens; whether cached ones are in it is the provider's habit.",
        "$ai_output_tokens": "Output tokens.",
        "$ai_text_input_tokens": "Input tokens that were text.",
        "$ai_text_output_tokens": "Output tokens that were text.",
        "$ai_image_input_tokens": "Input tokens that were images.",
        "$ai_image_output_tokens": "Output tokens that were images.",
        "$ai_audio_input_tokens": "Input tokens that were audio.",
        "$ai_audio_output_tokens": "Output tokens that were audio.",
        "$ai_video_input_tokens": "Input tokens that were video.",
        "$ai_video_output_tokens": "Output tokens that were video.",
        "$ai_reasoning_tokens": "Output tokens spent on reasoning.",
        "$ai_cache_read_input_tokens": "Input tokens read from the provider's cache.",
        "$ai_cache_creation_input_tokens": "Input tokens written to the provider's cache.",
        "$ai_web_search_count": "Web searches that the provider ran.",
    },
)
_COSTS = _columns(
    USD,
    CALLS,
    _AI_EVENTS,
    {
        "$ai_input_cost_usd": "Reported cost of the input, USD.",
        "$ai_output_cost_usd": "Reported cost of the output, USD.",
        "$ai_total_cost_usd": "Reported cost of the call, USD.",
        "$ai_request_cost_usd": "Reported cost per request, USD.",
        "$ai_web_search_cost_usd": "Reported cost of web searches, USD.",
        "$ai_audio_cost_usd": "Reported cost of audio, USD.",
        "$ai_image_cost_usd": "Reported cost of images, USD.",
        "$ai_video_cost_usd": "Reported cost of video, USD.",
    },
)
_TIMES = (
    *_columns(SECONDS, STEPS, _AI_EVENTS, {"$ai_latency": "How long the step took, seconds."}),
    *_columns(
        SECONDS,
        (GENERATION,),
        _AI_EVENTS,
        {"$ai_time_to_first_token": "From the request to the first token, seconds."},
    ),
)
_OUTCOME = (
    *_columns(FLAG, STEPS, _AI_EVENTS, {"$ai_is_error": "Whether the step failed."}),
    *_columns(
        MESSAGE, STEPS, _AI_EVENTS, {"$ai_error": "The error: its text, or the provider's object."}
    ),
    *_columns(NAME, STEPS, _AI_EVENTS, {"$ai_error_type": "The error's class or code."}),
    *_columns(
        TEXT,
        STEPS,
        _AI_EVENTS,
        {"$ai_error_normalized": "The error without what varies; filled in when absent."},
    ),
    *_columns(
        HTTP_STATUS,
        CALLS,
        _CLIENT,
        {"$ai_http_status": "The provider's HTTP status; 0 when there was none."},
    ),
    *_columns(
        NAME, (GENERATION,), _CLIENT, {"$ai_stop_reason": "Why the model stopped: stop, length …"}
    ),
    *_columns(NAME, CALLS, _CLIENT, {"$ai_base_url": "Where the provider was called, a URL."}),
)
_PAYLOADS = (
    *_properties(
        JSON,
        CALLS,
        _AI_EVENTS,
        {
            "$ai_input": "What was sent: messages, or the texts to embed.",
            "$ai_output": "What came back, where it is not choices.",
            "$ai_output_choices": "What came back: the choices, as messages.",
            "$ai_tools": "The tools that the model could call.",
        },
        heavy=True,
    ),
    *_properties(
        JSON,
        (TRACE, SPAN),
        _AI_EVENTS,
        {
            "$ai_input_state": "What the step was given.",
            "$ai_output_state": "What the step returned.",
        },
        heavy=True,
    ),
    *_properties(
        JSON,
        (GENERATION,),
        _CLIENT,
        {"$ai_instructions": "The system instructions, where they are apart from the input."},
        heavy=True,
    ),
)
_CALL_DETAILS = (
    *_properties(
        OBJECT,
        CALLS,
        _CLIENT,
        {"$ai_model_parameters": "The request's parameters: temperature, max_tokens …"},
    ),
    *_properties(
        NAME,
        CALLS,
        _CLIENT,
        {
            "$ai_service_tier": "The service tier that answered; prices differ.",
            "$ai_tokens_source": "Who counted the tokens: sdk, or passthrough.",
        },
    ),
    *_properties(JSON, CALLS, _CLIENT, {"$ai_usage": "The provider's usage block, untouched."}),
    *_properties(
        ID,
        CALLS,
        _CLIENT,
        {"$ai_response_id": "The provider's id of the response: the call's identity."},
    ),
    *_properties(
        ID, CALLS, _LITELLM, {"litellm_call_id": "LiteLLM's id of the call: its identity there."}
    ),
    *_properties(
        FLAG,
        CALLS,
        _CLIENT,
        {"$ai_cache_reporting_exclusive": "Whether input tokens leave cached ones out."},
    ),
)
_SCOPES = (
    *_properties(
        ID,
        CALLS,
        _SDK,
        {
            "$ai_user_id": "The user that the call was for; null: none. Else the distinct id is.",
            "$ai_job_id": "The job that the call was part of.",
            "$ai_batch_id": "The batch that the call was part of.",
            "$ai_environment": "The deployment: production, staging …",
            "$ai_developer": "Who ran it.",
            "$ai_repository": "The code that made the call.",
        },
    ),
    *_properties(
        NAME, CALLS, _SDK, {"$ai_operation": "What was asked for: completion, embedding …"}
    ),
    *_properties(
        COUNT, CALLS, _SDK, {"$ai_api_calls": "How many requests the event stands for, if not 1."}
    ),
    *_properties(
        FLAG,
        CALLS,
        _SDK,
        {"$ai_cost_stated": "`$ai_total_cost_usd` is stated by the caller: a 0 is a cost."},
    ),
    *_properties(JSON, CALLS, _SDK, {"$ai_tags": "Tags: a list of texts, or an object of them."}),
)
_CONTEXT = (
    *_properties(
        NAME,
        EVENT_TYPES,
        _CLIENT,
        {
            "$ai_lib": "The client library's AI part, such as posthog-ai.",
            "$ai_lib_version": "Its version.",
        },
    ),
    *_properties(ID, STEPS, _CLIENT, {"$ai_group_id": "A group of traces, as an agent SDK sets."}),
    *_properties(
        JSON,
        (TRACE, SPAN),
        _CLIENT,
        {
            "$ai_trace_metadata": "The client's own notes on the trace.",
            "$ai_span_data": "The agent framework's own notes on the span.",
            "$ai_custom_data": "The agent framework's custom span.",
            "$ai_mcp_*": "What an MCP span tells: server, tools.",
            "$ai_handoff_*": "What a handoff span tells: from which agent to which.",
            "$ai_agent_*": "What an agent span tells: name, tools, handoffs.",
        },
    ),
    *_properties(
        FLAG, (SPAN,), _CLIENT, {"$ai_guardrail_triggered": "Whether a guardrail stopped it."}
    ),
)
_SCORES = (
    *_properties(NAME, (METRIC,), _BROWSER, {"$ai_metric_name": "What was measured."}),
    *_properties(SCALAR, (METRIC,), _BROWSER, {"$ai_metric_value": "The measure."}),
    *_properties(TEXT, (FEEDBACK,), _BROWSER, {"$ai_feedback_text": "What the person wrote."}),
)
_PRICES = _properties(
    USD,
    CALLS,
    _PRICE,
    {
        "$ai_input_token_price": "The client's price of one input token, USD.",
        "$ai_output_token_price": "The client's price of one output token, USD.",
        "$ai_cache_read_token_price": "The client's price of one token read from cache, USD.",
        "$ai_cache_write_token_price": "The client's price of one token written to cache, USD.",
        "$ai_request_price": "The client's price of one request, USD.",
        "$ai_web_search_price": "The client's price of one web search, USD.",
    },
)
_WRITTEN = (
    *_properties(
        NAME,
        CALLS,
        _SERVER,
        {
            "$ai_model_cost_used": "The model whose price was used.",
            "$ai_cost_model_source": "Where it came from: openrouter, manual, custom, passthrough.",
            "$ai_cost_model_provider": "The provider whose price was used.",
            "$ai_ingestion_source": "The protocol it came by, such as otel.",
        },
    ),
    *_properties(NUMBER, CALLS, _SERVER, {"$ai_temperature": "The request's temperature."}),
    *_properties(FLAG, CALLS, _SERVER, {"$ai_stream": "Whether the answer was streamed."}),
    *_properties(COUNT, CALLS, _SERVER, {"$ai_max_tokens": "The request's limit of tokens."}),
)
# Kept as sent and never refused: the contract gives most of them no type.
_STANDARD = _properties(
    JSON,
    EVENT_TYPES,
    _ANY_EVENT,
    {
        "$lib": "The client library.",
        "$lib_version": "Its version.",
        "$geoip_disable": "Do not derive a place from the address.",
        "$ignore_sent_at": "Exactly true: do not correct the client's clock.",
        "$is_server": "Sent by a server, not by a person's device.",
        "$process_person_profile": "Whether to keep a profile of the person.",
        "$groups": "The groups (such as a company) that the person belongs to.",
        "$context_tags": "The names of the tags set in the SDK's context.",
        "$session_id": "The session of the product, not of the traces.",
        "$window_id": "The browser window.",
        "$set": "Properties of the person.",
        "$set_once": "Properties of the person, unless they are set.",
        "$os": "Operating system.",
        "$os_version": "Its version.",
        "$os_distro": "Its distribution.",
        "$python_runtime": "The Python implementation.",
        "$python_version": "Its version.",
        "capture_internal": "Present: the client's address is not kept.",
    },
)

PROPERTIES: tuple[Property, ...] = (
    *_IDS,
    *_NAMES,
    *_TOKENS,
    *_COSTS,
    *_TIMES,
    *_OUTCOME,
    *_PAYLOADS,
    *_CALL_DETAILS,
    *_SCOPES,
    *_CONTEXT,
    *_SCORES,
    *_PRICES,
    *_WRITTEN,
    *_STANDARD,
)
"""Every known property, in the order of the documentation."""

STANDARD: frozenset[str] = frozenset(known.name for known in _STANDARD)
"""Those that clients put on any event, of AI or not."""

BY_NAME: Mapping[str, Property] = {known.name: known for known in PROPERTIES}
