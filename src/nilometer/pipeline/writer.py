"""Writes mapped records to the store, each event once whatever is delivered again.

Order makes it so. An event's row goes first, then its call, then its id; the log's offset is
committed after all three. What a stop at any instant leaves behind is therefore a prefix of that
order, and the same records, handed out again, find what is there and add what is not. Rows follow
from the record alone, so even a row that was written twice (two processes, a lost look-up) is
equal to the first under one key, and FINAL reads one. Where a large value is packed follows from
the batch: such rows are equal once it is put back.

First accepted wins, in the order of the log: within a batch the first of a uuid is kept, and a
uuid that is stored is skipped. A later record of that uuid cannot come before the first one's
batch is complete, because offsets are committed in order.

A loss of power may take parts of any table. So an id is no proof of its event's other rows: when
the very record that it names (they were accepted at the same microsecond) comes again, its rows
are looked for too, and those that are missing are written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from nilometer import failpoints
from nilometer.clickhouse.store import Store, StoreRejected, StoreUnavailable
from nilometer.domain import clock
from nilometer.pipeline.event_rows import Rows
from nilometer.pipeline.packing import Pack, unpacked

# What is stored of these events, and when each row's record was accepted. event_ids knows all
# events ever. events is asked only about this batch's time of acceptance, where a redelivered
# record's row is: parts of other times are skipped by their least and greatest, and granules too.
_STORED = """
SELECT project_id, uuid, toUnixTimestamp64Micro(accepted_at), 'event_ids' FROM event_ids
WHERE project_id IN {projects:Array(Int64)} AND uuid IN {uuids:Array(UUID)}
UNION ALL
SELECT project_id, uuid, toUnixTimestamp64Micro(accepted_at), 'events' FROM events
WHERE project_id IN {projects:Array(Int64)} AND uuid IN {uuids:Array(UUID)}
  AND accepted_at BETWEEN {first:DateTime64(6, 'UTC')} AND {last:DateTime64(6, 'UTC')}
"""
# Asked only about records that come again. By the call's id first, which the table is sorted by; by
# the event's uuid (a column read whole, within the time of acceptance) only for what is not found
# there: an earlier release may have named the call otherwise.
_CALLED = """
SELECT project_id, event_uuid, toUnixTimestamp64Micro(accepted_at), 'calls' FROM calls
WHERE project_id IN {projects:Array(Int64)} AND event_uuid IN {uuids:Array(UUID)}
  AND accepted_at BETWEEN {first:DateTime64(6, 'UTC')} AND {last:DateTime64(6, 'UTC')}
