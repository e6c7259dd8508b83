"""Events: a list with filters, and one by its uuid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any
from uuid import UUID

import orjson

from nilometer.clickhouse.store import Store
from nilometer.domain import packed
from nilometer.domain.ai_record import BlobReference
from nilometer.domain.identity import canonical_uuid
from nilometer.domain.packed import PackedValue
from nilometer.errors import NotFound
from nilometer.query import costs, paging
from nilometer.query.costs import CallCost
from nilometer.query.paging import Cursor, Listing, Page
from nilometer.query.reader import Condition, Reader, Select, Table, equal, moment

# A page ends early rather than hold more properties than this (and never before its first event).
MAX_PAGE_BYTES = 16 * 1024**2

_CALLS = frozenset({"$ai_generation", "$ai_embedding"})

# An event's time in microseconds, and its uuid: its place in every list.
Place = tuple[int, str]

_COLUMNS = (
    "uuid, event, distinct_id, project_id, trace_id, span_id, parent_id, session_id, "
    "toUnixTimestamp64Micro(timestamp) AS timestamp_us, "
    "toUnixTimestamp64Micro(accepted_at) AS accepted_at_us, "
    "toUnixTimestamp64Micro(expires_at) AS expires_at_us, "
    "properties, blobs, packed, redacted"
)
# What the properties take once large values are put back. A converter's source is not read.
_SIZE = (
    "length(properties) + arraySum(arrayMap(value -> if(value.1 = 'source', 0, value.2), "
    "JSONExtract(packed, 'Array(Tuple(column String, size UInt64))')))"
)


@dataclass(frozen=True, slots=True)
class EventFilters:
    """What a list is narrowed to. Moments are microseconds: from `after` (included) to `before`
    (excluded), by the event's own time."""

    event: str | None = None
    distinct_id: str | None = None
    trace_id: str | None = None
    session_id: str | None = None
    after: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One stored event. Moments are microseconds since the epoch; `properties` is the exact JSON
    text, with URLs in place of the values that are `packed`; `expires_at` is the instant from which
    its blobs cannot be read (`domain.retention`); `cost` is that of the call that it describes,
    None when it describes none; `redacted` is how often each of the project's redaction rules was
    applied before it was stored."""

    uuid: str
    event: str
    distinct_id: str
    timestamp: int
    accepted_at: int
    expires_at: int
    project_id: int
    trace_id: str | None
    span_id: str | None
    parent_id: str | None
    session_id: str | None
    properties: str
    blobs: tuple[BlobReference, ...]
    packed: tuple[PackedValue, ...] = ()
    cost: CallCost | None = None
    redacted: Mapping[str, int] = field(default_factory=dict[str, int])


class Events:
    """Named reads of events; each within the project of its first argument."""

    def __init__(self, store: Store) -> None:
        self._reader = Reader(store)

    def list(
        self,
        project_id: int,
        filters: EventFilters = EventFilters(),
        *,
        limit: int = paging.DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Page[Event]:
        """A page, newest first: at most `limit` events and 16 MiB of properties, those that are
        packed included.

        Raises InvalidInput for a cursor of another list, and the store's errors.
        """
        listing = Listing("events", project_id, asdict(filters))
        start = paging.decode(cursor, listing, key_is_valid=_is_uuid) if cursor else None
        where = [*_conditions(filters), *_from(start)]
        places = self._places(project_id, where, start, limit + 1)
        kept = self._fitting(project_id, places[:limit])
        events = self._read(project_id, kept)
        return paging.page(
            events,
            more=len(kept) < len(places),
            cursor=start,
            listing=listing,
            place=lambda event: (event.timestamp, event.uuid),
        )

    def get(self, project_id: int, uuid: str) -> Event:
        """One event. Raises NotFound; the same for another project's event and for a text that
        is not a UUID."""
        try:
            canonical = canonical_uuid(uuid)
        except ValueError:
            raise _not_found() from None
        # The narrow table is written last: an event that lists show already may not be in it yet.
        tables: tuple[Table, ...] = ("event_ids", "events")
        for table in tables:
            events = self._read(project_id, self._found(project_id, canonical, table))
            if events:
                return events[0]
        raise _not_found()

    def _found(self, project_id: int, uuid: str, table: Table) -> list[Place]:
        """Where the table has the event."""
        identity = Select(
            "toUnixTimestamp64Micro(timestamp) AS timestamp_us, uuid",
            table,
            [Condition("uuid = {uuid:UUID}", {"uuid": uuid})],
            "LIMIT 1",
        )
        return [_place(row) for row in self._reader.rows(project_id, identity)]

    def _places(
        self, project_id: int, where: Sequence[Condition], start: Cursor | None, limit: int
    ) -> list[Place]:
        """Where each event of a page is, nearest to the cursor first, from narrow columns."""
        order = "ASC" if start and start.newer else "DESC"
        select = Select(
            "toUnixTimestamp64Micro(timestamp) AS timestamp_us, uuid",
            "events",
            where,
            f"ORDER BY timestamp {order}, uuid {order} LIMIT {{limit:UInt32}}",
            {"limit": limit},
        )
        return [_place(row) for row in self._reader.rows(project_id, select)]

    def _fitting(self, project_id: int, places: Sequence[Place]) -> Sequence[Place]:
        """The first places whose properties fit one page together; at least one."""
        if len(places) < 2:
            return places
        columns = f"toUnixTimestamp64Micro(timestamp) AS timestamp_us, uuid, {_SIZE} AS n"
        select = Select(columns, "events", _at(places))
        sizes = {_place(row): row["n"] for row in self._reader.rows(project_id, select)}
        totals = accumulate(sizes.get(place, 0) for place in places)
        count = sum(total <= MAX_PAGE_BYTES for total in totals)
        return places[: max(count, 1)]

    def _read(self, project_id: int, places: Sequence[Place]) -> list[Event]:
        """The events at these places, in their order."""
        if not places:
            return []
        rows = self._reader.rows(project_id, Select(_COLUMNS, "events", _at(places)))
        calls = {str(row["uuid"]): row["accepted_at_us"] for row in rows if row["event"] in _CALLS}
        priced = costs.of_events(self._reader, project_id, calls)
        read = [_event(row, priced.get(str(row["uuid"]))) for row in rows]
        found = {(event.timestamp, event.uuid): event for event in read}
        return [found[place] for place in places if place in found]


def _place(row: Mapping[str, Any]) -> Place:
    return row["timestamp_us"], str(row["uuid"])


def _at(places: Sequence[Place]) -> list[Condition]:
    """The events at these places. The table is ordered by time: it reads a few granules."""
    moments = [micros for micros, _ in places]
    return [
        moment("timestamp >=", "first", min(moments)),
        moment("timestamp <=", "last", max(moments)),
        Condition("uuid IN {uuids:Array(UUID)}", {"uuids": [UUID(uuid) for _, uuid in places]}),
    ]


def _conditions(filters: EventFilters) -> list[Condition]:
    conditions = [
        equal(name, name, value)
        for name in ("event", "distinct_id", "trace_id", "session_id")
        if (value := getattr(filters, name)) is not None
    ]
    if filters.after is not None:
        conditions.append(moment("timestamp >=", "after", filters.after))
    if filters.before is not None:
        conditions.append(moment("timestamp <", "before", filters.before))
    return conditions


def _from(start: Cursor | None) -> list[Condition]:
    """Past the cursor's row. The first condition lets the primary key skip what lies before."""
    if start is None:
        return []
    sign = ">" if start.newer else "<"
    bound = moment(f"timestamp {sign}=", "cursor_us", start.micros)
    past = (
        f"(timestamp {sign} fromUnixTimestamp64Micro({{cursor_us:Int64}}, 'UTC') "
        f"OR uuid {sign} {{cursor_uuid:UUID}})"
    )
    return [bound, Condition(past, {"cursor_uuid": start.key})]


def _event(row: Mapping[str, Any], cost: CallCost | None) -> Event:
    return Event(
        uuid=str(row["uuid"]),
        event=row["event"],
        distinct_id=row["distinct_id"],
        timestamp=row["timestamp_us"],
        accepted_at=row["accepted_at_us"],
        expires_at=row["expires_at_us"],
        project_id=row["project_id"],
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        parent_id=row["parent_id"],
        session_id=row["session_id"],
        properties=row["properties"],
        blobs=tuple(BlobReference(**blob) for blob in orjson.loads(row["blobs"] or "[]")),
        redacted=orjson.loads(row["redacted"] or "{}"),
        packed=tuple(
            value for value in packed.from_json(row["packed"]) if value.property is not None
        ),
        cost=cost,
    )


def _is_uuid(text: str) -> bool:
    try:
        return canonical_uuid(text) == text
    except ValueError:
        return False


def _not_found() -> NotFound:
    return NotFound("No such event in this project.", attr="uuid")
