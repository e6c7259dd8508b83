"""From a stored row of `events` back to the event in its canonical form.

A row keeps what a converter made its properties from (`source`), or else the properties are what
was sent. Everything else that the record said is on the row: the time, the address, the retention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from nilometer.conventions import litellm, spans
from nilometer.conventions.converted import Converted
from nilometer.domain import (
    ai_record,
    clock,
    litellm_record,
    otlp_record,
    posthog_record,
    retention,
)
from nilometer.domain.span import Span
from nilometer.log.envelope import Envelope
from nilometer.pipeline import map_ai, map_litellm, map_otlp, map_posthog
from nilometer.pipeline.converted_event import canonical_event
from nilometer.pipeline.event_rows import CanonicalEvent
from nilometer.pipeline.exact_json import json_object, with_exact_costs

_RANKS = {
    ai_record.DOOR: map_ai.SOURCE_RANK,
    litellm_record.DOOR: map_litellm.SOURCE_RANK,
    otlp_record.DOOR: map_otlp.SOURCE_RANK,
    posthog_record.DOOR: map_posthog.SOURCE_RANK,
}

# By what stands before the version in `converter`: how its source is read, and its present name.
_CONVERTERS: Mapping[str, tuple[Callable[[str], Converted], str]] = {
    "litellm": (lambda text: litellm.convert(json_object(text)), map_litellm.CONVERTER),
    "spans": (lambda text: spans.convert(Span.from_json(text)), map_otlp.CONVERTER),
}


class UnknownSource(ValueError):
    """The row was made by a door or a converter that this release does not have."""


def canonical(row: Mapping[str, Any]) -> CanonicalEvent:
    """The event of a row, by the converters of now; its identity stays what it was. Raises
    UnknownSource, and ValueError or TypeError for what no converter can read."""
    if row["door"] not in _RANKS:
        raise UnknownSource("no door of this release wrote the row")
    return _converted(row) if row["source"] else _as_sent(row)


def _converted(row: Mapping[str, Any]) -> CanonicalEvent:
    name = row["converter"].partition("/")[0]
    if name not in _CONVERTERS:
        raise UnknownSource("no converter of this release made the row")
    convert, converter = _CONVERTERS[name]
    accepted_at = clock.to_micros(row["accepted_at"])
    return canonical_event(
        Envelope(row["project_id"], str(row["uuid"]), row["door"], 1, accepted_at, 1, b""),
        replace(convert(row["source"]), uuid=str(row["uuid"])),
        ip=row["ip"],
        retention_days=_retention_days(row),
        source_rank=_RANKS[row["door"]],
        source=row["source"],
        converter=converter,
        redacted=orjson.loads(row["redacted"] or "{}"),
    )


def _as_sent(row: Mapping[str, Any]) -> CanonicalEvent:
    text = row["properties"]
    blobs = tuple(ai_record.BlobReference(**each) for each in orjson.loads(row["blobs"]))
    properties = with_exact_costs(json_object(text), text)
    for blob in blobs:
        properties.pop(blob.name, None)  # its URL says nothing that belongs into a column
    return CanonicalEvent(
        project_id=row["project_id"],
        uuid=str(row["uuid"]),
        door=row["door"],
        source_rank=_RANKS[row["door"]],
        accepted_at=clock.to_micros(row["accepted_at"]),
        retention_days=_retention_days(row),
        ip=row["ip"],
        name=row["event"],
        distinct_id=row["distinct_id"],
        timestamp=row["timestamp"],
        properties=properties,
        properties_text=text,
        blobs=blobs,
        redacted=orjson.loads(row["redacted"] or "{}"),
    )


def _retention_days(row: Mapping[str, Any]) -> int:
    return retention.days(row["accepted_at"].date(), row["expires_at"])
