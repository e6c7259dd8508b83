"""LiteLLM's StandardLoggingPayload, what its `generic_api` callback posts, as an event.

One payload is one call, or one attempt at one. Contract and traps: LiteLLM 1.109 `types/utils.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from nilometer.conventions import event_time, typed_values
from nilometer.conventions.ai_properties import EMBEDDING, GENERATION, SPAN
from nilometer.conventions.converted import Converted, event_uuid, nobody
from nilometer.conventions.litellm_secrets import scrubbed
from nilometer.conventions.loose_values import claude_code_ids, within, without_query
from nilometer.domain import clock
from nilometer.domain.span import plain

MAPPING_VERSION = 1
"""Grows whenever any payload would become another event."""

_EMBEDDINGS = frozenset({"embedding", "aembedding"})
# Calls of LiteLLM that ask no model; a type that is not listed and consumed something is a call.
_STEPS = frozenset({"call_mcp_tool", "list_mcp_tools"})
_INFERENCE = frozenset(
    {
        *("completion", "acompletion", "text_completion", "atext_completion", "responses"),
        *("aresponses", "anthropic_messages", "aanthropic_messages", "generate_content"),
        *("agenerate_content", "generate_content_stream", "agenerate_content_stream"),
        *("image_generation", "aimage_generation", "image_edit", "aimage_edit", "speech"),
        *("aspeech", "transcription", "atranscription", "rerank", "arerank", "moderation"),
        *("amoderation", "_arealtime", "pass_through_endpoint"),
    }
)
POSTHOG_MARKS = ("user_api_key_request_route", "litellm_received_at")
"""Properties that only its PostHog callback writes."""
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LATEST = clock.to_micros(event_time.LATEST) / 1_000_000
_COSTS = {"$ai_input_cost_usd": "input_cost", "$ai_output_cost_usd": "output_cost"}
_COUNTS = {
    "$ai_input_tokens": ("prompt_tokens",),
    "$ai_output_tokens": ("completion_tokens",),
    "$ai_total_tokens": ("total_tokens",),
    "$ai_cache_read_input_tokens": (
        "cache_read_input_tokens",
        "prompt_tokens_details.cached_tokens",
    ),
    "$ai_cache_creation_input_tokens": (
        "cache_creation_input_tokens",
        "prompt_tokens_details.cache_creation_tokens",
    ),
    "$ai_reasoning_tokens": ("completion_tokens_details.reasoning_tokens",),
}
_NAMES = {
    "$ai_provider": "custom_llm_provider",
    "$ai_span_type": "call_type",
    "$ai_trace_id": "trace_id",
    "litellm_call_id": "litellm_call_id",
    "litellm_model_group": "model_group",
    "litellm_model_id": "model_id",
}
_PEOPLE = {
    "litellm_team_id": "user_api_key_team_id",
    "litellm_team_alias": "user_api_key_team_alias",
    "litellm_key_alias": "user_api_key_alias",
    "litellm_user_id": "user_api_key_user_id",
    "litellm_user_email": "user_api_key_user_email",
    "litellm_org_id": "user_api_key_org_id",
    "litellm_project_id": "user_api_key_project_id",
}


def convert(payload: Mapping[str, Any]) -> Converted:
    """The event of one payload; never raises on any value.

    Its uuid comes from the call's id, its outcome and its start: the same when the payload is sent
    again or by two callbacks, another for each attempt at one request. Secrets are left out even
    when the payload still has them.
    """
    told = scrubbed(payload)
    metadata, response = _object(told, "metadata"), _object(told, "response")
    event = event_of(told)
    is_call = event != SPAN
    from_cache = told.get("cache_hit") in (True, "True", "true")
    session, person = session_of(told, metadata), person_of(told, metadata)
    properties: dict[str, Any] = {
        **_known({name: typed_values.name(told.get(key)) for name, key in _NAMES.items()}),
        **_known({name: typed_values.name(metadata.get(key)) for name, key in _PEOPLE.items()}),
        **_known({"$ai_session_id": session, "$ai_cache_hit": from_cache or None}),
        **_call(told, metadata, response),
        **(_usage(told, metadata) if is_call else {}),
        **_outcome(told),
        **_times(told),
        **_known({"litellm_metadata": _told_metadata(metadata)}),
        "$ai_ingestion_source": "litellm",
        "$ai_lib": "litellm",
    }
    if from_cache or properties.get("$ai_response_id") == properties.get("litellm_call_id"):
        properties.pop("$ai_response_id", None)
    return Converted(
        event=event,
        uuid=_uuid(told),
        distinct_id=person or _nobody(told, session),
        timestamp=_timestamp(told),
        properties=properties,
        is_ai=True,
        convention="litellm",
        counts_usage=is_call and not from_cache,
        usage_convention=_usage_convention(properties) if is_call else "",
    )


def is_identified(payload: Mapping[str, Any]) -> bool:
    """Whether a payload says which call it is of: what has no id cannot be told from another."""
    return any(typed_values.name(payload.get(name)) for name in ("litellm_call_id", "id"))


def posthog_ids(properties: Mapping[str, Any]) -> dict[str, str]:
    """The ids that LiteLLM's PostHog callback has in the span id's place: of the response, or of
    the call where the provider gave none. Empty for events that are not LiteLLM's."""
    if not any(mark in properties for mark in POSTHOG_MARKS):
        return {}
    told = typed_values.name(properties.get("$ai_span_id"))
    if told is None:
        return {}
    return {"litellm_call_id" if _UUID.fullmatch(told) else "$ai_response_id": told}


