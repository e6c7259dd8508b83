"""The events of a record of PostHog's JSON doors, version 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from nilometer.conventions import event_time, litellm
from nilometer.domain import clock, json_text, posthog_event, posthog_record
from nilometer.domain.identity import canonical_uuid
from nilometer.domain.posthog_record import PostHogEvent, PostHogRecord
from nilometer.log.envelope import Envelope
from nilometer.pipeline.event_rows import CanonicalEvent
from nilometer.pipeline.exact_json import json_object, with_exact_costs

# A client that sends the event itself is the nearest to the call, as on the ai door.
SOURCE_RANK = 10
NO_ADDRESS = "127.0.0.1"
"""What is kept instead of the address of an event that PostHog's own tools sent."""

# The newest protocol moved some properties out of `properties`: here they are back.
_V1_OPTIONS = {
    "cookieless_mode": "$cookieless_mode",
    "disable_skew_correction": "$ignore_sent_at",
    "process_person_profile": "$process_person_profile",
    "product_tour_id": "$product_tour_id",
}
_V1_FIELDS = {"session_id": "$session_id", "window_id": "$window_id"}
_PERSON_FIELDS = ("$set", "$set_once")


def canonical(envelope: Envelope, record: PostHogRecord, event: PostHogEvent) -> CanonicalEvent:
    """One event of a record. Raises ValueError or TypeError for what its door cannot
    have written."""
    if canonical_uuid(event.uuid) != event.uuid:
        raise ValueError("the event's uuid is not in its canonical form")
    fields = json_object(event.text)
    sent = posthog_event.properties_of(fields)
    text = json_text.members(event.text.decode()).get("properties") if sent else None
    added = {name: value for name, value in _moved(record, fields).items() if name not in sent}
    properties = with_exact_costs(sent, text or "{}") | added
    return CanonicalEvent(
        project_id=envelope.project_id,
        uuid=event.uuid,
        door=envelope.door,
        source_rank=SOURCE_RANK,
        accepted_at=envelope.accepted_at,
        retention_days=record.retention_days,
        ip=NO_ADDRESS if event.internal else record.ip,
        name=posthog_event.name_of(fields, engage=record.engage),
        distinct_id=posthog_event.distinct_id_of(fields, sent),
        timestamp=_timestamp(envelope, record, fields, properties),
        properties=properties,
        properties_text=json_text.with_members(
            text or "{}", {name: _text(event, name, value) for name, value in added.items()}
        ),
        redacted=event.redacted,
    )


def excerpt(envelope: Envelope, index: int) -> Envelope:
    """The envelope of one event of the record: its uuid is the event's."""
    record = posthog_record.decode(envelope.payload).only(index)
    return replace(envelope, uuid=record.events[0].uuid, payload=record.encode())


def _moved(record: PostHogRecord, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Properties that the protocol has elsewhere, by their names among the properties."""
    if record.protocol != "v1":
        found = {name: fields[name] for name in _PERSON_FIELDS if fields.get(name) is not None}
        return found | litellm.posthog_ids(posthog_event.properties_of(fields))
    found = _named(posthog_event.options_of(fields), _V1_OPTIONS) | _named(fields, _V1_FIELDS)
    library, _, version = (record.sdk or "").partition("/")
    found |= {
        name: value for name, value in (("$lib", library), ("$lib_version", version)) if value
    }
    return found


def _named(holder: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {
        property_name: holder[field]
        for field, property_name in names.items()
        if holder.get(field) is not None
    }


def _text(event: PostHogEvent, name: str, value: Any) -> str:
    """A moved value as text: as it was sent, where it is a field of the event."""
    if name in _PERSON_FIELDS:
        return json_text.members(event.text.decode())[name]
    return orjson.dumps(value).decode()


def _timestamp(
    envelope: Envelope,
    record: PostHogRecord,
    fields: Mapping[str, Any],
    properties: Mapping[str, Any],
) -> datetime:
    """By the client's clock, corrected; or so long before acceptance as `offset` says."""
    accepted_at = clock.from_micros(envelope.accepted_at)
    offset = posthog_event.offset_of(fields)
    if fields.get("timestamp") is None and offset is not None:
        return event_time.bounded(accepted_at, timedelta(milliseconds=-offset))
    return event_time.timestamp(
        accepted_at,
        fields.get("timestamp"),
        record.sent_at,
        properties.get("$ignore_sent_at") is True,
    )
