"""The events of a record of the LiteLLM door, version 1."""

from __future__ import annotations

from dataclasses import replace

from nilometer.conventions import litellm
from nilometer.conventions.converted import event_uuid
from nilometer.domain import litellm_record
from nilometer.domain.litellm_record import LiteLLMItem, LiteLLMRecord, NotAPayload
from nilometer.log.envelope import Envelope
from nilometer.pipeline.converted_event import canonical_event
from nilometer.pipeline.event_rows import CanonicalEvent
from nilometer.pipeline.exact_json import json_object

# A gateway's own account of a call (the provider's usage, who paid) before what an SDK, or another
# of LiteLLM's callbacks, tells of it.
SOURCE_RANK = 5
CONVERTER = f"litellm/{litellm.MAPPING_VERSION}"


def canonical(envelope: Envelope, record: LiteLLMRecord, item: LiteLLMItem) -> CanonicalEvent:
    """The event of one item. Raises NotAPayload, and ValueError or TypeError for what its door
    cannot have written."""
    if item.fault:
        raise NotAPayload(f"the item is no payload of LiteLLM: {item.fault}")
    return canonical_event(
        envelope,
        litellm.convert(json_object(item.text)),
        ip=record.ip,
        retention_days=record.retention_days,
        source_rank=SOURCE_RANK,
        source=item.text.decode(),
        converter=CONVERTER,
        redacted=item.redacted,
    )


def excerpt(envelope: Envelope, index: int) -> Envelope:
    """The envelope of one item: its uuid is the event's, or follows from the item's place."""
    record = litellm_record.decode(envelope.payload)
    if len(record.items) == 1:
        return envelope
    alone = record.only(index)
    return replace(envelope, uuid=_uuid(envelope, alone, index), payload=alone.encode())


def _uuid(envelope: Envelope, alone: LiteLLMRecord, index: int) -> str:
    [item] = alone.items
    if item.fault:
        return event_uuid(f"litellm:{envelope.uuid}:{index}")
    return litellm.convert(json_object(item.text)).uuid
