"""What an AI event says, as typed columns: pure functions on its name and properties.

They run on records of every door, laxer ones too, so they never raise on what a client sent: a
value that is absent, mistyped or out of range is None, and stays readable in the properties.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from nilometer.conventions.ai_properties import PROPERTIES
from nilometer.conventions.error_text import UNKNOWN, normalise_error
from nilometer.conventions.event_time import timestamp
from nilometer.conventions.kinds import ColumnType, ColumnValue
from nilometer.conventions.typed_values import normalise_id

__all__ = [
    "COLUMNS",
    "call_id",
    "columns",
    "known_columns",
    "normalise_error",
    "normalise_id",
    "timestamp",
]

COLUMNS: Mapping[str, ColumnType] = {
    known.column: known.kind.column_type
    for known in PROPERTIES
    if known.column is not None and known.kind.column_type is not None
}
"""Each typed column and its type; `decimal` values are decimal text, `flag` values are bool."""

# Servers that imitate OpenAI make short ids that repeat (Ollama: chatcmpl- and a number below
# 1,000); providers' own have 20 characters and more.
_MIN_RESPONSE_ID_CHARS = 16

_READERS: Mapping[str, tuple[str, Callable[[Any], ColumnValue]]] = {
    known.name: (known.column, known.kind.read) for known in PROPERTIES if known.column is not None
}
_ABSENT: Mapping[str, ColumnValue] = {**dict.fromkeys(COLUMNS), "is_error": False}


def columns(event: str, properties: Mapping[str, Any]) -> dict[str, ColumnValue]:
    """Every column of COLUMNS for an event, None where it says nothing usable.

    `is_error` is never None. `error_normalized` is the client's own, else made from the error of
    an event that failed ("Unknown error" when it does not say which). `event` is the event's
    name; the columns mean the same on all of them, so it changes nothing so far.
    """
    del event
    return {**_ABSENT, **known_columns(properties)}


def known_columns(properties: Mapping[str, Any]) -> dict[str, ColumnValue]:
    """The columns of an event that have a value, as in `columns`."""
    row: dict[str, ColumnValue] = {"is_error": False}
    for name, value in properties.items():
        reader = _READERS.get(name)
        if reader is not None and (read := reader[1](value)) is not None:
            row[reader[0]] = read
    if row["is_error"] and "error_normalized" not in row:
        row["error_normalized"] = normalise_error(str(row.get("error") or "")) or UNKNOWN
    return row


def call_id(
    uuid: str, columns: Mapping[str, ColumnValue], properties: Mapping[str, Any]
) -> tuple[str, str]:
    """The identity of the call that a `$ai_generation` or `$ai_embedding` describes.

    Returns (kind, id); several events of one call give the same pair. In order:

    - `response`: the provider's id of the response, `$ai_response_id`, unless it is so short that
      it cannot be unique;
    - `litellm`: LiteLLM's id of the call, `litellm_call_id`;
    - `span`: the trace id and the span id, each percent-encoded, joined by `/` (a span id alone is
      unique only within its trace);
    - `event`: the event's own uuid.
    """
    response = normalise_id(properties.get("$ai_response_id"))
    if response is not None and len(response) >= _MIN_RESPONSE_ID_CHARS:
        return "response", response
    litellm = normalise_id(properties.get("litellm_call_id"))
    if litellm is not None:
        return "litellm", litellm
    trace, span = columns.get("trace_id"), columns.get("span_id")
    if trace and span:
        return "span", f"{_quoted(str(trace))}/{_quoted(str(span))}"
    return "event", uuid


def _quoted(text: str) -> str:
    # Most ids are hexadecimal digits and need nothing.
    return text if text.isalnum() and text.isascii() else quote(text, safe="")