"""
_CALLED_AS_NAMED = f"{_CALLED}  AND call_id IN {{call_ids:Array(String)}}"
# A client can name a call as it likes; one longer than this is looked up by its event, because a
# server bounds what a statement may bind.
_LONGEST_NAME = 1024
# A look-up is small: more threads cost more than they save (48 against 23 ms of processor time).
_LOOK_UP = {"max_threads": 1}

_Key = tuple[int, str]

Arriving = Callable[[Collection[int]], AbstractContextManager[None]]
"""Entered while calls of these projects are stored: they can be read from some moment of the block
on. When it ends without an error, all of them can be. It returns at once and raises nothing."""


def unheard(_: Collection[int]) -> AbstractContextManager[None]:
    """Nobody keeps what is made of calls."""
    return nullcontext()


@dataclass(slots=True)
class _Stored:
    """What the store has of one event: the times of acceptance (microseconds) of its rows."""

    event_ids: set[int] = field(default_factory=set[int])
    events: set[int] = field(default_factory=set[int])
    calls: set[int] = field(default_factory=set[int])

    @property
    def winner(self) -> int | None:
        """When the record that counts was accepted; None when the event has no id yet."""
        return min(self.event_ids, default=None)


@dataclass(frozen=True, slots=True)
class _Write:
    """A record whose event counts, and what the store has of it."""

    rows: Rows
    stored: _Stored

    @property
    def event_is_missing(self) -> bool:
        # Without an id, a row of the event is an interrupted batch's, whoever mapped it.
        at = self.stored.winner
        return at not in self.stored.events if at is not None else not self.stored.events

    @property
    def call_is_missing(self) -> bool:
        return self.rows.call is not None and not self.stored.calls

    @property
    def id_is_missing(self) -> bool:
        return self.stored.winner is None

    @property
    def is_new(self) -> bool:
        return self.id_is_missing or self.event_is_missing or self.call_is_missing


def write(
    store: Store, batch: Sequence[Rows], pack: Pack = unpacked, arriving: Arriving = unheard
) -> list[bool]:
    """Store what is new of a batch, in the order of the log; durable when it returns. Says of each
    record whether it was stored: False is for a repeat of what is there.

    `pack` makes the lines of the events that are new; `arriving` hears of calls. Raises what `pack`
    does, StoreUnavailable (write the same batch again later) and StoreRejected (a row of it cannot
    be stored). The events row holds every value of the two others, under equal types, so what
    events takes they take: nothing of a rejected record is left behind.
    """
    writes = [each for each in _writes(store, batch) if each.is_new]
    store.insert_lines("events", pack([each.rows for each in writes if each.event_is_missing]))
    failpoints.hit("after_insert")
    calls = [each.rows.call for each in writes if each.call_is_missing]
    # Of those that are there, too: they may be of an attempt whose answer was lost.
    with arriving({rows.project_id for rows in batch if rows.call}):
        store.insert_lines("calls", [call for call in calls if call])
    store.insert_lines("event_ids", [each.rows.event_id for each in writes if each.id_is_missing])
    stored = {id(each.rows) for each in writes}
    return [id(rows) in stored for rows in batch]


def _writes(store: Store, batch: Sequence[Rows]) -> list[_Write]:
    """The records that count, one an event: the one that is stored, come again, or the first."""
    if not batch:
        return []
    known = _look_up(store, batch)
    chosen: dict[_Key, _Write] = {}
    for rows in batch:
        stored = known.get(_key(rows)) or _Stored()
        if stored.winner in (None, rows.accepted_at):
            chosen.setdefault(_key(rows), _Write(rows, stored))
    return list(chosen.values())


def _look_up(store: Store, batch: Sequence[Rows]) -> dict[_Key, _Stored]:
    known: dict[_Key, _Stored] = {}
    _ask(store, _STORED, batch, known)
    again = [rows for rows in batch if rows.call and _came_before(rows, known.get(_key(rows)))]
    _ask(store, _CALLED_AS_NAMED, again, known)
    _ask(store, _CALLED, [rows for rows in again if not known[_key(rows)].calls], known)
    return known


def _came_before(rows: Rows, stored: _Stored | None) -> bool:
    """Whether rows of this very record may be stored: all of them, or as many as got there."""
    return stored is not None and stored.winner in (None, rows.accepted_at)


def _ask(store: Store, sql: str, batch: Sequence[Rows], known: dict[_Key, _Stored]) -> None:
    if not batch:
        return
    keys = {_key(rows) for rows in batch}
    accepted = [rows.accepted_at for rows in batch]
    parameters = {
        "projects": sorted({project for project, _ in keys}),
        "uuids": [uuid for _, uuid in keys],
        "first": clock.from_micros(min(accepted)),
        "last": clock.from_micros(max(accepted)),
    }
    if sql is _CALLED_AS_NAMED:
        parameters["call_ids"] = [
            rows.call_id for rows in batch if len(rows.call_id) <= _LONGEST_NAME
        ]
    try:
        found = store.query(sql, parameters, settings=_LOOK_UP)
    except StoreRejected as refused:
        # No record is to blame for a look-up that cannot run (a table is missing, say).
        raise StoreUnavailable(refused.detail) from None
    for project, uuid, accepted_at, table in found.rows:
        key = project, str(uuid)
        if key in keys:
            getattr(known.setdefault(key, _Stored()), table).add(accepted_at)


def _key(rows: Rows) -> _Key:
    return rows.project_id, rows.uuid
