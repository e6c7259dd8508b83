"""What alert rules measure in the store: calls, metrics of quality, and keys in captured content.

Calls and metrics count at their own time, content when it was accepted. Each read is of the last
minutes or hours, so only parts of the tables that were written since are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from nilometer.clickhouse.store import Store
from nilometer.domain import clock
from nilometer.domain.redaction.patterns import BUILTINS
from nilometer.query.reader import Condition, Reader, Select, equal, moment
from nilometer.query.trace_sql import BEST

MAX_VALUES = 50
"""Of a dimension so many values are told apart: those with most calls, or metrics."""
MAX_SIGHTINGS = 100
"""So many events with a key are told of."""
SECRETS = ("api_key", "private_key", "jwt", "bearer_token")
"""The patterns of redaction that match what lets somebody in."""

# Clocks of clients are ahead by so much at most, and two sources of a call so far apart.
_SKEW = timedelta(hours=1)
_OF_CALLS = {
    "service": "lower(ifNull(provider, ''))",
    "model": "ifNull(model, '')",
    "user": "user_id",
    "job": "job_id",
    "environment": "environment",
}
_COLUMNS = (
    *("timestamp", "is_error", "cost_total", "reported_total_cost_usd", "latency"),
    *("provider", "model", "user_id", "job_id", "environment"),
)
# As `nilometer.usage.groups.known_cost`.
_COST = "ifNull(cost_total, nullIf(reported_total_cost_usd, 0))"
_SCORE = "trim(BOTH '\"' FROM JSONExtractRaw(other_properties, '$ai_metric_value'))"
_NAME = "JSONExtractString(other_properties, '$ai_metric_name')"
_OF_SCORES = {
    "metric": "name",
    "service": "lower(ifNull(provider, ''))",
    "model": "ifNull(model, '')",
}
# In JSON a line that ends before a key leaves a letter there, where a word seems to go on.
_SHAPES = BUILTINS["api_key"].regex.removeprefix(r"\b")
_KEY = rf'(?:\b|\\[bfnrt"/\\])({_SHAPES})'


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one value. `cost` is of the `priced` ones, `p95` (seconds, None without any) of
    the `timed` ones."""

    value: str
    calls: int
    errors: int
    priced: int
    cost: Decimal
    timed: int
    p95: float | None


@dataclass(frozen=True, slots=True)
class Scores:
    """The metrics of one value: how many are numbers, and their mean."""

    value: str
    count: int
    mean: Decimal


@dataclass(frozen=True, slots=True)
class Sighting:
    """An event with keys in it: those that its properties hold, and how many were redacted."""

    uuid: str
    trace_id: str
    keys: tuple[str, ...]
    redacted: int

    def __repr__(self) -> str:
        return f"Sighting({self.uuid!r}, {len(self.keys)} keys)"


class Measures:
    """Named reads, each within the project of its first argument. Raises the store's errors."""

    def __init__(self, store: Store) -> None:
        self._reader = Reader(store)

    def calls(
        self,
        project_id: int,
        start: datetime,
        end: datetime,
        named: Mapping[str, str],
        each: str | None,
    ) -> list[Calls]:
        """Calls from `start` to `end` that have the values `named`: those of each value of a
        dimension, or all of them as one, also where there are none."""
        value = _OF_CALLS[each] if each else "''"
        shown = (
            f"{value} AS value, count() AS calls, countIf(is_error) AS errors, "
            f"countIf({_COST} IS NOT NULL) AS priced, "
            f"sum(toDecimal256(ifNull({_COST}, 0), 18)) AS cost, "
            "count(latency) AS timed, quantileTDigest(0.95)(latency) AS p95"
        )
        within = [*_during("timestamp", start, end), *_named(_OF_CALLS, named)]
        select = Select(
            ", ".join(_COLUMNS),
            "calls",
            _during("timestamp", start - _SKEW, end + _SKEW, "seen_"),
            BEST,
            _parameters(within),
            [(shown, f"WHERE {_sql(within)} {_most('calls')}")],
            early=[moment("accepted_at >=", "accepted", clock.to_micros(start - _SKEW))],
        )
        found = [_calls(row) for row in self._reader.rows(project_id, select)]
        return found if each or found else [Calls("", 0, 0, 0, Decimal(0), 0, None)]

    def scores(
        self,
        project_id: int,
        start: datetime,
        end: datetime,
        named: Mapping[str, str],
        each: str | None,
    ) -> list[Scores]:
        """As `calls`, of the values of `$ai_metric` events; `true` is 1 and `false` 0. What is no
        number is left out, and a value without any."""
        value = _OF_SCORES[each] if each else "''"
        within = [Condition("isFinite(score)"), *_named(_OF_SCORES, named)]
        shown = f"{value} AS value, count() AS count, avg(score) AS mean"
        score = "multiIf(raw = 'true', 1., raw = 'false', 0., toFloat64OrNull(raw)) AS score"
        select = Select(
            f"{_SCORE} AS raw, {_NAME} AS name, {score}, provider, model",
            "events",
            [Condition("event = '$ai_metric'"), *_during("timestamp", start, end)],
            parameters=_parameters(within),
            around=[(shown, f"WHERE {_sql(within)} {_most('count')}")],
        )
        return [
            Scores(row["value"], int(row["count"]), Decimal(str(row["mean"])))
            for row in self._reader.rows(project_id, select)
        ]

    def keys(self, project_id: int, start: datetime, end: datetime) -> list[Sighting]:
        """The events accepted from `start` to `end` that hold keys of well-known shapes, or did
        before they were redacted. What lies in blobs and packs is not looked at."""
        counted = " + ".join(f"JSONExtractUInt(redacted, '{name}')" for name in SECRETS)
        select = Select(
            "toString(uuid) AS id, ifNull(trace_id, '') AS trace, "
            f"arrayDistinct(extractAll(properties, {{shape:String}})) AS keys, {counted} AS hidden",
            "events",
            [
                *_during("accepted_at", start, end),
                Condition(
                    "(match(properties, {shape:String}) "
                    f"OR (redacted != '{{}}' AND {counted} > 0))",
                    {"shape": _KEY},
                ),
            ],
            f"ORDER BY accepted_at, uuid LIMIT {MAX_SIGHTINGS}",
        )
        return [
            Sighting(row["id"], row["trace"], tuple(row["keys"]), int(row["hidden"]))
            for row in self._reader.rows(project_id, select)
        ]


def _calls(row: Mapping[str, Any]) -> Calls:
    timed = int(row["timed"])
    return Calls(
        value=row["value"],
        calls=int(row["calls"]),
        errors=int(row["errors"]),
        priced=int(row["priced"]),
        cost=Decimal(row["cost"]),
        timed=timed,
        p95=float(row["p95"]) if timed else None,
    )


def _most(count: str) -> str:
    return f"GROUP BY value HAVING {count} > 0 ORDER BY {count} DESC, value LIMIT {MAX_VALUES}"


def _during(column: str, start: datetime, end: datetime, prefix: str = "") -> list[Condition]:
    return [
        moment(f"{column} >=", f"{prefix}start", clock.to_micros(start)),
        moment(f"{column} <", f"{prefix}end", clock.to_micros(end)),
    ]


def _named(columns: Mapping[str, str], named: Mapping[str, str]) -> list[Condition]:
    return [equal(columns[name], f"named_{name}", value) for name, value in named.items()]


def _parameters(conditions: Sequence[Condition]) -> dict[str, Any]:
    return {name: value for each in conditions for name, value in each.parameters.items()}


def _sql(conditions: Sequence[Condition]) -> str:
    return " AND ".join(each.sql for each in conditions)
