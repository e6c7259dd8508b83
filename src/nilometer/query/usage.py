"""Usage by any dimension, from `calls`: the server's host of the aggregation contract.

A call counts once, as its best source tells it. All levels are made in one pass; a combination of
dimensions, which may have any number of groups, in a second one, page by page.

Dashboards ask the same again and again. An answer is kept with a mark of the rows that it is made
of, and given again while the mark is the same: making one reads three narrow columns.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from nilometer.clickhouse.store import Store
from nilometer.domain import clock
from nilometer.query.reader import Condition, Reader, Select, equal, moment
from nilometer.query.trace_sql import BEST
from nilometer.usage.answers import MAX_GROUPS
from nilometer.usage.dimensions import NAMED_IN, has_latency
from nilometer.usage.groups import Group, Groups, atto
from nilometer.usage.latency import DIGITS, MAX_MICROS, PERCENTILES
from nilometer.usage.query import UsageQuery

_DIMENSIONS = {
    "day": "toString(toDate(timestamp, 'UTC'))",
    "hour": "leftPad(toString(toHour(timestamp, 'UTC')), 2, '0')",
    "service": "lower(ifNull(provider, ''))",
    "model": "ifNull(model, '')",
    "operation": "operation_name",
    "environment": "environment",
    "status": "if(is_error, 'error', 'success')",
    "user": "user_id",
    "job": "job_id",
    "batch": "batch_id",
    "developer": "developer",
    "repository": "repository",
}
_COLUMNS = {
    "day": ("timestamp",),
    "hour": ("timestamp",),
    "service": ("provider",),
    "operation": ("operation_name",),
    "status": ("is_error",),
    "user": ("user_id",),
    "job": ("job_id",),
    "batch": ("batch_id",),
}
_MEASURED = (
    *("timestamp", "is_error", "api_calls", "cost_total", "reported_total_cost_usd"),
    *("latency", "vector_input", "vector_output"),
)
# Two sources of one call give it times that differ by less.
_SKEW = timedelta(days=1)
# Groups of a level that are read: those that an answer may have, the one without a key, one more.
_MOST = MAX_GROUPS + 2
_MARK = "count(), max(accepted_at), sum(cityHash64(event_uuid, revision))"
_KEPT_ANSWERS = 32
_KEPT_GROUPS = 1000

Mark = tuple[Any, ...]

# As `groups.known_cost`.
_COST = "ifNull(cost_total, nullIf(reported_total_cost_usd, 0))"
_SUMS = (
    *("count()", "sum(toUInt128(api_calls))", "countIf(is_error)"),
    *(f"countIf({_COST} IS NULL AND NOT is_error)", f"count({_COST})"),
    *("sum(toUInt128(ifNull(vector_input, 0)))", "sum(toUInt128(ifNull(vector_output, 0)))"),
    f"sum(toDecimal256(ifNull({_COST}, 0), 18))",
)
# The bucket of `usage.latency`, in whole numbers once it is microseconds.
_MICROS = f"toUInt64(least(round(ifNull(latency, 0.) * 1e6), {MAX_MICROS}.))"
_DROPPED = f"toUInt8(greatest(floor(log2({_MICROS})) - {DIGITS - 1}., 0.))"
_BUCKET = f"bitShiftLeft(bitShiftRight({_MICROS}, {_DROPPED}), {_DROPPED})"
_LATENCY = (
    "count(latency)",
    f"quantilesExactIf({', '.join(map(str, PERCENTILES))})({_BUCKET}, latency IS NOT NULL)",
)


class Usage:
    """Named reads of usage; each within the project of its first argument."""

    def __init__(self, store: Store) -> None:
        self._reader = Reader(store)
        self._kept: OrderedDict[str, tuple[Mark, Groups]] = OrderedDict()
        self._keeping = threading.Lock()

    def groups(self, project_id: int, query: UsageQuery) -> Groups:
        """What the query asks for; it is not to be changed. Of a level with more than `MAX_GROUPS`
        groups some are left out, and of the combination all but a page and one more. Raises the
        store's errors."""
        asked = repr((project_id, query))
        # Rows that arrive after it change the mark of the next question, not of this one.
        mark = self._mark(project_id, query)
        with self._keeping:
            known = self._kept.get(asked)
        if known is not None and known[0] == mark:
            return known[1]
        groups = self._read(project_id, query)
        if _size(groups) <= _KEPT_GROUPS:
            with self._keeping:
                self._kept[asked] = (mark, groups)
                self._kept.move_to_end(asked)
                if len(self._kept) > _KEPT_ANSWERS:
                    self._kept.popitem(last=False)
        return groups

    def _mark(self, project_id: int, query: UsageQuery) -> Mark:
        """What differs when a row that the query may read came, went or was priced again."""
        select = Select(_MARK, "calls", _between(query, _SKEW, "seen_"), every_copy=True)
        [row] = self._reader.rows(project_id, select)
        return tuple(row.values())

    def _read(self, project_id: int, query: UsageQuery) -> Groups:
        groups = Groups(levels={name: {} for name in query.levels})
        for row in self._reader.rows(project_id, _levels(query)):
            _place(groups, query.levels, row)
        if query.group_by:
            for row in self._reader.rows(project_id, _combined(query)):
                key = tuple(row[_key(name)] for name in query.group_by)
                groups.combined[key] = _group(row)
        return groups


