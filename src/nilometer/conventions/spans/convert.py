"""From a span to an event in canonical form: a pure function that never raises on any value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nilometer.conventions import event_time, typed_values
from nilometer.conventions.ai_properties import CALLS, EMBEDDING, GENERATION, SPAN, TRACE
from nilometer.conventions.converted import Converted, event_uuid, nobody
from nilometer.conventions.litellm_secrets import scrubbed_text
from nilometer.conventions.spans import coding_agents, raw_usage, reading, span_events
from nilometer.conventions.spans.litellm_spans import PHOENIX_MARK
from nilometer.conventions.spans.plan import Plan, plan_of
from nilometer.conventions.spans.row import DISTINCT_ID, INPUT, OUTPUT, Convention
from nilometer.conventions.spans.shapes import Moment
from nilometer.conventions.spans.table import DETECTION
from nilometer.domain import clock
from nilometer.domain.span import Span, SpanLink, plain

MAPPING_VERSION = 2
"""Grows whenever any span would become another event."""

_LATEST = clock.to_micros(event_time.LATEST)
_MACHINE = ("host.", "process.", "os.", "telemetry.")
# LiteLLM's Phoenix callback tells each call twice; the inner span is the call.
_REPEATS = frozenset({"litellm_proxy_request"})
# The first in the order of detection.
_SCOPES = {scope: known for known in reversed(DETECTION) for scope in known.scopes}
_STATE = {INPUT: "$ai_input_state", OUTPUT: "$ai_output_state"}
_MODELS = ("gen_ai.request.model", "gen_ai.response.model")


def convert(span: Span) -> Converted:
    """The event that a span is.

    A call is a span that an attribute names one (`KINDS`), or that names no operation but a model
    and its usage. Every other span is a `$ai_span`, or the `$ai_trace` when it has no parent. The
    span's uuid comes from its ids, so that a span sent again is the same event; one without valid
    ids has it from all that it says.
    """
    told = span_events.told(span.events)
    attributes = coding_agents.attributes_of(span)
    attributes = {**told.details, **attributes} if told.details else attributes
    plan = plan_of(attributes)
    usage = reading.usage_of(plan.counts, attributes)
    event = _event(span, plan, attributes, usage)
    is_call = event in CALLS
    convention = _by_scope(span.scope_name) or plan.spoken
    properties = {name: plain(attributes[name]) for name in plan.explicit}
    taken = reading.read(plan.sources, attributes, properties, is_call=is_call, usage=usage)
    spoken, counted = convention.name if convention else "", ""
    if is_call and usage:
        raw = raw_usage.collect(usage, attributes, embedding=event == EMBEDDING)
        counted = raw.convention(span.scope_name, spoken)
        raw.describe(properties, counted)
        taken |= raw.taken
    distinct_id = properties.pop(DISTINCT_ID, None)
    _add_ids(properties, span)
    _add_content(properties, told, is_call=is_call)
    _add_outcome(properties, span, told, attributes)
    _add_times(properties, span)
    from_cache = _settle_identity(properties)
    if is_call and PHOENIX_MARK in attributes:
        _identify_refused(properties, span, attributes)
    return Converted(
        event=event,
        uuid=_uuid(span),
        distinct_id=distinct_id or _person(span, properties),
        timestamp=_timestamp(span),
        properties={
            **_resource(span.resource),
            **_rest(plan, attributes, taken),
            **_otel(span, told),
            **((convention.adds if convention else None) or {}),
            **properties,
        },
        is_ai=convention is not None,
        convention=spoken,
        counts_usage=is_call and not from_cache,
        usage_convention=counted,
    )


def kept(span: Span) -> Span:
    """The span as it may be kept, without LiteLLM's records of keys, headers and addresses; it
    converts to the same event."""
    attributes = span.attributes
    secrets = plan_of(attributes).secrets
    metadata = attributes.get("metadata") if PHOENIX_MARK in attributes else None
    if not secrets and not isinstance(metadata, str):
        return span
    told = {name: value for name, value in attributes.items() if name not in secrets}
    if isinstance(metadata, str):
        told["metadata"] = scrubbed_text(metadata)
    return replace(span, attributes=told)


def _event(span: Span, plan: Plan, attributes: Mapping[str, Any], usage: str) -> str:
    step = SPAN if span.parent_id and span.parent_id != span.span_id else TRACE
    if span.name in _REPEATS or attributes.get("logfire.span_type") == "pending_span":
        return step
    for kinds in plan.kinds:
        value = attributes[kinds.attribute]
        if isinstance(value, str) and value:
            operation = value.rpartition(".")[2] if kinds.last_segment else value
            return kinds.calls.get(operation.lower(), step)
    is_call = usage and any(name in attributes for name in _MODELS)
    return GENERATION if is_call else step


def _by_scope(scope: str) -> Convention | None:
    return _SCOPES.get(scope) if scope else None


def _settle_identity(properties: dict[str, Any]) -> bool:
    """Keep the response's id only where it is the provider's own; whether a cache answered.

    An answer from LiteLLM's cache repeats the id of the call that filled it, and embeddings have
    LiteLLM's own id there.
    """
    cached = properties.get("$ai_cache_hit") is True
    if cached or properties.get("$ai_response_id") == properties.get("litellm_call_id"):
        properties.pop("$ai_response_id", None)
    return cached


def _identify_refused(
    properties: dict[str, Any], span: Span, attributes: Mapping[str, Any]
) -> None:
    """LiteLLM's Phoenix callback tells a call that its proxy refuses twice, as two spans of two
    traces without the call's id; LiteLLM's own trace id and the start are the same on both."""
    if not (properties.get("$ai_response_id") or properties.get("litellm_call_id")):
        trace = typed_values.normalise_id(attributes[PHOENIX_MARK])
        if trace and span.start:
            properties["litellm_call_id"] = f"{trace}/{span.start}"


def _rest(plan: Plan, attributes: Mapping[str, Any], taken: set[str]) -> dict[str, Any]:
    """What no row of the table took; LiteLLM's metadata without its secrets."""
    rest = reading.rest(plan.others, attributes, taken)
    if PHOENIX_MARK in attributes and isinstance(rest.get("metadata"), str):
        rest["metadata"] = scrubbed_text(rest["metadata"])
    return rest


