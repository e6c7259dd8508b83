"""From a log record to the rows that its events become.

A mapper converts a record to canonical events: a pure function of the envelope (no clock, no
configuration, no look-up), so that a redelivered record gives equal events, in the same order. What
they become in the store is then the same for every door (`event_rows`). One mapper a door and
version of its payload; `MAPPING_VERSION` grows whenever any of them, or the rows, change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from nilometer import failpoints
from nilometer.conventions import event_time
from nilometer.domain import ai_record, clock, litellm_record, otlp_record, posthog_record
from nilometer.domain.ai_record import RecordBroken
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import NilometerError, Unavailable
from nilometer.log.envelope import Envelope, EnvelopeTooNew
from nilometer.pipeline import map_ai, map_litellm, map_otlp, map_posthog
from nilometer.pipeline.call_cost import OverridesOf, book_prices
from nilometer.pipeline.event_rows import MAPPING_VERSION, CanonicalEvent, Rows, rows_of

__all__ = ["MAPPERS", "MAPPING_VERSION", "Mapper", "Rows", "UnknownDoor", "Unmappable"]

_LATEST = clock.to_micros(event_time.LATEST)
_T = TypeVar("_T")


class UnknownDoor(NilometerError):
    """No mapper is known for the door that wrote the record."""

    code = "unknown_door"


@dataclass(frozen=True, slots=True)
class Unmappable:
    """An event of a record that could not be mapped; the others of the record could."""

    error: Exception


Converted = CanonicalEvent | Unmappable
Mapped = Rows | Unmappable


@dataclass(frozen=True, slots=True)
class Mapper:
    """How the records of one door and version are read.

    `events` gives one value for each event of a record, in a fixed order: the event, or why there
    is none. It raises RecordBroken, ValueError or TypeError when the record as a whole is not what
    its door writes. `excerpt` is an envelope of the same door that holds only one of the events, by
    its place in that order; it maps to equal rows.
    """

    events: Callable[[Envelope], Iterator[Converted]]
    excerpt: Callable[[Envelope, int], Envelope]


def map_record(envelope: Envelope, overrides_of: OverridesOf = book_prices) -> Iterator[Mapped]:
    """What each event of a record becomes, as it is asked for.

    `overrides_of` gives the price overrides of the record's project. Raises EnvelopeTooNew when the
    payload is of a later version than this process reads, UnknownDoor, and what `Mapper.events`
    raises.
    """
    failpoints.hit("map")
    _check(envelope)
    for converted in _mapper(envelope).events(envelope):
        yield converted if isinstance(converted, Unmappable) else _rows(converted, overrides_of)


def excerpt(envelope: Envelope, index: int) -> Envelope:
    """The envelope of one event of a record that `map_record` could read."""
    return _mapper(envelope).excerpt(envelope, index)


def _mapper(envelope: Envelope) -> Mapper:
    mapper = MAPPERS.get((envelope.door, envelope.door_version))
    if mapper is not None:
        return mapper
    known = max((version for door, version in MAPPERS if door == envelope.door), default=None)
    if known is None:
        raise UnknownDoor("no mapper is known for the record's door")
    raise EnvelopeTooNew(
        f"the record is of version {envelope.door_version} of the door {envelope.door}; this "
        f"process reads up to {known}. Upgrade it to go on."
    )


def each(items: Sequence[_T], canonical: Callable[[_T], CanonicalEvent]) -> Iterator[Converted]:
    """The event of each item, or the error that it raised: one bad item harms no other."""
    for item in items:
        try:
            yield canonical(item)
        except Exception as error:  # noqa: BLE001  (whatever a mapper trips over is a dead letter)
            yield Unmappable(error)


def _rows(event: CanonicalEvent, overrides_of: OverridesOf) -> Mapped:
    try:
        return rows_of(event, overrides_of)
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001  (as above)
        return Unmappable(error)


def _one_ai_event(envelope: Envelope) -> Iterator[Converted]:
    yield map_ai.canonical(envelope)


def _posthog_events(envelope: Envelope) -> Iterator[Converted]:
    record = posthog_record.decode(envelope.payload)
    return each(record.events, lambda event: map_posthog.canonical(envelope, record, event))


def _litellm_payloads(envelope: Envelope) -> Iterator[Converted]:
    record = litellm_record.decode(envelope.payload)
    return each(record.items, lambda item: map_litellm.canonical(envelope, record, item))


def _otlp_spans(envelope: Envelope) -> Iterator[Converted]:
    record = otlp_record.decode(envelope.payload)
    return each(map_otlp.items(record), map_otlp.mapper(envelope, record))


# Which mapper reads which payload. A new layout of a door's payload is a new entry beside the old.
MAPPERS: Mapping[tuple[str, int], Mapper] = {
    (ai_record.DOOR, ai_record.DOOR_VERSION): Mapper(
        events=_one_ai_event, excerpt=lambda envelope, _: envelope
    ),
    (litellm_record.DOOR, litellm_record.DOOR_VERSION): Mapper(
        events=_litellm_payloads, excerpt=map_litellm.excerpt
    ),
    (otlp_record.DOOR, otlp_record.DOOR_VERSION): Mapper(
        events=_otlp_spans, excerpt=map_otlp.excerpt
    ),
    (posthog_record.DOOR, posthog_record.DOOR_VERSION): Mapper(
        events=_posthog_events, excerpt=map_posthog.excerpt
    ),
}


def _check(envelope: Envelope) -> None:
    """The headers' values are ones that the store can hold and look up."""
    if not 0 < envelope.project_id < 1 << 63 or not 0 <= envelope.accepted_at <= _LATEST:
        raise RecordBroken("the record's headers hold a value out of range")
    if canonical_uuid(envelope.uuid) != envelope.uuid:
        raise RecordBroken("the record's uuid is not in its canonical form")