def _size(groups: Groups) -> int:
    return len(groups.combined) + sum(map(len, groups.levels.values()))


def _levels(query: UsageQuery) -> Select:
    """The summary and every level: the mask of a row says which keys it is not grouped by."""
    names = query.levels
    shown = [f"{_DIMENSIONS[name]} AS {_key(name)}" for name in names]
    shown += _measures(latency=True)
    shown += [f"groupUniqArray({_DIMENSIONS[name]}) AS named_{name}" for name in _named(query)]
    if not names:
        return _select(query, shown)
    shown.append(f"grouping({', '.join(map(_key, names))}) AS mask")
    sets = ", ".join(["()", *(f"({_key(name)})" for name in names)])
    return _select(query, shown, f"GROUP BY GROUPING SETS ({sets}) LIMIT {_MOST} BY mask")


def _combined(query: UsageQuery) -> Select:
    """The groups after the cursor, in the order of their keys: a page of them and one more."""
    names, parameters = query.group_by, {"limit": query.limit + 1}
    keys = ", ".join(map(_key, names))
    shown = [f"{_DIMENSIONS[name]} AS {_key(name)}" for name in names]
    has = [Condition(f"notEmpty({_key(name)})") for name in names]
    if query.after is not None:
        after = {f"after_{place}": part for place, part in enumerate(query.after)}
        bound = ", ".join(f"{{{name}:String}}" for name in after)
        has.append(Condition(f"({keys}) > ({bound})", after))
    tail = f"GROUP BY {keys} ORDER BY {keys} LIMIT {{limit:UInt32}}"
    shown += _measures(latency=has_latency(names))
    return _select(query, shown, tail, has, parameters)


def _select(
    query: UsageQuery,
    shown: Sequence[str],
    tail: str = "",
    more: Sequence[Condition] = (),
    parameters: Mapping[str, Any] | None = None,
) -> Select:
    """A read of what is within the query: of all that may be, each call once, and of those that
    are. `more` are conditions on the keys."""
    within = [
        *_between(query, timedelta(), ""),
        *(
            equal(_DIMENSIONS[name], f"filter_{name}", value)
            for name, value in query.filters.items()
        ),
        *more,
    ]
    bound = dict(parameters or {})
    for condition in within:
        bound |= condition.parameters
    names = {*query.levels, *query.group_by, *query.filters, *_named(query)}
    columns = {column for name in names for column in _COLUMNS.get(name, (name,))}
    return Select(
        ", ".join(sorted(columns | set(_MEASURED))),
        "calls",
        _between(query, _SKEW, "seen_"),
        BEST,
        bound,
        (", ".join(shown), f"WHERE {' AND '.join(each.sql for each in within)} {tail}"),
    )


def _between(query: UsageQuery, margin: timedelta, prefix: str) -> list[Condition]:
    start = _midnight(query.start) - margin
    end = _midnight(query.end) + timedelta(days=1) + margin
    return [
        moment("timestamp >=", f"{prefix}start", clock.to_micros(start)),
        moment("timestamp <", f"{prefix}end", clock.to_micros(end)),
    ]


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _key(name: str) -> str:
    return f"key_{name}"


def _named(query: UsageQuery) -> list[str]:
    return list(dict.fromkeys(each for name in query.levels for each in NAMED_IN.get(name, ())))


def _measures(*, latency: bool) -> list[str]:
    sums = [f"{sql} AS sum_{place}" for place, sql in enumerate(_SUMS)]
    return sums + [f"{sql} AS latency_{n}" for n, sql in enumerate(_LATENCY)] if latency else sums


def _place(groups: Groups, names: Sequence[str], row: Mapping[str, Any]) -> None:
    """Put a row where it belongs; a level's row without a key is in no group."""
    grouped = [
        name for place, name in enumerate(reversed(names)) if not row.get("mask", 0) >> place & 1
    ]
    if not grouped:
        groups.summary = _group(row)
    elif key := row[_key(grouped[0])]:
        group = groups.levels[grouped[0]][key] = _group(row)
        for each in NAMED_IN.get(grouped[0], ()):
            group.names[each] = {name for name in row[f"named_{each}"] if name}


def _group(row: Mapping[str, Any]) -> Group:
    *counted, entered, left, cost = (row[f"sum_{place}"] for place in range(len(_SUMS)))
    values = [*map(int, counted), int(entered), int(left), int(entered) + int(left), atto(cost)]
    if "latency_0" not in row:
        return Group(values=values)
    measured = row["latency_0"]
    return Group(
        values=values,
        measured=measured,
        percentiles=list(map(int, row["latency_1"])) if measured else [],
    )