def event_of(told: Mapping[str, Any]) -> str:
    """The event that a payload is of: a generation, an embedding, or a step that asks no model."""
    call_type = typed_values.name(told.get("call_type"))
    if call_type in _EMBEDDINGS:
        return EMBEDDING
    if not call_type or call_type in _INFERENCE:
        return GENERATION
    is_step = call_type in _STEPS or not any(
        typed_values.usd(told.get(name)) not in (None, "0")
        for name in ("total_tokens", "response_cost")
    )
    return SPAN if is_step else GENERATION


def _call(
    told: Mapping[str, Any], metadata: Mapping[str, Any], response: Mapping[str, Any]
) -> dict[str, Any]:
    choices = response.get("choices") or response.get("output") or told.get("response")
    parameters = _object(told, "model_parameters")
    tags = [tag for tag in _list(told.get("request_tags")) if not _is_agent_tag(tag)]
    usage = {**_object(told, "cost_breakdown"), **_object(metadata, "usage_object")}
    return _known(
        {
            "$ai_model": typed_values.name(response.get("model")) or _model(told),
            "litellm_request_model": _model(told),
            "$ai_response_id": typed_values.normalise_id(told.get("id")),
            "$ai_span_id": typed_values.name(told.get("litellm_call_id")),
            "$ai_input": plain(told.get("messages")),
            "$ai_output_choices": plain(choices),
            "$ai_model_parameters": plain(parameters),
            "$ai_tools": plain(parameters.get("tools")),
            "$ai_base_url": without_query(told.get("api_base")),
            "$ai_stream": told.get("stream") if isinstance(told.get("stream"), bool) else None,
            "$ai_service_tier": typed_values.name(
                response.get("service_tier") or usage.get("service_tier")
            ),
            "$ai_stop_reason": _stop_reason(response),
            "litellm_tags": plain(tags),
        }
    )


