"""One batch of log records: mapped, written, the bad ones found. Decides; carries out nothing else.

The outcome of each event is a value (`Good`, `Bad` or `Dropped`), grouped by the record that
brought it, in the order of the log. What to do about it (dead letters, the offset, waiting) is the
pipeline's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from nilometer.clickhouse.store import Store, StoreRejected
from nilometer.domain.ai_record import RecordBroken
from nilometer.domain.litellm_record import NotAPayload
from nilometer.errors import Unavailable
from nilometer.log import envelope
from nilometer.log.envelope import Envelope, EnvelopeBroken, EnvelopeTooNew
from nilometer.log.port import Record
from nilometer.pipeline.call_cost import OverridesOf, book_prices
from nilometer.pipeline.mapping import (
    Mapped,
    Rows,
    UnknownDoor,
    Unmappable,
    excerpt,
    map_record,
)
from nilometer.pipeline.packing import Pack, once, unpacked
from nilometer.pipeline.writer import Arriving, unheard, write

# How many seconds of mapping lie between two offers of the interpreter to the other threads, how
# long an offer is, and from how long on it must have been taken by one of them.
_BETWEEN_OFFERS = 0.001
_OFFER = 0.00005
_TAKEN = 0.0003


# The errors' own sentences may quote what they stumbled on; a dead letter's detail may not.
_SENTENCES = {
    EnvelopeBroken.code: "The record's headers cannot be read.",
    RecordBroken.code: "The record's payload does not have the layout that its door writes.",
    NotAPayload.code: "It is not a payload of LiteLLM.",
    UnknownDoor.code: "No mapper is known for the door that wrote the record.",
}


@dataclass(frozen=True, slots=True)
class Good:
    """An event that can be stored: the `index`-th of its record."""

    record: Record
    index: int
    rows: Rows


@dataclass(frozen=True, slots=True)
class Bad:
    """An event that cannot, or a whole record that cannot be read: why, as a code and as a
    sentence without content. `envelope` holds the event alone; None when not even the record's
    headers could be read."""

    record: Record
    envelope: Envelope | None
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """An event of a project that is being deleted or is gone: nothing of it is kept."""

    record: Record


Outcome = Good | Bad | Dropped


@dataclass(frozen=True, slots=True)
class Carried:
    """A record and what became of each of its events; `envelope` is None when it has none that can
    be read."""

    record: Record
    envelope: Envelope | None
    outcomes: Sequence[Outcome]


Tombstoned = Callable[[Collection[int]], Collection[int]]
"""Which of these projects have a tombstone. Raises DatabaseUnavailable."""

Written = Callable[[Good, bool], None]
"""Told of each event that has had its effect on the store: whether it is new there."""


def map_batch(
    records: Sequence[Record],
    *,
    max_events: int,
    courtesy: float = 0,
    overrides_of: OverridesOf = book_prices,
) -> tuple[list[Carried], EnvelopeTooNew | None]:
    """What every record becomes, up to the one with which there are `max_events` or more, or the
    first that a newer Nilometer wrote, which is returned beside them: no later record may overtake
    it. `overrides_of` gives price overrides; what it raises as Unavailable is raised.

    `courtesy` is how many seconds to pause in every millisecond or so of mapping when threads that
    share the interpreter want it; see `Pipeline`.
    """
    carried: list[Carried] = []
    pauses = _Pauses(courtesy)
    for record in records:
        try:
            carried.append(_map(record, pauses, overrides_of))
        except EnvelopeTooNew as newer:
            return carried, newer
        if pauses.events >= max_events:
            break
    return carried, None


def drop_tombstoned(batch: Sequence[Carried], tombstoned: Tombstoned) -> list[Carried]:
    """The batch, events of tombstoned projects dropped: neither stored nor dead-lettered."""
    projects = {each.envelope.project_id for each in batch if each.envelope is not None}
    gone = tombstoned(projects) if projects else ()
    if not gone:
        return list(batch)
    return [
        replace(each, outcomes=[Dropped(each.record)] * len(each.outcomes))
        if each.envelope is not None and each.envelope.project_id in gone
        else each
        for each in batch
    ]


def write_batch(
    store: Store,
    batch: Sequence[Carried],
    *,
    most_bad: int,
    written: Written,
    pack: Pack = unpacked,
    arriving: Arriving = unheard,
) -> list[Carried]:
    """Store the good events, their large values where `pack` puts them. When the store rejects the
    batch, halve it until what it rejects is found: those come back bad.

    Stops looking after more than `most_bad` were found, at the end of a record, and returns the
    records up to there: a store that rejects everything would be asked twice for every event. Calls
    `written` for each event as soon as it has had its effect; `arriving` is entered before that,
    while the calls are stored. Raises StoreUnavailable, and BlobsUnavailable from `pack`.
    """
    good = [outcome for each in batch for outcome in each.outcomes if isinstance(outcome, Good)]
    into = _Into(store, once(pack), written, arriving)
    settled, rejected = _write(into, good, most_bad)
    if settled < len(good):
        batch = batch[: _place_of(batch, good[settled].record)]
    return [_without(each, rejected) for each in batch] if rejected else list(batch)


def located(error: Exception) -> str:
    """The type of an unexpected error and where it was raised; its text may hold content."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return type(error).__name__
    code = place.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_name} line {place.tb_lineno}"


