"""LiteLLM's own records: StandardLoggingPayloads, and rows of its spend logs.

A payload is what callbacks get (`nilometer.integrations.litellm` writes it as a line of JSON); a
row is what `/spend/logs` answers and what an export of `LiteLLM_SpendLogs` holds. Both are of one
call, or one attempt at one, and name it by the same ids. What a value means is decided in
`conventions.litellm`; a test holds this reader to it.
"""

from __future__ import annotations

from typing import Any, cast

from nilometer.conventions import litellm, typed_values
from nilometer.conventions.ai_properties import EMBEDDING, SPAN
from nilometer.conventions.litellm_secrets import header_session
from nilometer.conventions.loose_values import parsed
from nilometer.importers.formats import times, vectors
from nilometer.importers.formats.record import (
    Place,
    Record,
    RecordFault,
    content_key,
    first_name,
    is_slug,
    items,
    json_text,
    member,
    usd,
)
from nilometer.importers.trace_call import Reason, TraceCall

_TEXTS = ("metadata", "request_tags", "messages", "response")
_TOLD_SESSIONS = ("session_id", "litellm_session_id")
_TOLD_DEVELOPERS = ("developer_id", "developer", "dev_id", "user")
_TOLD_REPOSITORIES = ("repo", "repository", "repo_slug")
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_UUID_CHARS = 36


def is_record(record: Record) -> bool:
    """Whether it is one of the two."""
    return "call_type" in record and ("startTime" in record or "litellm_call_id" in record)


def read(record: Record, place: Place) -> TraceCall | None:
    """The call of a record; None for a step that asked no model. Raises RecordFault."""
    if "request_id" in record and "id" not in record:
        record = _unpacked(record)
    event = litellm.event_of(record)
    if event == SPAN:
        return None
    metadata = member(record, "metadata")
    told = _told(metadata)
    response = member(record, "response")
    failed = _failed(record, metadata)
    started, latency, first_token = _times(record)
    call_id, response_id = _ids(record, metadata)
    from_cache = record.get("cache_hit") in (True, "True", "true")
    counted, raw = _usage(record, metadata, response)
    error = _error(record, metadata) if failed else {}
    tags = _tags(record)
    breakdown = member(record, "cost_breakdown")
    return TraceCall(
        source="litellm",
        key=_key(record, call_id, response_id, failed, started),
        is_identified=bool(call_id or response_id),
        line=place.line,
        offset=place.offset,
        started_at=started,
        session=_session(record, metadata, told),
        developer=_developer(record, metadata, told) or place.options.developer,
        repository=_repository(tags, told) or place.options.repository,
        branch=_marked(tags, "branch:"),
        trace_id=typed_values.name(record.get("trace_id")),
        call_id=call_id,
        response_id=None if from_cache or response_id == call_id else response_id,
        tags=tags,
        operation="embedding" if event == EMBEDDING else "completion",
        provider=typed_values.name(record.get("custom_llm_provider")),
        model=typed_values.name(record.get("model")),
        resolved_model=typed_values.name(response.get("model")),
        tier=_tier(response, breakdown, raw),
        region=typed_values.name(
            breakdown.get("data_residency") or breakdown.get("vertex_location")
        )
        or "",
        tools=_tools(response),
        latency_ms=latency,
        time_to_first_token_ms=first_token,
        status_code=_status_code(error.get("error_code")) if failed else None,
        failed=failed,
        error_type=typed_values.name(error.get("error_class")) if failed else None,
        tokens=counted.tokens,
        usage_reason=counted.reason,
        usage_convention=counted.convention,
        units=counted.units,
        counts_usage=not from_cache,
        raw_usage=json_text(raw),
        reported_cost=_reported_cost(record),
    )


def _unpacked(row: Record) -> Record:
    """A spend log's row with the names of a payload; its objects come as JSON texts."""
    told = {**row, **{name: parsed(row[name]) for name in _TEXTS if type(row.get(name)) is str}}
    told["id"] = row["request_id"]
    told["response_cost"] = row.get("spend")
    return told


def _told(metadata: Record) -> Record:
    """What the caller's own metadata says, without LiteLLM's."""
    return {**member(metadata, "requester_metadata"), **member(metadata, "spend_logs_metadata")}


def _ids(record: Record, metadata: Record) -> tuple[str | None, str | None]:
    call_id = typed_values.name(record.get("litellm_call_id"))
    return (
        call_id or typed_values.name(metadata.get("litellm_call_id")),
        typed_values.normalise_id(record.get("id")),
    )


