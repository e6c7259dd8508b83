"""Traces: a list of summaries, and one as a tree. Typed columns only; properties are not read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from nilometer.clickhouse.store import Store
from nilometer.errors import NotFound
from nilometer.query import paging, tree
from nilometer.query.paging import Cursor, Listing, Page
from nilometer.query.reader import Condition, Reader, Select, among, equal, moment
from nilometer.query.trace_sql import BEST, CALL_TOTALS, ERRORS, SUMMED, first
from nilometer.query.tree import Node, Span

# A tree shows so many events, the earliest; the summary counts them all.
MAX_TREE_EVENTS = 5000
_ERROR_CHARACTERS = 1000
_KEY = re.compile("[0-9A-F]{32}")

# A trace id can be of any length; cursors hold its hash, which orders traces of one instant.
_KEY_SQL = "hex(sipHash128(assumeNotNull(trace_id)))"
_START_SQL = "min(timestamp)"
_NAMED_SQL = "coalesce(trace_name, span_name)"
_ROOT_SQL = "event = '$ai_trace'"

_SUMMARY = ", ".join(
    (
        "assumeNotNull(trace_id) AS id",
        f"toUnixTimestamp64Micro({_START_SQL}) AS start_us",
        "toUnixTimestamp64Micro(max(timestamp)) AS end_us",
        "max(latency) AS longest",
        "count() AS events",
        f"{ERRORS} AS errors",
        f"coalesce({first(_NAMED_SQL, _ROOT_SQL)}, {first('trace_name', '1')}, "
        f"{first('span_name', 'parent_id IS NULL')}) AS name",
        f"{first('session_id', '1')} AS session",
        "argMin(distinct_id, (timestamp, uuid)) AS person",
    )
)
_CALLS = ", ".join(f"{sql} AS {name}" for name, _, _, sql in CALL_TOTALS)
_NO_CALLS: Mapping[str, Any] = {
    **{name: None for name, _, _, _ in CALL_TOTALS},
    "call_count": 0,
    "unpriced_call_count": 0,
    "models": (),
}
_SPAN = (
    "uuid, event, toUnixTimestamp64Micro(timestamp) AS timestamp_us, span_id, parent_id, "
    f"{_NAMED_SQL} AS name, model, provider, latency, input_tokens, output_tokens, http_status, "
    f"is_error, substringUTF8(error, 1, {_ERROR_CHARACTERS}) AS error"
)


@dataclass(frozen=True, slots=True)
class TraceFilters:
    """What a list is narrowed to: traces with an event of this user, session or name, and those
    that started from `after` (included) to `before` (excluded), in microseconds."""

    distinct_id: str | None = None
    session_id: str | None = None
    event: str | None = None
    errors: bool = False
    after: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """One trace, summed up.

    `start` and `end` are the times of its first and last event (microseconds). Clients differ in
    whether an event's time is its start or its end, so `duration` (seconds) is the greater of
    `end - start` and the longest latency of any of its events. What follows `models`, and they (at
    most 20), are of its calls to providers, each once however many events report it: all input
    tokens, cached or not, and all output tokens, None when no call has a token vector; the computed
    cost of the calls that have one and what calls report, in USD, None when none has one; and how
    many have no computed cost.
    """

    trace_id: str
    name: str | None
    start: int
    end: int
    duration: float
    events: int
    errors: int
    models: tuple[str, ...]
    calls: int
    input_tokens: int | None
    output_tokens: int | None
    total_cost: Decimal | None
    reported_total_cost: Decimal | None
    unpriced_calls: int
    session_id: str | None
    distinct_id: str


@dataclass(frozen=True, slots=True)
class TraceTree:
    """A trace and its events as a tree. `truncated`: there are more than the 5,000 shown."""

    trace: Trace
    tops: tuple[Node, ...]
    truncated: bool


class Traces:
    """Named reads of traces; each within the project of its first argument."""

    def __init__(self, store: Store) -> None:
        self._reader = Reader(store)

    def list(
        self,
        project_id: int,
        filters: TraceFilters = TraceFilters(),
        *,
        limit: int = paging.DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Page[Trace]:
        """A page of traces, the latest started first.

        An event that arrives late and is earlier than its trace's first moves the trace back in
        the list. Raises InvalidInput for a cursor of another list, and the store's errors.
        """
        listing = Listing("traces", project_id, asdict(filters))
        start = paging.decode(cursor, listing, key_is_valid=_is_key) if cursor else None
        found = self._ids(project_id, filters, start, limit + 1)
        # Where each stood when the page was cut, whatever arrived since.
        places = {row["id"]: (row["start_us"], row["key"]) for row in found[:limit]}
        summaries = self._summaries(project_id, list(places))
        return paging.page(
            [summaries[trace_id] for trace_id in places if trace_id in summaries],
            more=len(found) > limit,
            cursor=start,
            listing=listing,
            place=lambda trace: places[trace.trace_id],
        )

    def get(self, project_id: int, trace_id: str) -> TraceTree:
        """One trace as a tree. Raises NotFound, the same for another project's trace."""
        summaries = self._summaries(project_id, [trace_id])
        if not summaries:
            raise NotFound("No such trace in this project.", attr="trace_id")
        select = Select(
            _SPAN,
            "events",
            [equal("trace_id", "trace_id", trace_id)],
            "ORDER BY timestamp, uuid LIMIT {limit:UInt32}",
            {"limit": MAX_TREE_EVENTS + 1},
        )
        rows = self._reader.rows(project_id, select)
        tops = tree.build(map(_span, rows[:MAX_TREE_EVENTS]), trace_id)
        return TraceTree(summaries[trace_id], tuple(tops), len(rows) > MAX_TREE_EVENTS)

    def _ids(
        self, project_id: int, filters: TraceFilters, start: Cursor | None, limit: int
    ) -> list[dict[str, Any]]:
        """Ids and places of a page's traces, from narrow columns: all of a project's traces are
        grouped here, so what a summary needs is read for the page only."""
        order = "ASC" if start and start.newer else "DESC"
        having = [*_conditions(filters), *_from(start)]
        parameters = {"limit": limit}
        for condition in having:
            parameters |= condition.parameters
        tail = " ".join(
            (
                "GROUP BY trace_id",
                f"HAVING {' AND '.join(each.sql for each in having)}" if having else "",
                f"ORDER BY {_START_SQL} {order}, key {order} LIMIT {{limit:UInt32}}",
            )
        )
        columns = (
            f"assumeNotNull(trace_id) AS id, {_KEY_SQL} AS key, "
            f"toUnixTimestamp64Micro({_START_SQL}) AS start_us"
        )
        where = [Condition("trace_id IS NOT NULL")]
        return self._reader.rows(project_id, Select(columns, "events", where, tail, parameters))

    def _summaries(self, project_id: int, trace_ids: Sequence[str]) -> dict[str, Trace]:
        if not trace_ids:
            return {}
        where = [Condition("trace_id IN {trace_ids:Array(String)}", {"trace_ids": list(trace_ids)})]
        rows = self._reader.rows(project_id, Select(_SUMMARY, "events", where, "GROUP BY trace_id"))
        calls = self._calls(project_id, where[0])
        return {row["id"]: _trace(row, calls.get(row["id"], _NO_CALLS)) for row in rows}

    def _calls(self, project_id: int, of_traces: Condition) -> dict[str, dict[str, Any]]:
        """The sums over the calls of each trace; a call is its best source's row's trace's."""
        select = Select(
            ", ".join(("trace_id", *SUMMED)),
            "calls",
            [among("call_id", "calls", of_traces)],
            BEST,
            around=[
                (
                    f"assumeNotNull(best.trace_id) AS id, {_CALLS}",
                    f"WHERE {of_traces.sql} GROUP BY best.trace_id",
                )
            ],
        )
        return {row["id"]: row for row in self._reader.rows(project_id, select)}