class _Pauses:
    """Counts the events of a batch, and gives up the interpreter now and then.

    First for an instant: who wants it takes it then, and this thread is late to get it back. Only
    then is there someone to pause for; else nothing is lost but the instant.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next_offer = time.perf_counter() + _BETWEEN_OFFERS
        self.events = 0

    def one_more(self) -> None:
        self.events += 1
        now = time.perf_counter()
        if not self._seconds or now < self._next_offer:
            return
        time.sleep(_OFFER)
        if time.perf_counter() - now > _TAKEN:
            time.sleep(self._seconds)
        self._next_offer = time.perf_counter() + _BETWEEN_OFFERS


def _map(record: Record, pauses: _Pauses, overrides_of: OverridesOf) -> Carried:
    known: Envelope | None = None
    try:
        known = envelope.decode(record.headers, record.payload)
        outcomes: list[Outcome] = []
        for index, mapped in enumerate(map_record(known, overrides_of)):
            outcomes.append(_outcome(record, known, index, mapped))
            pauses.one_more()
    except (EnvelopeTooNew, Unavailable):
        raise
    except Exception as error:  # noqa: BLE001  (whatever a mapper trips over is a dead letter)
        pauses.one_more()
        outcomes = [_bad(record, known, error)]
    return Carried(record, known, outcomes)


def _outcome(record: Record, known: Envelope, index: int, mapped: Mapped) -> Outcome:
    if isinstance(mapped, Unmappable):
        return _bad(record, excerpt(known, index), mapped.error)
    return Good(record, index, mapped)


def _bad(record: Record, known: Envelope | None, error: Exception) -> Bad:
    if isinstance(error, (EnvelopeBroken, RecordBroken, UnknownDoor)):
        return Bad(record, known, error.code, _SENTENCES[error.code])
    return Bad(record, known, "mapping_failed", f"The event could not be mapped: {located(error)}.")


_Rejected = dict[tuple[int, int], StoreRejected]
"""By the identity of the record's object and the event's place in it."""


@dataclass(frozen=True, slots=True)
class _Into:
    """Where a batch is written, and who hears of it."""

    store: Store
    pack: Pack
    written: Written
    arriving: Arriving


def _write(into: _Into, good: Sequence[Good], most_bad: int) -> tuple[int, _Rejected]:
    """How many of these are settled, from the first on, and which of them the store rejects."""
    try:
        stored = write(into.store, [each.rows for each in good], into.pack, into.arriving)
    except StoreRejected as rejected:
        if len(good) == 1:
            return 1, {_key(good[0]): rejected}
    else:
        for each, new in zip(good, stored, strict=True):
            into.written(each, new)
        return len(good), {}
    middle, within_record = _middle(good)
    settled, bad = _write(into, good[:middle], most_bad)
    if settled < middle or (len(bad) > most_bad and not within_record):
        return settled, bad
    more, worse = _write(into, good[middle:], most_bad - len(bad))
    return settled + more, bad | worse


def _middle(good: Sequence[Good]) -> tuple[int, bool]:
    """Where to halve: between two records, the nearest to the middle, or within the only one."""
    half = len(good) // 2
    between = [
        place for place in range(1, len(good)) if good[place].record is not good[place - 1].record
    ]
    if not between:
        return half, True
    return min(between, key=lambda place: abs(place - half)), False


def _without(carried: Carried, rejected: _Rejected) -> Carried:
    """The record, its events that the store rejects bad."""

    def verdict(outcome: Outcome) -> Outcome:
        error = rejected.get(_key(outcome)) if isinstance(outcome, Good) else None
        if error is None or not isinstance(outcome, Good) or carried.envelope is None:
            return outcome
        alone = excerpt(carried.envelope, outcome.index)
        return Bad(carried.record, alone, error.code, error.detail)

    return replace(carried, outcomes=[verdict(outcome) for outcome in carried.outcomes])


def _place_of(batch: Sequence[Carried], record: Record) -> int:
    return next(place for place, each in enumerate(batch) if each.record is record)


def _key(good: Good) -> tuple[int, int]:
    return id(good.record), good.index