def _key(
    record: Record, call_id: str | None, response_id: str | None, failed: bool | None, started: int
) -> str:
    """The call's id; a failure's with its moment, because an attempt that is made again has the
    same id. Rows of the database know the moment in milliseconds."""
    if call_id is None:
        return f"response:{response_id}" if response_id else content_key(record)
    return f"{call_id}/failure/{started // 1000}" if failed else call_id


def _failed(record: Record, metadata: Record) -> bool | None:
    status = record.get("status") or metadata.get("status")
    return status == "failure" if status in ("success", "failure") else None


def _times(record: Record) -> tuple[int, float | None, float | None]:
    start, end = record.get("startTime"), record.get("endTime")
    if start is None and end is None:
        raise RecordFault(Reason.NO_TIME, "the record has neither startTime nor endTime")
    started = times.micros(end if start is None else start)
    ended = _moment(end)
    latency = None if ended is None or ended <= started else (ended - started) / 1000
    first = _moment(record.get("completionStartTime")) if record.get("stream") is True else None
    waited = None if first is None or ended is None else first - started
    is_within = waited is not None and ended is not None and 0 <= waited <= ended - started
    return started, latency, waited / 1000 if waited is not None and is_within else None


def _moment(value: Any) -> int | None:
    try:
        return None if value is None else times.micros(value)
    except RecordFault:
        return None


def _session(record: Record, metadata: Record, told: Record) -> str | None:
    """LiteLLM's field, a session header, Claude Code's user id, the caller's metadata; else the
    trace, which carries the session unless LiteLLM made it up: then it is a random UUID."""
    own = typed_values.name(record.get("session_id"))
    if own is not None:
        return own
    found = header_session(record) if "requester_metadata" in metadata else None
    found = found or litellm.session_of(record, metadata) or first_name(told, _TOLD_SESSIONS)
    if found is not None:
        return found
    trace = typed_values.name(record.get("trace_id"))
    is_random = trace is not None and len(trace) == _UUID_CHARS and trace.count("-") == 4
    return None if is_random else trace


def _developer(record: Record, metadata: Record, told: Record) -> str | None:
    if told and (named := first_name(told, _TOLD_DEVELOPERS)):
        return named
    return litellm.person_of(record, metadata) or typed_values.name(record.get("user"))


def _repository(tags: tuple[str, ...], told: Record) -> str | None:
    """The one that a `repo:` tag or the caller's metadata names; none where several do."""
    named = _marked(tags, "repo:") or (first_name(told, _TOLD_REPOSITORIES) if told else None)
    return named if named is not None and is_slug(named) else None


def _marked(tags: tuple[str, ...], mark: str) -> str | None:
    if not tags:
        return None
    found = {tag[len(mark) :] for tag in tags if tag.startswith(mark)}
    return found.pop() or None if len(found) == 1 else None


def _tags(record: Record) -> tuple[str, ...]:
    """As told, but for those that LiteLLM adds of the caller's program."""
    given = record.get("request_tags")
    if not given:
        return ()
    return tuple(
        tag
        for tag in map(typed_values.name, items(record, "request_tags"))
        if tag and not tag.startswith("User-Agent: ")
    )


def _usage(record: Record, metadata: Record, response: Record) -> tuple[vectors.Counted, Record]:
    details = member(metadata, "usage_object") or member(response, "usage")
    if details:
        found = (
            vectors.of_litellm(details)
            if "prompt_tokens" in details
            else vectors.by_adapter(details)
        )
        if found.reason != "not_reported":
            return found, details
    raw = {name: record[name] for name in _COUNTS if name in record}
    return vectors.of_litellm(raw), raw


def _tier(response: Record, breakdown: Record, raw: Record) -> str:
    told = response.get("service_tier") or raw.get("service_tier") or breakdown.get("service_tier")
    return typed_values.name(told) or ""


def _tools(response: Record) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for choice in items(response, "choices"):
        message = member(cast("Record", choice), "message") if type(choice) is dict else {}
        for call in items(message, "tool_calls"):
            function = member(cast("Record", call), "function") if type(call) is dict else {}
            if name := typed_values.name(function.get("name")):
                names[name] = None
    return tuple(names)


def _error(record: Record, metadata: Record) -> Record:
    return member(record, "error_information") or member(metadata, "error_information")


def _status_code(code: Any) -> int | None:
    if isinstance(code, str) and code.isascii() and code.isdecimal() and len(code) < 9:
        return typed_values.http_status(int(code))
    return typed_values.http_status(code)


def _reported_cost(record: Record) -> str | None:
    cost = record.get("response_cost")
    return None if litellm.is_cost_unknown(record) else usd(cost)
