"""From what a converter of `conventions` makes of a source to an event in canonical form."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from nilometer.conventions import event_time
from nilometer.conventions.converted import Converted
from nilometer.log.envelope import Envelope
from nilometer.pipeline.event_rows import CanonicalEvent


def canonical_event(
    envelope: Envelope,
    converted: Converted,
    *,
    ip: str,
    retention_days: int,
    source_rank: int,
    source: str,
    converter: str,
    redacted: Mapping[str, int],
) -> CanonicalEvent:
    """The event. `source` is the JSON text that `converter` (name and version) made it from."""
    return CanonicalEvent(
        project_id=envelope.project_id,
        uuid=converted.uuid,
        door=envelope.door,
        source_rank=source_rank,
        accepted_at=envelope.accepted_at,
        retention_days=retention_days,
        ip=ip,
        name=converted.event,
        distinct_id=converted.distinct_id,
        timestamp=event_time.from_micros(
            envelope.accepted_at if converted.timestamp is None else converted.timestamp
        ),
        properties=converted.properties,
        properties_text=orjson.dumps(converted.properties).decode(),
        source=source,
        converter=converter,
        counts_usage=converted.counts_usage,
        usage_convention=converted.usage_convention,
        redacted=redacted,
    )