def _conditions(filters: TraceFilters) -> list[Condition]:
    conditions = [
        Condition(f"countIf({name} = {{{name}:String}}) > 0", {name: value})
        for name in ("distinct_id", "session_id", "event")
        if (value := getattr(filters, name)) is not None
    ]
    if filters.errors:
        conditions.append(Condition("countIf(is_error) > 0"))
    if filters.after is not None:
        conditions.append(moment(f"{_START_SQL} >=", "after", filters.after))
    if filters.before is not None:
        conditions.append(moment(f"{_START_SQL} <", "before", filters.before))
    return conditions


def _from(start: Cursor | None) -> list[Condition]:
    if start is None:
        return []
    sign = ">" if start.newer else "<"
    place = "(fromUnixTimestamp64Micro({cursor_us:Int64}, 'UTC'), {cursor_key:String})"
    return [
        Condition(
            f"({_START_SQL}, {_KEY_SQL}) {sign} {place}",
            {"cursor_us": start.micros, "cursor_key": start.key},
        )
    ]


def _trace(row: Mapping[str, Any], calls: Mapping[str, Any]) -> Trace:
    start, end = row["start_us"], row["end_us"]
    return Trace(
        trace_id=row["id"],
        name=row["name"],
        start=start,
        end=end,
        duration=max((end - start) / 1e6, row["longest"] or 0.0),
        events=row["events"],
        errors=row["errors"],
        models=tuple(calls["models"]),
        calls=calls["call_count"],
        input_tokens=calls["input_tokens"],
        output_tokens=calls["output_tokens"],
        total_cost=calls["total_cost_usd"],
        reported_total_cost=calls["reported_total_cost_usd"],
        unpriced_calls=calls["unpriced_call_count"],
        session_id=row["session"],
        distinct_id=row["person"],
    )


def _span(row: Mapping[str, Any]) -> Span:
    return Span(
        uuid=str(row["uuid"]),
        event=row["event"],
        timestamp=row["timestamp_us"],
        span_id=row["span_id"],
        parent_id=row["parent_id"],
        name=row["name"],
        model=row["model"],
        provider=row["provider"],
        latency=row["latency"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        http_status=row["http_status"],
        is_error=bool(row["is_error"]),
        error=row["error"],
    )


def _is_key(text: str) -> bool:
    return _KEY.fullmatch(text) is not None
