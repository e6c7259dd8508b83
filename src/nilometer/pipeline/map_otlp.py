"""The events of a record of the OTLP doors, version 1: one for each span."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from uuid import UUID, uuid5

import orjson

from nilometer.conventions import spans
from nilometer.domain import otlp_record
from nilometer.domain.otlp_record import OtlpRecord
from nilometer.domain.otlp_request import ResourceGroup, ScopeGroup, single_spans
from nilometer.domain.otlp_span import SpanDecoder, span_message
from nilometer.domain.protobuf_wire import MalformedMessage
from nilometer.domain.span import Span
from nilometer.log.envelope import Envelope
from nilometer.pipeline.converted_event import canonical_event
from nilometer.pipeline.event_rows import CanonicalEvent

# A span is told by an instrumentation beside the call; a client that posts the event is nearer.
SOURCE_RANK = 20
CONVERTER = f"spans/{spans.MAPPING_VERSION}"

Item = tuple[ResourceGroup, ScopeGroup, bytes, Mapping[str, int]]


def items(record: OtlpRecord) -> list[Item]:
    """The spans of a record, undecoded, each with its resource and scope and what was redacted in
    it. Raises RecordBroken."""
    spans = enumerate(single_spans(record.groups()))
    return [(*span, record.redacted.get(place, {})) for place, span in spans]


def mapper(envelope: Envelope, record: OtlpRecord) -> Callable[[Item], CanonicalEvent]:
    """The event of one span of a record, as a function that reads each resource once. It raises
    MalformedMessage, a ValueError, for what the door cannot have written."""
    decoder = SpanDecoder()

    def canonical(item: Item) -> CanonicalEvent:
        span = _span(decoder, item)
        return canonical_event(
            envelope,
            spans.convert(span),
            ip=record.ip,
            retention_days=record.retention_days,
            source_rank=SOURCE_RANK,
            source=_text(spans.kept(span)),
            converter=CONVERTER,
            redacted=item[3],
        )

    return canonical


def excerpt(envelope: Envelope, index: int) -> Envelope:
    """The envelope of one span of the record. Its uuid is the event's where the span can be
    converted, else it follows from its place."""
    record = otlp_record.decode(envelope.payload)
    found = items(record)
    if len(found) == 1:
        return envelope
    try:
        uuid = spans.convert(_span(SpanDecoder(), found[index])).uuid
    except MalformedMessage:
        uuid = str(uuid5(UUID(envelope.uuid), str(index)))
    return replace(envelope, uuid=uuid, payload=record.only(index).encode())


def _text(span: Span) -> str:
    """As `Span.to_json`, in a quarter of its time; a number may be spelled otherwise (1e-7, not
    1e-07). Where the quick writer would put a null for what JSON has no number for, or refuses a
    value, the exact one writes."""
    try:
        text = orjson.dumps(span.members())
    except TypeError:
        return span.to_json()
    return text.decode() if b"null" not in text else span.to_json()


def _span(decoder: SpanDecoder, item: Item) -> Span:
    group, scope, data, _ = item
    return decoder.span(group.head, scope.head, span_message(data))
