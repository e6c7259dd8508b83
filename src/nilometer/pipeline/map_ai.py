"""The event of a record of the `ai` door, version 1."""

from __future__ import annotations

from typing import Any

from nilometer.conventions import event_time
from nilometer.domain import ai_record, clock, json_text
from nilometer.domain.ai_record import AiRecord
from nilometer.log.envelope import Envelope
from nilometer.pipeline.event_rows import CanonicalEvent
from nilometer.pipeline.exact_json import has_inexact_costs, json_object, with_exact_costs

# Less is better when several events describe one call. A client that posts the event itself is
# the nearest to the call.
SOURCE_RANK = 10


def canonical(envelope: Envelope) -> CanonicalEvent:
    """The record's event. Raises RecordBroken, ValueError or TypeError."""
    record = ai_record.decode(envelope.payload)
    event, properties = _parsed(record)
    return CanonicalEvent(
        project_id=envelope.project_id,
        uuid=envelope.uuid,
        door=envelope.door,
        source_rank=SOURCE_RANK,
        accepted_at=envelope.accepted_at,
        retention_days=record.retention_days,
        ip=record.ip,
        name=event["event"],
        distinct_id=event["distinct_id"],
        timestamp=event_time.timestamp(
            clock.from_micros(envelope.accepted_at),
            event.get("timestamp"),
            event.get("sent_at"),
            properties.get("$ignore_sent_at") is True,
        ),
        properties=properties,
        properties_text=record.properties_text(),
        blobs=record.blobs,
        redacted=record.redacted,
    )


def _parsed(record: AiRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    """The event and its properties, without those that are blobs, whose URLs say nothing that
    belongs into a column."""
    event = json_object(record.event)
    if record.properties is not None:
        return event, with_exact_costs(json_object(record.properties), record.properties)
    properties = event["properties"]
    if has_inexact_costs(properties):
        text = json_text.members(record.event.decode())["properties"]
        properties = with_exact_costs(properties, text)
    return event, properties
