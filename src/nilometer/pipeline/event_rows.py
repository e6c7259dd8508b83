"""From one event in its canonical form to the rows of the store.

Whatever door an event came through, it is its name, its `$ai_*` properties and what the record
knows of it (`CanonicalEvent`); everything in a row is computed from that alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from nilometer.conventions import ai_event
from nilometer.conventions.kinds import ColumnValue
from nilometer.domain import clock, retention
from nilometer.domain.ai_record import BlobReference
from nilometer.pipeline.call_cost import OverridesOf, book_prices, usage_and_cost
from nilometer.pipeline.call_scopes import scopes

MAPPING_VERSION = 5

_FIRST_WINS = (1 << 64) - 1
_OPERATIONS = {"$ai_generation": "generation", "$ai_embedding": "embedding"}
_COSTS = tuple(name for name, kind in ai_event.COLUMNS.items() if kind == "decimal")
COST_PROPERTIES = tuple(f"$ai_{name}" for name in _COSTS)
"""Properties that must be read exactly: as Decimal, not as a double."""

# The columns of an event that its call has too, and their names there.
_CALL_COLUMNS = {
    **{
        name: name
        for name in (
            *("trace_id", "span_id", "session_id", "model", "provider", "is_error", "http_status"),
            *("latency", "time_to_first_token", "web_search_count"),
            *(column for column in ai_event.COLUMNS if column.endswith("_tokens")),
        )
    },
    **{name: f"reported_{name}" for name in _COSTS},
}


# What one is made of for each event is not frozen: that would triple the time it takes.
@dataclass(slots=True)
class Rows:
    """What one event becomes: a row of each table as one line of JSON, or no call.

    `accepted_at` is microseconds since the epoch; `call_id` is "" when there is no call.
    """

    project_id: int
    uuid: str
    accepted_at: int
    event: bytes
    call: bytes | None
    call_id: str
    event_id: bytes


@dataclass(slots=True, kw_only=True)
class CanonicalEvent:
    """One event, converted.

    `uuid` is canonical. `accepted_at` is microseconds since the epoch; `timestamp` is aware.
    `properties` are the parsed values that columns are read from (costs exact; without values that
    are blobs), and `properties_text` the JSON object that is kept. `source` is the JSON text that a
    converter made it from, and `converter` its name and version; both "" when the properties are
    what was sent. `source_rank` is less for a source that is nearer to the call. `counts_usage` is
    false for what tells of consumption that is another's, or an answer from a cache: it is no call.
    `usage_convention` names how the raw usage counts, "" to recognise it. `redacted` is how often
    each redaction rule was applied before the event was kept.
    """

    project_id: int
    uuid: str
    door: str
    source_rank: int
    accepted_at: int
    retention_days: int
    ip: str
    name: str
    distinct_id: str
    timestamp: datetime
    properties: Mapping[str, Any]
    properties_text: str
    blobs: tuple[BlobReference, ...] = ()
    source: str = ""
    converter: str = ""
    counts_usage: bool = True
    usage_convention: str = ""
    redacted: Mapping[str, int] = field(default_factory=dict[str, int])


def rows_of(event: CanonicalEvent, overrides_of: OverridesOf = book_prices) -> Rows:
    """The rows of an event, its call priced by the book and the project's overrides."""
    accepted_at = clock.from_micros(event.accepted_at)
    # A null is left out of a row: the same, and shorter.
    known = ai_event.known_columns(event.properties)
    identity = {
        "project_id": event.project_id,
        "uuid": event.uuid,
        "timestamp": event.timestamp,
        "accepted_at": accepted_at,
        "expires_at": retention.expires_at(accepted_at.date(), event.retention_days),
        "first_wins": _FIRST_WINS - event.accepted_at,
    }
    row = {
        **identity,
        "event": event.name,
        "distinct_id": event.distinct_id,
        "ip": event.ip,
        "properties": event.properties_text,
        "blobs": orjson.dumps(event.blobs).decode() if event.blobs else "[]",
        "door": event.door,
        "mapping_version": MAPPING_VERSION,
        **known,
    }
    if event.source:
        row |= {"source": event.source, "converter": event.converter}
    if event.redacted:
        row["redacted"] = orjson.dumps(event.redacted, option=orjson.OPT_SORT_KEYS).decode()
    call, call_id = None, ""
    if event.name in _OPERATIONS and event.counts_usage:
        kind, call_id = ai_event.call_id(event.uuid, known, event.properties)
        cost = usage_and_cost(
            event.name,
            event.properties,
            provider=_text(known.get("provider")),
            model=_text(known.get("model")),
            at=event.timestamp,
            convention=event.usage_convention,
            overrides=overrides_of(event.project_id),
        )
        identified = {"identity": kind, "call_id": call_id}
        call = _line({**_call(event, row, known), **identified, **cost})
    return Rows(
        project_id=event.project_id,
        uuid=event.uuid,
        accepted_at=event.accepted_at,
        event=_line(row),
        call=call,
        call_id=call_id,
        event_id=_line(identity),
    )


def _text(value: ColumnValue) -> str | None:
    return value if isinstance(value, str) else None


def _call(
    event: CanonicalEvent, row: Mapping[str, Any], known: Mapping[str, ColumnValue]
) -> dict[str, Any]:
    return {
        "project_id": event.project_id,
        "event_uuid": event.uuid,
        "source_rank": event.source_rank,
        "revision": 1,
        "accepted_at": row["accepted_at"],
        "timestamp": row["timestamp"],
        "distinct_id": row["distinct_id"],
        "operation": _OPERATIONS[event.name],
        "mapping_version": MAPPING_VERSION,
        "cost_stated": event.properties.get("$ai_cost_stated") is True,
        **scopes(event.name, event.properties, event.distinct_id),
        **{_CALL_COLUMNS[name]: value for name, value in known.items() if name in _CALL_COLUMNS},
    }


def _line(row: Mapping[str, Any]) -> bytes:
    """A row as one line of the store's JSONEachRow."""
    return orjson.dumps(row, option=orjson.OPT_UTC_Z)