def _add_ids(properties: dict[str, Any], span: Span) -> None:
    parent = None if span.parent_id == span.span_id else span.parent_id
    ids = {"$ai_trace_id": span.trace_id, "$ai_span_id": span.span_id, "$ai_parent_id": parent}
    properties |= {name: value for name, value in ids.items() if value}


def _add_content(properties: dict[str, Any], told: span_events.Told, *, is_call: bool) -> None:
    """Messages of span events, the system's instructions before the others, a step's as states."""
    if told.input:
        properties.setdefault(INPUT, told.input)
    if told.output:
        properties.setdefault(OUTPUT, told.output)
    instructions, messages = properties.get("$ai_instructions"), properties.get(INPUT)
    if instructions and isinstance(messages, list):
        piece = "parts" if isinstance(instructions, list) else "content"
        properties[INPUT] = [{"role": "system", piece: instructions}, *messages]
        del properties["$ai_instructions"]
    if not is_call:
        for name, state in _STATE.items():
            if name in properties:
                properties.setdefault(state, properties.pop(name))


def _add_outcome(
    properties: dict[str, Any], span: Span, told: span_events.Told, attributes: Mapping[str, Any]
) -> None:
    """Whether the span failed, and what it says of that.

    It failed when its status says so; when it has no status but an `error.type`; or when Langfuse's
    level is ERROR. An exception that a span recorded and went on from is no failure.
    """
    message = properties.pop("$ai_error", None)
    failed = (
        span.status == "error"
        or (span.status == "unset" and "error.type" in attributes)
        or attributes.get("langfuse.observation.level") == "ERROR"
    )
    if not failed:
        if message is not None:
            properties["langfuse.observation.status_message"] = message
        return
    properties.setdefault("$ai_is_error", True)
    for error in (span.status_message, message, told.exception_message, attributes.get("error")):
        if error and isinstance(error, str):
            properties.setdefault("$ai_error", plain(error))
    kind = typed_values.name(told.exception_type)
    if kind:
        properties.setdefault("$ai_error_type", kind)


def _add_times(properties: dict[str, Any], span: Span) -> None:
    latency = typed_values.seconds((span.end - span.start) / 1_000_000_000)
    if latency and span.start:
        properties.setdefault("$ai_latency", latency)
    first = properties.get("$ai_time_to_first_token")
    if isinstance(first, Moment):
        waited = typed_values.seconds((first - span.start) / 1_000_000_000)
        del properties["$ai_time_to_first_token"]
        if waited is not None and span.start:
            properties["$ai_time_to_first_token"] = waited


def _otel(span: Span, told: span_events.Told) -> dict[str, Any]:
    """What only OpenTelemetry has, by the contract's names."""
    name = plain(span.name)
    members: dict[str, Any] = {
        "$ai_ingestion_source": "otel",
        "$lib": "posthog-otel",
        "$lib_version": plain(span.scope_version),
        "$geoip_disable": True,
        "$ai_span_name": name,
        "$otel_span_name": name,
        "$otel_span_kind": span.kind,
        "$otel_scope_name": plain(span.scope_name),
        "$otel_start_time_unix_nano": str(span.start) if span.start else "",
        "$otel_end_time_unix_nano": str(span.end) if span.end else "",
        "$otel_events": told.others,
        "$otel_links": [_link(link) for link in span.links] if span.links else None,
        "$ai_lib": typed_values.name(span.resource.get("telemetry.sdk.name")),
        "$ai_lib_version": typed_values.name(span.resource.get("telemetry.sdk.version")),
    }
    return {member: value for member, value in members.items() if value}


def _link(link: SpanLink) -> dict[str, Any]:
    return {
        "trace_id": link.trace_id,
        "span_id": link.span_id,
        "attributes": plain(link.attributes),
    }


def _resource(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(v) for name, v in resource.items() if not name.startswith(_MACHINE)}


def _person(span: Span, properties: Mapping[str, Any]) -> str:
    for name in ("posthog.distinct_id", "user.id"):
        person = typed_values.name(span.resource.get(name))
        if person:
            return person
    session = typed_values.normalise_id(properties.get("$ai_session_id"))
    if session:
        return nobody(f"session:{session}")
    return nobody(f"trace:{span.trace_id or _uuid(span)}")


def _uuid(span: Span) -> str:
    if span.trace_id and span.span_id:
        return event_uuid(f"span:{span.trace_id}{span.span_id}")
    return event_uuid(f"span without ids:{span.to_json()}")


def _timestamp(span: Span) -> int | None:
    """The start, else the end, else none; what the store cannot place is moved to the end."""
    nanos = span.start or span.end
    return min(nanos // 1000, _LATEST) if nanos > 0 else None
