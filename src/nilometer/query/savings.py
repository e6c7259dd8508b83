"""What caches and batches saved, from `calls`: the server's host of `usage.savings`.

Quotients are of whole numbers, so that they are the same to the last digit as every other host's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from nilometer.clickhouse.store import Store
from nilometer.domain import clock
from nilometer.domain.usage import INPUT_BUCKETS, OUTPUT_BUCKETS
from nilometer.query.reader import Condition, Reader, Select, equal, moment
from nilometer.query.trace_sql import BEST
from nilometer.usage.query import UsageQuery
from nilometer.usage.savings import BATCH_TIER, SIZES, WRITES, BatchKey, BatchUse, Savings

_BUCKETS = (*INPUT_BUCKETS, *OUTPUT_BUCKETS)
_VECTOR = tuple(f"vector_{name}" for name in _BUCKETS)
_COSTS = ("cost_uncached_input", "cost_cache_read", *(f"cost_{name}" for name in WRITES))
_COLUMNS = (
    *(*_VECTOR, "vector_input", *_COSTS, "cost_units", "cost_total"),
    *("service_tier", "provider", "model", "timestamp"),
)

_FILTERS = {
    "service": ("provider", "lower(ifNull(provider, ''))"),
    "model": ("model", "ifNull(model, '')"),
    "operation": ("operation_name", "operation_name"),
    "status": ("is_error", "if(is_error, 'error', 'success')"),
    "user": ("user_id", "user_id"),
    "job": ("job_id", "job_id"),
    "batch": ("batch_id", "batch_id"),
}
# Two sources of one call give it times that differ by less.
_SKEW = timedelta(days=1)

_IS_BATCH = f"lower(trimBoth(service_tier)) = '{BATCH_TIER}'"
_SERVICE = f"if({_IS_BATCH}, lower(ifNull(provider, '')), '')"
_MODEL = f"if({_IS_BATCH}, ifNull(model, ''), '')"
_DAY = f"if({_IS_BATCH}, toString(toDate(timestamp, 'UTC')), '')"
_SIZE = (
    f"if({_IS_BATCH}, arrayMax(arrayFilter(size -> size < ifNull(vector_input, 0), "
    f"[{', '.join(map(str, SIZES))}])), 0)"
)


def _atto(column: str) -> str:
    return f"toInt256(ifNull(toDecimal256({column}, 18), 0) * 1000000000000000000)"


def _cache_sums(buckets: Sequence[str]) -> list[str]:
    """In the order of `CACHE_FIELDS`: calls, tokens, unknown, cost, cost as input."""
    tokens = " + ".join(f"toUInt128(ifNull(vector_{name}, 0))" for name in buckets)
    cost = " + ".join(_atto(f"cost_{name}") for name in buckets)
    fresh = _atto("cost_uncached_input")
    known = "(ifNull(cost_uncached_input, 0) > 0 AND ifNull(vector_uncached_input, 0) > 0)"
    as_input = (
        f"intDiv({fresh} * toInt256({tokens}), "
        "toInt256(greatest(ifNull(vector_uncached_input, 0), 1)))"
    )
    used = f"({tokens}) > 0"
    return [
        f"countIf({used})",
        f"sum({tokens})",
        f"countIf({used} AND NOT {known})",
        f"sumIf({cost}, {used} AND {known})",
        f"sumIf({as_input}, {used} AND {known})",
    ]


_KEYS = tuple(f"key_{name}" for name in BatchKey._fields)
_SHOWN = (
    *(f"{sql} AS {name}" for name, sql in zip(
        _KEYS, (_SERVICE, _MODEL, _DAY, _SIZE), strict=True)),
    f"{_IS_BATCH} AS is_batch",
    "countIf(cost_total IS NOT NULL) AS priced",
    "countIf(cost_total IS NULL) AS unpriced",
    f"sum({_atto('cost_total')}) AS cost",
    f"sum({_atto('cost_units')}) AS units",
    *(f"sumIf(toUInt128(ifNull({column}, 0)), cost_total IS NOT NULL) AS tokens_{place}"
      for place, column in enumerate(_VECTOR)),
    *(f"{sql} AS cache_{place}"
      for place, sql in enumerate([*_cache_sums(("cache_read",)), *_cache_sums(WRITES)])),
)  # fmt: skip
_TAIL = f"GROUP BY is_batch, {', '.join(_KEYS)}"


class SavingsReads:
    """Named reads; each within the project of its first argument."""

    def __init__(self, store: Store) -> None:
        self._reader = Reader(store)

    def savings(self, project_id: int, query: UsageQuery) -> Savings:
        """The sums over the calls of a query. Raises the store's errors."""
        found = Savings(estimated=None)
        for row in self._reader.rows(project_id, _select(query)):
            found.add(_savings(row))
        return found


def _select(query: UsageQuery) -> Select:
    """Of all calls that may be within the query, each once, those that are, summed up."""
    within = _between(query, timedelta(), "")
    columns = set(_COLUMNS)
    for name, value in query.filters.items():
        column, sql = _FILTERS.get(name, (name, name))
        columns.add(column)
        within.append(equal(sql, f"filter_{name}", value))
    bound: dict[str, Any] = {}
    for condition in within:
        bound |= condition.parameters
    tail = f"WHERE {' AND '.join(each.sql for each in within)} {_TAIL}"
    return Select(
        ", ".join(sorted(columns)),
        "calls",
        _between(query, _SKEW, "seen_"),
        BEST,
        bound,
        around=[(", ".join(_SHOWN), tail)],
    )


def _between(query: UsageQuery, margin: timedelta, prefix: str) -> list[Condition]:
    start = datetime.combine(query.start, time(), UTC) - margin
    end = datetime.combine(query.end, time(), UTC) + timedelta(days=1) + margin
    return [
        moment("timestamp >=", f"{prefix}start", clock.to_micros(start)),
        moment("timestamp <", f"{prefix}end", clock.to_micros(end)),
    ]


def _savings(row: Mapping[str, Any]) -> Savings:
    cache = [int(row[f"cache_{place}"]) for place in range(10)]
    if not row["is_batch"]:
        return Savings(cache)
    key = BatchKey(row["key_service"], row["key_model"], row["key_day"], int(row["key_size"]))
    use = BatchUse(
        int(row["priced"]),
        int(row["unpriced"]),
        [int(row[f"tokens_{place}"]) for place in range(len(_VECTOR))],
        int(row["cost"]),
        int(row["units"]),
    )
    return Savings(cache, {key: use})
