"""A usage query as SQL, over `calls` or over the cells of `usage_days`: the same groups of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from nilometer.domain import clock
from nilometer.query.reader import Condition, Select, equal, moment
from nilometer.query.trace_sql import BEST
from nilometer.usage.answers import MAX_GROUPS
from nilometer.usage.dimensions import NAMED_IN, has_latency
from nilometer.usage.latency import DIGITS, MAX_MICROS, PERCENTILES
from nilometer.usage.plan import SCOPES
from nilometer.usage.query import UsageQuery

GONE = "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"
"""The engine's name of the error of a read of cells that are there no more."""

SKEW = timedelta(days=1)
"""Two sources of one call give it times that differ by less."""

DIMENSIONS = {
    "day": "toString(toDate32(timestamp, 'UTC'))",
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
"""What a call's columns say of each dimension."""

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
    *("timestamp", "is_error", "api_calls", "cost_total", "reported_total_cost_usd", "cost_stated"),
    *("latency", "vector_input", "vector_output"),
)
# Groups of a level that are read: those that an answer may have, the one without a key, one more.
_MOST = MAX_GROUPS + 2

# As `groups.known_cost`.
_COST = (
    "coalesce(cost_total, if(cost_stated, reported_total_cost_usd, NULL), "
    "nullIf(reported_total_cost_usd, 0))"
)
SUMS = (
    *("count()", "sum(toUInt128(api_calls))", "countIf(is_error)"),
    *(f"countIf({_COST} IS NULL AND NOT is_error)", f"count({_COST})"),
    *("sum(toUInt128(ifNull(vector_input, 0)))", "sum(toUInt128(ifNull(vector_output, 0)))"),
    f"sum(toDecimal256(ifNull({_COST}, 0), 18))",
)
"""What is counted of calls, in the order of `CELL_SUMS`."""
CELL_SUMS = (
    *("calls", "api_calls", "errors", "unpriced", "priced"),
    *("input_tokens", "output_tokens", "cost"),
)

# The bucket of `usage.latency`, in whole numbers once it is microseconds.
_MICROS = f"toUInt64(least(round(ifNull(latency, 0.) * 1e6), {MAX_MICROS}.))"
_DROPPED = f"toUInt8(greatest(floor(log2({_MICROS})) - {DIGITS - 1}., 0.))"
BUCKET = f"bitShiftLeft(bitShiftRight({_MICROS}, {_DROPPED}), {_DROPPED})"
_LATENCY = (
    "count(latency)",
    f"quantilesExactIf({', '.join(map(str, PERCENTILES))})({BUCKET}, latency IS NOT NULL)",
)
# Of n latencies the engine takes the one with as many as n * level, rounded up, up to and with it.
# A little more than a level makes that the one with int(n * level) before it, as
# `latency.percentiles` has it, for any n below 10 ** 10.
_LEVELS = ", ".join(f"{share} + 1e-12" for share in PERCENTILES)
_CELL_LATENCY = (
    "sum(arraySum(latency_counts))",
    f"quantilesExactWeightedArray({_LEVELS})(latencies, latency_counts)",
)
# Of many levels: each distribution is read once, and those of few cells go into every level.
_STATE = f"quantilesExactWeightedArrayState({_LEVELS})(latencies, latency_counts)"
_MERGED_LATENCY = ("sum(measured)", f"quantilesExactWeightedArrayMerge({_LEVELS})(distribution)")


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of the query's days, each once, as its best source tells it. `early` is true of
    all of them."""

    early: tuple[Condition, ...] = ()

    dimensions = DIMENSIONS
    sums = SUMS
    latency = _LATENCY
    has_latency = True
    has_all = True

    def select(
        self, query: UsageQuery, names: set[str], shown: str, more: Sequence[Condition], tail: str
    ) -> Select:
        """A read of what is within the query: of all that may be, each call once, and of those
        that are. `names` are the dimensions that it needs, `more` conditions on them."""
        within = [*between(query.start, query.end, timedelta(), ""), *more]
        return Select(
            ", ".join(columns_of(names)),
            "calls",
            between(query.start, query.end, SKEW, "seen_"),
            BEST,
            _parameters(within),
            [(shown, f"WHERE {_sql(within)} {tail}")],
            early=self.early,
        )


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of these builds, which are all of one kind."""

    kind: str
    builds: tuple[UUID, ...]

    sums = tuple(f"sum({name})" for name in CELL_SUMS)

    @property
    def latency(self) -> tuple[str, str]:
        """Of cells, or of what `_merged` makes of them."""
        return _MERGED_LATENCY if self.has_all else _CELL_LATENCY

    @property
    def has_latency(self) -> bool:
        """By the hour, none is kept."""
        return self.kind != "hours"

    @property
    def has_all(self) -> bool:
        """The cells of a scope have no calls without a value of it."""
        return self.kind == "days"

    @property
    def there(self) -> Condition:
        """The rows of the builds. A read fails (`GONE`) where one is there no more."""
        return Condition(
            "build IN {builds:Array(UUID)} AND "
            "(SELECT throwIf(uniqExact(build) != {count:UInt32}) FROM usage_days "
            "WHERE project_id = {project_id:Int64} AND kind = {kind:String} "
            "AND build IN {builds:Array(UUID)}) = 0",
            {"builds": self.builds, "count": len(self.builds)},
        )

    @property
    def dimensions(self) -> Mapping[str, str]:
        """As the table names them."""
        own = dict.fromkeys(SCOPES, "value")
        return {name: name for name in DIMENSIONS} | own | {"day": "toString(day)"}

    def select(
        self, query: UsageQuery, names: set[str], shown: str, more: Sequence[Condition], tail: str
    ) -> Select:
        """As `Calls` has it. It fails where a build is there no more."""
        del query
        arrays = sorted({"value" if name in SCOPES else name for name in names} - {"day"})
        arrays += CELL_SUMS
        if self.has_latency:
            arrays += ["latencies", "latency_counts"]
        within = [*more, Condition("calls > 0")]
        told = sorted({"value" if name in SCOPES else name for name in names})
        return Select(
            ", ".join(("day", *arrays)),
            "usage_days",
            [equal("kind", "kind", self.kind), self.there],
            parameters=_parameters(within),
            around=[
                *([(_merged(told), f"GROUP BY {', '.join(told)}" if told else "")] * self.has_all),
                (shown, f"WHERE {_sql(within)} {tail}"),
            ],
            every_copy=True,
            join=f"ARRAY JOIN {', '.join(arrays)}",
        )


