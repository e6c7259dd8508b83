"""OTLP dumps: export requests of traces, in JSON or protobuf, each of many spans.

Which span is a call, and what it says, is decided in `conventions.spans`, as at the doors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from nilometer.conventions import spans, typed_values, usage
from nilometer.conventions.ai_properties import CALLS, EMBEDDING
from nilometer.conventions.converted import Converted, nobody
from nilometer.domain.protobuf_wire import MalformedMessage
from nilometer.domain.span import Span
from nilometer.importers.formats import otlp_json
from nilometer.importers.formats.record import (
    Place,
    Record,
    RecordFault,
    first_name,
    is_slug,
    json_text,
    usd,
)
from nilometer.importers.trace_call import Reason, TraceCall

Told = Callable[[], Span]
"""A span that is not read yet; reading it may raise RecordFault."""

_MOST_SPANS = 1_000_000
_REPOSITORY = ("$ai_repository", "vcs.repository.name")
_BRANCH = ("vcs.ref.head.name", "git.branch")
_TIER = ("$ai_service_tier",)


def is_record(record: Record) -> bool:
    """Whether it is an export request of traces."""
    return "resourceSpans" in record or "resource_spans" in record


def spans_of_json(record: Record) -> Iterator[Told]:
    """The spans of a request in JSON."""
    for resource, scope, told in otlp_json.spans(record):
        yield lambda resource=resource, scope=scope, told=told: otlp_json.span(
            resource, scope, told
        )


def spans_of_protobuf(data: bytes) -> Iterator[Told]:
    """The spans of a request in protobuf. Raises RecordFault for what is none."""
    # With protobuf, which reading JSON needs nothing of.
    from nilometer.domain.otlp_request import TooManySpans, single_spans, split
    from nilometer.domain.otlp_span import SpanDecoder, span_message

    try:
        groups = split(data, _MOST_SPANS)
    except (MalformedMessage, TooManySpans):
        raise RecordFault(
            Reason.BAD_MESSAGE, "the bytes are no export request of OTLP traces"
        ) from None
    decoder = SpanDecoder()

    def told(resource: bytes, scope: bytes, message: bytes) -> Span:
        try:
            return decoder.span(resource, scope, span_message(message))
        except MalformedMessage:
            raise RecordFault(Reason.BAD_MESSAGE, "a span is no such message") from None

    for group, scope, message in single_spans(groups):
        yield lambda group=group, scope=scope, message=message: told(
            group.head, scope.head, message
        )


def read(span: Span, place: Place) -> TraceCall | None:
    """The call that a span is; None for every other span. Raises RecordFault."""
    converted = spans.convert(span)
    if converted.event not in CALLS:
        return None
    if converted.timestamp is None:
        raise RecordFault(Reason.NO_TIME, "the span has neither a start nor an end")
    properties = converted.properties
    sent, answered = _models(span, properties)
    provider = typed_values.name(properties.get("$ai_provider"))
    found = usage.read(
        properties,
        provider=provider,
        model=answered or sent,
        event=converted.event,
        convention=converted.usage_convention or None,
    )
    failed = properties.get("$ai_is_error") is True
    named = first_name(properties, _REPOSITORY)
    return TraceCall(
        source="otlp",
        key=_key(span, converted, failed=failed),
        is_identified=bool(span.trace_id and span.span_id),
        line=place.line,
        offset=place.offset,
        started_at=converted.timestamp,
        session=typed_values.normalise_id(properties.get("$ai_session_id")),
        developer=_developer(converted) or place.options.developer,
        repository=named if named and is_slug(named) else place.options.repository,
        branch=first_name(properties, _BRANCH),
        trace_id=span.trace_id,
        call_id=typed_values.name(properties.get("litellm_call_id")),
        response_id=typed_values.name(properties.get("$ai_response_id")),
        operation="embedding" if converted.event == EMBEDDING else "completion",
        provider=provider,
        model=sent,
        resolved_model=answered,
        tier=first_name(properties, _TIER) or "",
        tools=_tools(properties.get("$ai_output_choices")),
        latency_ms=_milliseconds(properties.get("$ai_latency")),
        time_to_first_token_ms=_milliseconds(properties.get("$ai_time_to_first_token")),
        status_code=typed_values.http_status(properties.get("$ai_http_status")),
        failed=failed,
        error_type=typed_values.name(properties.get("$ai_error_type")),
        tokens=None if found.vector is None else found.vector.counts,
        usage_reason=found.reason,
        usage_convention=found.convention,
        units=tuple((unit, format(amount, "f")) for unit, amount in sorted(found.units.items())),
        counts_usage=converted.counts_usage,
        raw_usage=json_text(dict(found.raw)),
        reported_cost=usd(properties.get("$ai_total_cost_usd")),
    )


def _key(span: Span, converted: Converted, *, failed: bool) -> str:
    """The provider's id of the answer, LiteLLM's of the call, the span: several spans may tell of
    one call. A failure is of its span, because an attempt that is made again has the same ids."""
    for name in () if failed else ("$ai_response_id", "litellm_call_id"):
        if known := typed_values.name(converted.properties.get(name)):
            return f"{name.removeprefix('$ai_')}:{known}"
    if span.trace_id and span.span_id:
        return f"span:{span.trace_id}/{span.span_id}"
    return f"event:{converted.uuid}"


def _models(span: Span, properties: Record) -> tuple[str | None, str | None]:
    model = typed_values.name(properties.get("$ai_model"))
    answered = typed_values.name(span.attributes.get("gen_ai.response.model"))
    sent = typed_values.name(span.attributes.get("gen_ai.request.model"))
    return sent or model, answered or (model if sent and model != sent else None)


def _developer(converted: Converted) -> str | None:
    """Who is told; not the stand-in that an event without a person has."""
    properties = converted.properties
    if named := first_name(properties, ("$ai_developer", "developer.id", "user.email")):
        return named
    session = typed_values.normalise_id(properties.get("$ai_session_id"))
    trace = properties.get("$ai_trace_id") or converted.uuid
    strangers = {nobody(f"session:{session}"), nobody(f"trace:{trace}")}
    return None if converted.distinct_id in strangers else converted.distinct_id


def _milliseconds(value: Any) -> float | None:
    seconds = typed_values.seconds(value)
    return None if seconds is None else round(seconds * 1000, 3)


def _tools(choices: Any) -> tuple[str, ...]:
    """Names in `tool_calls`, and of parts that call a tool, wherever in the answer they are."""
    names: dict[str, None] = {}
    level: list[Any] = [choices]
    for _ in range(_ANSWER_DEPTH):
        inner: list[Any] = []
        for value in level:
            if type(value) is list:
                inner += cast("list[Any]", value)
            elif type(value) is dict:
                told = cast("Record", value)
                if name := _called(told):
                    names[name] = None
                inner += [told[member] for member in _ANSWER_MEMBERS if member in told]
        level = inner
    return tuple(names)


_ANSWER_DEPTH = 6
_ANSWER_MEMBERS = ("message", "tool_calls", "parts", "content")
_CALLING = frozenset({"tool_call", "tool_use", "function", "server_tool_use"})


def _called(part: Record) -> str | None:
    if part.get("type") not in _CALLING:
        return None
    function = part.get("function")
    holder = cast("Record", function) if type(function) is dict else part
    return typed_values.name(holder.get("name"))
