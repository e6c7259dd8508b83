"""From a log record to the rows that it becomes.

A mapper is a pure function of the envelope: whatever it writes follows from the record alone (no
clock, no configuration, no look-up), so that a redelivered record gives equal rows. One mapper a
door and version of its payload; `MAPPING_VERSION` grows whenever any of them gives other rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

import orjson

from nilometer import failpoints
from nilometer.conventions import ai_event, event_time
from nilometer.conventions.kinds import ColumnValue
from nilometer.domain import ai_record, clock, retention
from nilometer.domain.ai_record import RecordBroken
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import NilometerError
from nilometer.log.envelope import Envelope, EnvelopeTooNew

MAPPING_VERSION = 1

_FIRST_WINS = (1 << 64) - 1
_LATEST = clock.to_micros(event_time.LATEST)
_OPERATIONS = {"$ai_generation": "generation", "$ai_embedding": "embedding"}
# Less is better when several events describe one call. A client that posts the event itself is
# the nearest to the call; proxies and OpenTelemetry come with their doors.
_SOURCE_RANKS = {ai_record.DOOR: 10}
_COSTS = tuple(name for name, kind in ai_event.COLUMNS.items() if kind == "decimal")
_COST_PROPERTIES = tuple(f"$ai_{name}" for name in _COSTS)
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


class UnknownDoor(NilometerError):
    """No mapper is known for the door that wrote the record."""

    code = "unknown_door"


@dataclass(frozen=True, slots=True)
class Rows:
    """What one record becomes: a row of each table as one line of JSON, or no call.

    `accepted_at` is microseconds since the epoch; `call_id` is "" when there is no call.
    """

    project_id: int
    uuid: str
    accepted_at: int
    event: bytes
    call: bytes | None
    call_id: str
    event_id: bytes


Mapper = Callable[[Envelope], Rows]


def map_record(envelope: Envelope) -> Rows:
    """The rows of a record.

    Raises EnvelopeTooNew when the payload is of a later version than this process reads,
    UnknownDoor, and RecordBroken, ValueError or TypeError for a payload that is not what its door
    writes.
    """
    failpoints.hit("map")
    _check(envelope)
    mapper = MAPPERS.get((envelope.door, envelope.door_version))
    if mapper is not None:
        return mapper(envelope)
    known = max((version for door, version in MAPPERS if door == envelope.door), default=None)
    if known is None:
        raise UnknownDoor("no mapper is known for the record's door")
    raise EnvelopeTooNew(
        f"the record is of version {envelope.door_version} of the door {envelope.door}; this "
        f"process reads up to {known}. Upgrade it to go on."
    )


def map_ai(envelope: Envelope) -> Rows:
    """The rows of a record of the `ai` door, version 1."""
    record = ai_record.decode(envelope.payload)
    event, properties = _parsed(record)
    accepted_at = clock.from_micros(envelope.accepted_at)
    name: str = event["event"]
    columns = ai_event.columns(name, properties)
    # A null is left out of a row: the same, and shorter.
    known = {column: value for column, value in columns.items() if value is not None}
    identity = {
        "project_id": envelope.project_id,
        "uuid": envelope.uuid,
        "timestamp": ai_event.timestamp(
            accepted_at,
            event.get("timestamp"),
            event.get("sent_at"),
            properties.get("$ignore_sent_at") is True,
        ),
        "accepted_at": accepted_at,
        "expires_at": retention.expires_at(accepted_at.date(), record.retention_days),
        "first_wins": _FIRST_WINS - envelope.accepted_at,
    }
    row = {
        **identity,
        "event": name,
        "distinct_id": event["distinct_id"],
        "ip": record.ip,
        "properties": record.properties_text(),
        "blobs": orjson.dumps(record.blobs).decode(),
        "door": envelope.door,
        "mapping_version": MAPPING_VERSION,
        **known,
    }
    call, call_id = None, ""
    if name in _OPERATIONS:
        kind, call_id = ai_event.call_id(envelope.uuid, columns, properties)
        call = _line(_call(envelope, row, known) | {"identity": kind, "call_id": call_id})
    return Rows(
        project_id=envelope.project_id,
        uuid=envelope.uuid,
        accepted_at=envelope.accepted_at,
        event=_line(row),
        call=call,
        call_id=call_id,
        event_id=_line(identity),
    )


# Which mapper reads which payload. A new layout of a door's payload is a new entry beside the old.
MAPPERS: Mapping[tuple[str, int], Mapper] = {
    (ai_record.DOOR, ai_record.DOOR_VERSION): map_ai,
}


def _check(envelope: Envelope) -> None:
    """The headers' values are ones that the store can hold and look up."""
    if not 0 < envelope.project_id < 1 << 63 or not 0 <= envelope.accepted_at <= _LATEST:
        raise RecordBroken("the record's headers hold a value out of range")
    if canonical_uuid(envelope.uuid) != envelope.uuid:
        raise RecordBroken("the record's uuid is not in its canonical form")


def _parsed(record: ai_record.AiRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    """The event and its properties, costs exact; without those that are blobs, whose URLs say
    nothing that belongs into a column."""
    event = _object(record.event)
    properties = event["properties"] if record.properties is None else _object(record.properties)
    if any(type(properties.get(name)) is float for name in _COST_PROPERTIES):
        exact = json.loads(record.properties or record.event, parse_float=Decimal)
        if record.properties is None:
            exact = exact["properties"]
        properties |= {name: exact[name] for name in _COST_PROPERTIES if name in exact}
    return event, properties


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        # The doors accept what Python's json does; orjson refuses numbers beyond a double.
        value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError("the record holds another JSON value where an object belongs")
    return cast("dict[str, Any]", value)


def _call(
    envelope: Envelope, row: Mapping[str, Any], known: Mapping[str, ColumnValue]
) -> dict[str, Any]:
    return {
        "project_id": envelope.project_id,
        "event_uuid": envelope.uuid,
        "source_rank": _SOURCE_RANKS[envelope.door],
        "revision": 1,
        "accepted_at": row["accepted_at"],
        "timestamp": row["timestamp"],
        "distinct_id": row["distinct_id"],
        "operation": _OPERATIONS[row["event"]],
        "mapping_version": MAPPING_VERSION,
        **{_CALL_COLUMNS[name]: value for name, value in known.items() if name in _CALL_COLUMNS},
    }


def _line(row: Mapping[str, Any]) -> bytes:
    """A row as one line of the store's JSONEachRow."""
    return orjson.dumps(row, option=orjson.OPT_UTC_Z)
