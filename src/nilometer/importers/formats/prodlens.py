"""ProdLens' JSONL: a line a call, with `timestamp`, `usage` and whatever attributes there were.

The names and the order in which they are looked for are those of its normalizer; what it got wrong
is not: a session is not the text `id`, `prompt_tokens` are input, the record's own `model` counts,
and acceptance that nobody recorded is unknown, not refused.
"""

from __future__ import annotations

import re
from typing import Any, cast

from nilometer.conventions import typed_values
from nilometer.conventions.loose_values import claude_code_ids, parsed
from nilometer.conventions.typed_values import MAX_INT64
from nilometer.importers.chunk import Options
from nilometer.importers.formats import times, vectors
from nilometer.importers.formats.record import (
    Place,
    Record,
    RecordFault,
    content_key,
    first_name,
    is_slug,
    json_text,
    member,
    milliseconds,
    usd,
)
from nilometer.importers.trace_call import Reason, TraceCall

_MODEL = ("llm.model_name", "model", "llm.model", "model_name")
_PROVIDER = ("llm.provider", "provider", "custom_llm_provider")
_LATENCY = ("latency_ms", "request.latency_ms", "response.latency_ms", "duration_ms")
_STATUS = ("status_code", "http.status_code", "response.status_code")
_ACCEPTED = ("prod_lens.accepted", "accepted", "accepted_flag")
_REPOSITORY = ("repo", "repository", "repo_slug")
_DEVELOPER = ("developer_id", "dev_id", "user")
_SESSION = ("session_id", "user_id", "developer_session", "user_api_key_end_user_id")
_DIFF_RATIO = ("diff_ratio", "prod_lens.diff_ratio", "analysis.diff_ratio")
_ACCEPTED_LINES = ("accepted_lines", "prod_lens.accepted_lines", "analysis.accepted_lines")
_CALL_ID = ("litellm_call_id", "call_id")
_IN_TEXT = re.compile(r"session[_-]([A-Za-z0-9][A-Za-z0-9._-]*)")
_PLAIN = frozenset({"input_tokens", "output_tokens", "total_tokens"})
_TRUE = (True, 1, "true", "True", "1")
_FALSE = (False, 0, "false", "False", "0")


def is_record(record: Record) -> bool:
    """Whether it is meant as one: what is missing is said when it is read."""
    return "usage" in record or ("timestamp" in record and "attributes" in record)


def read(record: Record, place: Place) -> TraceCall:
    """The call of a record. Raises RecordFault."""
    usage = record.get("usage")
    if type(usage) is not dict:
        raise RecordFault(Reason.NO_USAGE, "the record has no object `usage`")
    usage = cast("Record", usage)
    started, is_assumed = _time(record, place)
    attributes = member(record, "attributes")
    metadata = _metadata(record, attributes)
    counted = _counted(usage)
    status = _first(typed_values.http_status, _STATUS, attributes, record)
    call_id = first_name(record, _CALL_ID)
    return TraceCall(
        source="prodlens",
        key=call_id or content_key(record),
        is_identified=call_id is not None,
        line=place.line,
        offset=place.offset,
        started_at=started,
        is_time_assumed=is_assumed,
        session=_session(metadata),
        developer=_developer(metadata) or place.options.developer,
        repository=_repository(metadata, attributes, place.options),
        branch=typed_values.name(metadata.get("branch")),
        trace_id=first_name(record, ("trace_id",)),
        call_id=call_id,
        provider=first_name(attributes, _PROVIDER),
        model=first_name(attributes, _MODEL) or typed_values.name(record.get("model")),
        latency_ms=_first(milliseconds, _LATENCY, attributes, record),
        status_code=status,
        failed=None if status is None else status >= 400,
        accepted=_first(_flag, _ACCEPTED, attributes),
        accepted_lines=_first(typed_values.count, _ACCEPTED_LINES, attributes),
        diff_ratio=_first(_ratio, _DIFF_RATIO, attributes),
        tokens=counted.tokens,
        usage_reason=counted.reason,
        usage_convention=counted.convention,
        units=counted.units,
        raw_usage=json_text(usage),
        reported_cost=usd(record.get("response_cost")),
    )


