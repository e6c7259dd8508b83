"""Claude Code's transcripts: `~/.claude/projects/<directory>/<session>.jsonl`, a line an event.

An answer is written while it streams: one line for each block of it, all with the message's id and
with usage that grows. They are one call, and the line with the most tokens tells it whole. A
session that is resumed or forked copies the lines before it into its own file: the same ids again.
"""

from __future__ import annotations

import re
from typing import Any, cast

from nilometer.conventions import typed_values
from nilometer.importers.formats import times, vectors
from nilometer.importers.formats.record import (
    Place,
    Record,
    RecordFault,
    content_key,
    is_slug,
    items,
    json_text,
    member,
    usd,
)
from nilometer.importers.trace_call import Reason, TraceCall

_MARKS = ("sessionId", "uuid", "leafUuid", "messageId", "snapshot", "summary")
_SYNTHETIC = "<synthetic>"
"""The model of messages that the program itself puts in an answer's place."""
_API_ERROR = re.compile(r"API Error:? \(?(\d{3})\b")
_WORKTREES = "/.claude/worktrees/"


def is_record(record: Record) -> bool:
    """Whether it is a line of a transcript, of any kind."""
    return type(record.get("type")) is str and any(mark in record for mark in _MARKS)


def read(record: Record, place: Place) -> TraceCall | None:
    """The call of an assistant's line; None for every other line. Raises RecordFault."""
    if record["type"] != "assistant":
        return None
    message = member(record, "message")
    is_error = record.get("isApiErrorMessage") is True
    model = typed_values.name(message.get("model"))
    if model == _SYNTHETIC and not is_error:
        return None
    usage = member(message, "usage")
    counted = vectors.NOT_REPORTED if is_error or not usage else vectors.of_anthropic(usage)
    started = record.get("timestamp")
    if started is None:
        raise RecordFault(Reason.NO_TIME, "the line has no `timestamp`")
    response_id = typed_values.name(message.get("id"))
    request_id = typed_values.name(record.get("requestId"))
    key = _key(record, response_id, request_id, is_error=is_error)
    directory = typed_values.name(record.get("cwd"))
    return TraceCall(
        source="claude_code",
        key=key or content_key(record),
        is_identified=key is not None,
        line=place.line,
        offset=place.offset,
        started_at=times.micros(started),
        session=_session(record),
        developer=place.options.developer,
        repository=place.options.repository or _repository(directory),
        branch=typed_values.name(record.get("gitBranch")),
        directory=directory,
        agent=typed_values.name(record.get("agentId")),
        is_sidechain=record.get("isSidechain") is True,
        call_id=request_id,
        response_id=None if is_error else response_id,
        provider="anthropic",
        model=None if model == _SYNTHETIC else model,
        tier=typed_values.name(usage.get("service_tier")) or "",
        region=_region(usage),
        tools=_tools(message),
        status_code=_status(record, message) if is_error else None,
        failed=is_error,
        error_type=typed_values.name(record.get("error")) if is_error else None,
        tokens=counted.tokens,
        usage_reason=counted.reason,
        usage_convention=counted.convention,
        units=counted.units,
        counts_usage=not is_error,
        raw_usage=json_text(usage),
        reported_cost=usd(record.get("costUSD")),
    )


def _key(
    record: Record, response_id: str | None, request_id: str | None, *, is_error: bool
) -> str | None:
    if response_id is None or is_error:
        return typed_values.name(record.get("uuid"))
    return f"{response_id}/{request_id}" if request_id else response_id


def _session(record: Record) -> str | None:
    """Where the line was first written: a forked session copies it and says from which."""
    first = member(record, "forkedFrom").get("sessionId") or record.get("sessionId")
    return typed_values.name(first)


def _repository(directory: str | None) -> str | None:
    """The directory's own name, of a worktree that of the repository it belongs to: transcripts
    name no owner."""
    if directory is None:
        return None
    path = directory.replace("\\", "/").partition(_WORKTREES)[0].rstrip("/")
    name = path.rpartition("/")[2]
    return name if is_slug(name) else None


def _region(usage: Record) -> str:
    """Where inference was kept; "global" and "not_available" are anywhere."""
    told = typed_values.name(usage.get("inference_geo"))
    return "" if told in (None, "global", "not_available") else told or ""


def _tools(message: Record) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for block in items(message, "content"):
        if type(block) is dict:
            told = cast("Record", block)
            if told.get("type") in ("tool_use", "server_tool_use") and (
                name := typed_values.name(told.get("name"))
            ):
                names[name] = None
    return tuple(names)


def _status(record: Record, message: Record) -> int | None:
    """The status of an API error, which older versions say in the message's text only."""
    told = typed_values.http_status(record.get("apiErrorStatus"))
    if told is not None:
        return told
    texts: list[Any] = [
        cast("Record", block).get("text")
        for block in items(message, "content")
        if type(block) is dict
    ]
    found = next((_API_ERROR.search(text[:200]) for text in texts if type(text) is str), None)
    return int(found[1]) if found else None