def _usage(told: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The detailed counts, and of the costs the three that mean what they say.

    The breakdown's `input_cost` contains `cache_read_cost` and `cache_creation_cost`, against what
    LiteLLM says of them: the three add up, the five do not.
    """
    details = _object(metadata, "usage_object") or _object(_object(told, "response"), "usage")
    raw = details or {
        name: told[name]
        for name in ("prompt_tokens", "completion_tokens", "total_tokens")
        if name in told
    }
    counts = {name: _first_count(raw, paths) for name, paths in _COUNTS.items()}
    breakdown = _object(told, "cost_breakdown")
    costs = {name: typed_values.usd(breakdown.get(key)) for name, key in _COSTS.items()}
    if not is_cost_unknown(told):
        costs["$ai_total_cost_usd"] = typed_values.usd(told.get("response_cost"))
    return _known(
        {
            **counts,
            **costs,
            "$ai_usage": plain(raw) or None,
            "$ai_cache_reporting_exclusive": False,
        }
    )


def _usage_convention(properties: Mapping[str, Any]) -> str:
    """The adapter of the raw usage; "" when it is a provider's own object, to be recognised."""
    return "litellm" if "prompt_tokens" in properties.get("$ai_usage", {}) else ""


def _told_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that says something and has no property of its own."""
    own = {"usage_object", *_PEOPLE.values()}
    return plain(_known({k: v for k, v in metadata.items() if k not in own and v != ""}))


def is_cost_unknown(told: Mapping[str, Any]) -> bool:
    """LiteLLM reports 0 for a model that it has no price of."""
    return bool(told.get("response_cost_failure_debug_info") or told.get("zero_cost_diagnostic"))


def _outcome(told: Mapping[str, Any]) -> dict[str, Any]:
    if told.get("status") != "failure":
        return {}
    error = _object(told, "error_information")
    code = error.get("error_code")
    digits = int(code) if isinstance(code, str) and code.isascii() and code.isdecimal() else code
    return {
        "$ai_is_error": True,
        **_known(
            {
                "$ai_error": typed_values.text(error.get("error_message"))
                or typed_values.text(told.get("error_str")),
                "$ai_error_type": typed_values.name(error.get("error_class")),
                "$ai_http_status": typed_values.http_status(digits),
            }
        ),
    }


def _times(told: Mapping[str, Any]) -> dict[str, Any]:
    """Latency is end minus start: of a stream `response_time` is the time to its first token."""
    start, end = _seconds(told, "startTime"), _seconds(told, "endTime")
    if start is None or end is None or end <= start:
        return {}
    times = {"$ai_latency": round(end - start, 6)}
    first = _seconds(told, "completionStartTime")
    if told.get("stream") is True and first is not None and start <= first <= end:
        times["$ai_time_to_first_token"] = round(first - start, 6)
    return times


def session_of(told: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """The caller's session: LiteLLM's own field (or the header in its place), Claude Code's id.

    Claude Code sends its ids as JSON text in the end user's place, which LiteLLM does not read.
    Without any, LiteLLM may carry the session as the trace, which then groups the calls.
    """
    own = typed_values.name(told.get("session_id"))
    if own is not None:
        return own
    requester = _object(metadata, "requester_metadata")
    for holder, name in (
        (told, "end_user"),
        (metadata, "user_api_key_end_user_id"),
        (requester, "user_id"),
    ):
        session = claude_code_ids(holder.get(name))[1]
        if session is not None:
            return session
    return None


def person_of(told: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """Whom a payload is for: its end user (Claude Code's account), else the user of its key."""
    for holder, name in (
        (told, "end_user"),
        (metadata, "user_api_key_end_user_id"),
        (metadata, "user_api_key_user_id"),
    ):
        value = holder.get(name)
        person = claude_code_ids(value)[0] or typed_values.name(value)
        if person is not None:
            return person
    return None


def _nobody(told: Mapping[str, Any], session: str | None) -> str:
    if session is not None:
        return nobody(f"session:{session}")
    return nobody(f"trace:{typed_values.name(told.get('trace_id')) or _uuid(told)}")


def _uuid(told: Mapping[str, Any]) -> str:
    call = typed_values.name(told.get("litellm_call_id")) or typed_values.name(told.get("id"))
    marks = [call or "", str(told.get("status")), repr(_seconds(told, "startTime"))]
    return event_uuid("litellm:" + "\x00".join(mark[:1024] for mark in marks))


def _timestamp(told: Mapping[str, Any]) -> int | None:
    start = _seconds(told, "startTime") or _seconds(told, "endTime")
    return round(start * 1_000_000) if start else None


def _seconds(told: Mapping[str, Any], name: str) -> float | None:
    value = told.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= _LATEST else None


def _model(told: Mapping[str, Any]) -> str | None:
    return typed_values.name(told.get("model"))


def _stop_reason(response: Mapping[str, Any]) -> str | None:
    choices = _list(response.get("choices"))
    reason = within(choices[0], ("finish_reason",)) if choices else None
    return typed_values.name(reason or response.get("stop_reason"))


def _first_count(raw: Mapping[str, Any], paths: tuple[str, ...]) -> int | None:
    for path in paths:
        holder, _, name = path.rpartition(".")
        count = typed_values.count((_object(raw, holder) if holder else raw).get(name))
        if count is not None:
            return count
    return None


def _is_agent_tag(tag: Any) -> bool:
    """LiteLLM adds the caller's program to the tags by itself."""
    return not isinstance(tag, str) or tag.startswith("User-Agent: ")


def _object(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = holder.get(name)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _known(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: v for name, v in members.items() if v is not None and v != [] and v != {}}