def _time(record: Record, place: Place) -> tuple[int, bool]:
    if "timestamp" not in record and "start_time" not in record:
        raise RecordFault(Reason.NO_TIME, "the record has neither `timestamp` nor `start_time`")
    told = record.get("timestamp")
    if told is None:
        told = record.get("start_time")
    return (place.options.now, True) if told is None else (times.micros(told), False)


def _metadata(record: Record, attributes: Record) -> Record:
    """The first of three places that has one; JSON in a text is read, other text is `raw`."""
    for holder, name in (
        (record, "metadata"),
        (record, "attributes.metadata"),
        (attributes, "metadata"),
    ):
        value = holder.get(name)
        if type(value) is str and value:
            value = parsed(value)
            if type(value) is str:
                return {"raw": value}
        if type(value) is dict and value:
            return cast("Record", value)
    return {}


def _session(metadata: Record) -> str | None:
    """Claude Code's id where one is packed in; what follows `session_` in the first that has it;
    else the first that is there."""
    told = [metadata[name] for name in _SESSION if name in metadata]
    if "requester_metadata" in metadata:
        told.append(member(metadata, "requester_metadata").get("user_id"))
    if "raw" in metadata:
        told.append(metadata["raw"])
    known = [value for value in map(typed_values.normalise_id, told) if value]
    for value in known:
        if value.startswith("{"):
            if session := claude_code_ids(value)[1]:
                return session
        elif found := _IN_TEXT.search(value):
            return found[1]
    return next((value for value in known if not value.startswith("{")), None)


def _developer(metadata: Record) -> str | None:
    if named := first_name(metadata, _DEVELOPER):
        return named
    user = typed_values.normalise_id(metadata.get("user_id"))
    if user and "session" not in user:
        return user
    requester = member(metadata, "requester_metadata")
    told = first_name(requester, ("developer_id", "user")) if requester else None
    return told or claude_code_ids(user)[0]


def _repository(metadata: Record, attributes: Record, options: Options) -> str | None:
    named = first_name(metadata, _REPOSITORY) or first_name(attributes, _REPOSITORY)
    if named is None:
        return options.repository
    if not is_slug(named):
        if options.is_replay and options.repository is not None:
            return options.repository
        raise RecordFault(Reason.BAD_REPOSITORY, "the repository's name is no owner/name")
    return named


def _counted(usage: Record) -> vectors.Counted:
    """Input and output as told; one side from the total, and a total alone is all input. Usage
    with any other count in it is read by the way of counting that its names give away."""
    entered, left = usage.get("input_tokens"), usage.get("output_tokens")
    if type(entered) is int and type(left) is int and usage.keys() <= _PLAIN:
        return _pair(entered, left)
    if usage.keys() <= _PLAIN:
        return _derived(usage)
    found = vectors.of_litellm(usage) if "prompt_tokens" in usage else vectors.by_adapter(usage)
    return _derived(usage) if found.reason == "not_reported" else found


def _derived(usage: Record) -> vectors.Counted:
    counts: dict[str, int | None] = {}
    for name in _PLAIN:
        value = usage.get(name)
        counts[name] = typed_values.count(value)
        if value is not None and counts[name] is None:
            return vectors.Counted(None, f"invalid_count:{name}", "prodlens")
    entered, left, total = (counts[f"{side}_tokens"] for side in ("input", "output", "total"))
    if total is not None:
        entered = total - (left or 0) if entered is None else entered
        left = total - entered if left is None else left
    if entered is None and left is None:
        return vectors.Counted(None, "not_reported", "prodlens")
    return _pair(entered or 0, left or 0)


def _pair(entered: int, left: int) -> vectors.Counted:
    if entered < 0 or left < 0:
        return vectors.Counted(None, "negative_count", "prodlens")
    if entered + left > MAX_INT64:
        return vectors.Counted(None, "too_large", "prodlens")
    return vectors.Counted(vectors.plain_pair(entered, left), "", "prodlens")


def _first(reader: Any, names: tuple[str, ...], *holders: Record) -> Any:
    """The first of these members that the reader can read, holder by holder."""
    for holder in holders:
        for name in names:
            if name in holder and (found := reader(holder[name])) is not None:
                return found
    return None


def _flag(value: Any) -> bool | None:
    if isinstance(value, (bool, int, str)):
        return True if value in _TRUE else False if value in _FALSE else None
    return None


def _ratio(value: Any) -> float | None:
    """A share of 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        return None
    return float(value)
