"""What a record of the source has in common with another of the same event.

The embedded log does not keep an envelope's `sequence`, because one reader meets all its records.
So it is found again, as the door that wrote the record chose it: two unread records of one event,
or one of them and what a client sends again to the new servers, meet in one partition.
"""

from __future__ import annotations

from nilometer.domain import ai_record, posthog_record
from nilometer.domain.ai_record import RecordBroken
from nilometer.log.envelope import Envelope, EnvelopeBroken, EnvelopeTooNew, decode
from nilometer.log.port import Record


def sequence_of(record: Record) -> str | None:
    """The `sequence` of its envelope; None for a record that has none or cannot be read."""
    try:
        return _sequence(decode(record.headers, record.payload))
    except (EnvelopeBroken, EnvelopeTooNew, RecordBroken):
        return None


def _sequence(envelope: Envelope) -> str | None:
    if envelope.door == ai_record.DOOR:
        return envelope.uuid
    if envelope.door == posthog_record.DOOR:
        # Where its client sent no uuid the door had no sequence: then this one is nobody else's.
        events = posthog_record.decode(envelope.payload).events
        return events[0].uuid if events else None
    return None