def _merged(told: Sequence[str]) -> str:
    """Cells that are told apart by these alone."""
    sums = [f"sum(best.{name}) AS {name}" for name in CELL_SUMS]
    measured = f"sum(arraySum(latency_counts)) AS measured, {_STATE} AS distribution"
    return ", ".join([*told, *sums, measured])


Rows = Calls | Cells


def levels(query: UsageQuery, names: Sequence[str], rows: Rows) -> Select:
    """These levels, and the summary where it can be of these rows: the mask of a row says which
    keys it is not grouped by."""
    named = list(dict.fromkeys(each for name in names for each in NAMED_IN.get(name, ())))
    dimensions = rows.dimensions
    shown = [f"{dimensions[name]} AS {key(name)}" for name in names]
    shown += _measures(rows, latency=rows.has_latency)
    shown += [f"groupUniqArray({dimensions[name]}) AS named_{name}" for name in named]
    tail = ""
    if names:
        shown.append(f"grouping({', '.join(map(key, names))}) AS mask")
        sets = ", ".join(["()"] * rows.has_all + [f"({key(name)})" for name in names])
        tail = f"GROUP BY GROUPING SETS ({sets}) LIMIT {_MOST} BY mask"
    needed = {*names, *named, *query.filters}
    return rows.select(query, needed, ", ".join(shown), _filters(query, rows), tail)


def combined(query: UsageQuery, rows: Rows) -> Select:
    """The groups after the cursor, in the order of their keys: a page of them and one more."""
    names = query.group_by
    keys = ", ".join(map(key, names))
    shown = [f"{rows.dimensions[name]} AS {key(name)}" for name in names]
    more = [*_filters(query, rows), *(Condition(f"notEmpty({key(name)})") for name in names)]
    if query.after is not None:
        after = {f"after_{place}": part for place, part in enumerate(query.after)}
        bound = ", ".join(f"{{{name}:String}}" for name in after)
        more.append(Condition(f"({keys}) > ({bound})", after))
    tail = f"GROUP BY {keys} ORDER BY {keys} LIMIT {query.limit + 1:d}"
    shown += _measures(rows, latency=has_latency(names))
    return rows.select(query, {*names, *query.filters}, ", ".join(shown), more, tail)


def columns_of(names: Iterable[str]) -> list[str]:
    """The columns of `calls` that these dimensions and what is measured are made of."""
    columns = {column for name in names for column in _COLUMNS.get(name, (name,))}
    return sorted(columns | set(_MEASURED))


def between(start: date, end: date, margin: timedelta, prefix: str) -> list[Condition]:
    """The calls from the first of these days to the last one, and a margin."""
    first = _midnight(start) - margin
    last = _midnight(end) + timedelta(days=1) + margin
    return [
        moment("timestamp >=", f"{prefix}start", clock.to_micros(first)),
        moment("timestamp <", f"{prefix}end", clock.to_micros(last)),
    ]


def key(name: str) -> str:
    """The column of a dimension's values."""
    return f"key_{name}"


def _filters(query: UsageQuery, rows: Rows) -> list[Condition]:
    return [
        equal(rows.dimensions[name], f"filter_{name}", value)
        for name, value in query.filters.items()
    ]


def _measures(rows: Rows, *, latency: bool) -> list[str]:
    sums = [f"{sql} AS sum_{place}" for place, sql in enumerate(rows.sums)]
    return sums + [f"{sql} AS latency_{n}" for n, sql in enumerate(rows.latency)] * latency


def _parameters(conditions: Sequence[Condition]) -> dict[str, Any]:
    return {name: value for each in conditions for name, value in each.parameters.items()}


def _sql(conditions: Sequence[Condition]) -> str:
    return " AND ".join(each.sql for each in conditions)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
