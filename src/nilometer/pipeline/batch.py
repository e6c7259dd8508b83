"""One batch of log records: mapped, written, the bad ones found. Decides; carries out nothing else.

The outcome of each record is a value (`Good`, `Bad` or `Dropped`), in the order of the log. What
to do about it (dead letters, the offset, waiting) is the pipeline's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from nilometer.clickhouse.store import Store, StoreRejected
from nilometer.domain.ai_record import RecordBroken
from nilometer.log import envelope
from nilometer.log.envelope import Envelope, EnvelopeBroken, EnvelopeTooNew
from nilometer.log.port import Record
from nilometer.pipeline.mapping import Rows, UnknownDoor, map_record
from nilometer.pipeline.writer import write

# How many records are mapped between two pauses: about a millisecond's work.
_RECORDS_BETWEEN_PAUSES = 16


# The errors' own sentences may quote what they stumbled on; a dead letter's detail may not.
_SENTENCES = {
    EnvelopeBroken.code: "The record's headers cannot be read.",
    RecordBroken.code: "The record's payload does not have the layout that its door writes.",
    UnknownDoor.code: "No mapper is known for the door that wrote the record.",
}


@dataclass(frozen=True, slots=True)
class Good:
    """A record that can be stored."""

    record: Record
    rows: Rows


@dataclass(frozen=True, slots=True)
class Bad:
    """A record that cannot: why, as a code and as a sentence without content. `envelope` is None
    when not even its headers could be read."""

    record: Record
    envelope: Envelope | None
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record of a project that is being deleted or is gone: nothing of it is kept."""

    record: Record


Outcome = Good | Bad | Dropped

Tombstoned = Callable[[Collection[int]], Collection[int]]
"""Which of these projects have a tombstone. Raises DatabaseUnavailable."""


def map_batch(
    records: Sequence[Record], *, courtesy: float = 0
) -> tuple[list[Outcome], EnvelopeTooNew | None]:
    """Every record's outcome, up to the first that a newer Nilometer wrote, which is returned
    beside them: no later record may overtake it.

    `courtesy` is how many seconds to pause every 16 records, for the threads that share the
    interpreter; see `Pipeline`.
    """
    outcomes: list[Outcome] = []
    for index, record in enumerate(records, 1):
        try:
            outcomes.append(_map(record))
        except EnvelopeTooNew as newer:
            return outcomes, newer
        if courtesy and index % _RECORDS_BETWEEN_PAUSES == 0:
            time.sleep(courtesy)
    return outcomes, None


def drop_tombstoned(outcomes: Sequence[Outcome], tombstoned: Tombstoned) -> list[Outcome]:
    """The outcomes, those of tombstoned projects dropped: neither stored nor dead-lettered."""
    projects = {project for each in outcomes if (project := _project_of(each)) is not None}
    gone = tombstoned(projects) if projects else ()
    if not gone:
        return list(outcomes)
    return [Dropped(each.record) if _project_of(each) in gone else each for each in outcomes]


def write_batch(
    store: Store,
    outcomes: Sequence[Outcome],
    *,
    most_bad: int,
    written: Callable[[Record, int | None], None],
) -> list[Outcome]:
    """Store the good ones. When the store rejects the batch, halve it until what it rejects is
    found: those come back bad.

    Stops looking after more than `most_bad` were found and returns the outcomes up to there: a
    store that rejects everything would be asked twice for every record. Calls `written` for each
    record as soon as it has had its effect, with its time of acceptance, or None for a repeat of
    what is stored. Raises StoreUnavailable.
    """
    good = [outcome for outcome in outcomes if _is_good(outcome)]
    try:
        stored = write(store, [outcome.rows for outcome in good])
    except StoreRejected as rejected:
        if len(good) == 1:
            bad = _rejected(good[0], rejected)
            return [bad if each is good[0] else each for each in outcomes]
    else:
        for each, new in zip(good, stored, strict=True):
            written(each.record, each.rows.accepted_at if new else None)
        return list(outcomes)
    middle = outcomes.index(good[len(good) // 2])
    head = write_batch(store, outcomes[:middle], most_bad=most_bad, written=written)
    most_bad -= sum(1 for outcome in head if isinstance(outcome, Bad))
    if most_bad < 0:
        return head
    return head + write_batch(store, outcomes[middle:], most_bad=most_bad, written=written)


def located(error: Exception) -> str:
    """The type of an unexpected error and where it was raised; its text may hold content."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return type(error).__name__
    code = place.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_name} line {place.tb_lineno}"


def _map(record: Record) -> Outcome:
    known: Envelope | None = None
    try:
        known = envelope.decode(record.headers, record.payload)
        return Good(record, map_record(known))
    except EnvelopeTooNew:
        raise
    except (EnvelopeBroken, RecordBroken, UnknownDoor) as error:
        return Bad(record, known, error.code, _SENTENCES[error.code])
    except Exception as error:  # noqa: BLE001  (whatever a mapper trips over is a dead letter)
        detail = f"The record could not be mapped: {located(error)}."
        return Bad(record, known, "mapping_failed", detail)


def _project_of(outcome: Outcome) -> int | None:
    """Whose record it is; None when nobody can tell."""
    if isinstance(outcome, Good):
        return outcome.rows.project_id
    known = outcome.envelope if isinstance(outcome, Bad) else None
    return known.project_id if known else None


def _rejected(good: Good, error: StoreRejected) -> Bad:
    known = envelope.decode(good.record.headers, good.record.payload)
    return Bad(good.record, known, error.code, error.detail)


def _is_good(outcome: Outcome) -> TypeGuard[Good]:
    return isinstance(outcome, Good)
