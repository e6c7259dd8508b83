"""Writes mapped records to the store, each event once whatever is delivered again.

Order makes it so. An event's row goes first, then its call, then its id; the log's offset is
committed after all three. What a stop at any instant leaves behind is therefore a prefix of that
order, and the same records, handed out again, find what is there and add what is not. Rows follow
from the record alone, so even a row that was written twice (two processes, a lost look-up) is
equal to the first under one key, and FINAL reads one.

First accepted wins, in the order of the log: within a batch the first of a uuid is kept, and a
uuid that is stored is skipped. A later record of that uuid cannot come before the first one's
batch is complete, because offsets are committed in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntFlag

from nilometer import failpoints
from nilometer.clickhouse.store import Store, StoreRejected, StoreUnavailable
from nilometer.domain import clock
from nilometer.pipeline.mapping import Rows

# What is stored of these events. event_ids knows all events ever. events is asked only for the
# parts of this batch's time of acceptance (a part knows its least and greatest): that is where a
# redelivered record's row is, as its time of acceptance is its own.
_STORED = """
SELECT project_id, uuid, toUInt8(1) FROM event_ids
WHERE project_id IN {projects:Array(Int64)} AND uuid IN {uuids:Array(UUID)}
UNION ALL
SELECT project_id, uuid, toUInt8(2) FROM events
WHERE project_id IN {projects:Array(Int64)} AND uuid IN {uuids:Array(UUID)}
  AND accepted_at BETWEEN {first:DateTime64(6, 'UTC')} AND {last:DateTime64(6, 'UTC')}
"""
# Asked only about events whose row is there and whose id is not: a batch was cut short.
_CALLED = """
SELECT project_id, event_uuid, toUInt8(4) FROM calls
WHERE project_id IN {projects:Array(Int64)} AND event_uuid IN {uuids:Array(UUID)}
  AND accepted_at BETWEEN {first:DateTime64(6, 'UTC')} AND {last:DateTime64(6, 'UTC')}
"""
# A look-up is small: more threads cost more than they save (48 against 23 ms of processor time).
_LOOK_UP = {"max_threads": 1}

_Key = tuple[int, str]


class _Place(IntFlag):
    NOWHERE = 0
    EVENT_IDS = 1
    EVENTS = 2
    CALLS = 4


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch: the times of acceptance (microseconds) of the events that were new,
    and how many records were of events that are stored."""

    stored: list[int]
    duplicates: int

    def and_then(self, more: Written) -> Written:
        """This and what was written after it."""
        return Written(self.stored + more.stored, self.duplicates + more.duplicates)


def write(store: Store, batch: Sequence[Rows]) -> Written:
    """Store what is new of a batch, in the order of the log; durable when it returns.

    Raises StoreUnavailable (write the same batch again later) and StoreRejected (a row of it
    cannot be stored). The events row holds every value of the two others, under equal types, so
    what events takes they take: nothing of a rejected record is left behind.
    """
    firsts = _firsts(batch)
    if not firsts:
        return Written([], 0)
    places = _places(store, firsts)

    def missing(place: _Place) -> Iterable[Rows]:
        settled = place | _Place.EVENT_IDS
        return (rows for key, rows in firsts.items() if not places.get(key, 0) & settled)

    new = list(missing(_Place.NOWHERE))
    store.insert_lines("events", [rows.event for rows in missing(_Place.EVENTS)])
    failpoints.hit("after_insert")
    store.insert_lines("calls", [rows.call for rows in missing(_Place.CALLS) if rows.call])
    store.insert_lines("event_ids", [rows.event_id for rows in new])
    return Written([rows.accepted_at for rows in new], len(batch) - len(new))


def _firsts(batch: Sequence[Rows]) -> dict[_Key, Rows]:
    firsts: dict[_Key, Rows] = {}
    for rows in batch:
        firsts.setdefault((rows.project_id, rows.uuid), rows)
    return firsts


def _places(store: Store, firsts: dict[_Key, Rows]) -> dict[_Key, int]:
    places = _found(store, _STORED, firsts)
    halves = {key: firsts[key] for key, place in places.items() if place == _Place.EVENTS}
    if halves:
        for key, place in _found(store, _CALLED, halves).items():
            places[key] |= place
    return places


def _found(store: Store, sql: str, wanted: dict[_Key, Rows]) -> dict[_Key, int]:
    accepted = [rows.accepted_at for rows in wanted.values()]
    parameters = {
        "projects": sorted({project for project, _ in wanted}),
        "uuids": [uuid for _, uuid in wanted],
        "first": clock.from_micros(min(accepted)),
        "last": clock.from_micros(max(accepted)),
    }
    try:
        found = store.query(sql, parameters, settings=_LOOK_UP)
    except StoreRejected as refused:
        # No record is to blame for a look-up that cannot run (a table is missing, say).
        raise StoreUnavailable(refused.detail) from None
    places: dict[_Key, int] = {}
    for project, uuid, place in found.rows:
        key = project, str(uuid)
        if key in wanted:
            places[key] = places.get(key, 0) | place
    return places
