"""What alert rules measure in the store: calls, metrics of quality, and keys in captured content.

Calls and metrics count at their own time, content when it was accepted. What was accepted within
the window though it is of a time before, too late for anybody to have seen it in its own window, is
told apart: by itself, in windows of its own time. Those stand still while time goes on, so that
the same calls are in the same ones at every look; two overlap by half, so that what lies closer
together than that is whole in one. Each read is of what was accepted in the last minutes or hours,
so only parts of the tables that were written since are looked at.

Where values of a dimension are told apart, the engine measures every one of them, and only those
that are beyond a limit come out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Generic, TypeVar

from nilometer.clickhouse.store import Store
from nilometer.domain import clock
from nilometer.query import sightings
from nilometer.query.beyond import Beyond, Number
from nilometer.query.reader import Condition, Reader, Select, among, equal, moment
from nilometer.query.sightings import Sighting
from nilometer.query.trace_sql import BEST

# Clocks of clients are ahead by so much at most, and two sources of a call so far apart.
_SKEW = timedelta(hours=1)
LATEST = timedelta(days=1)
"""What is older when it is accepted is news of another day, or an import, and not looked at."""
_LOOK = timedelta(minutes=1)
"""Within it somebody looks, or within two looks: what came so long before its window ended was seen
in it."""
_OF_CALLS = {
    "service": "lower(ifNull(provider, ''))",
    "model": "ifNull(model, '')",
    "user": "user_id",
    "job": "job_id",
    "environment": "environment",
}
_COLUMNS = (
    *(
        "call_id",
        "timestamp",
        "accepted_at",
        "is_error",
        "cost_total",
        "reported_total_cost_usd",
        "latency",
    ),
    *("provider", "model", "user_id", "job_id", "environment"),
)
# As `nilometer.usage.groups.known_cost`.
_COST = "ifNull(cost_total, nullIf(reported_total_cost_usd, 0))"
_SCORE = "trim(BOTH '\"' FROM JSONExtractRaw(other_properties, '$ai_metric_value'))"
_NAME = "JSONExtractString(other_properties, '$ai_metric_name')"
_START = "fromUnixTimestamp64Micro({start:Int64}, 'UTC')"
_HALF = "intDiv(toUnixTimestamp64Micro(timestamp), {half:Int64})"
# When the windows began that it is of; 0 is the one that was asked for.
_BEGAN = (
    f"arrayJoin(if(timestamp >= {_START}, [0], "
    f"[({_HALF} - 1) * {{half:Int64}}, {_HALF} * {{half:Int64}}]))"
)
_DELAY = "toUnixTimestamp64Micro(accepted_at) - toUnixTimestamp64Micro(timestamp)"
_IS_LATE = f"accepted_at >= {_START} AND {_DELAY} >= {{late:Int64}} AND {_DELAY} < {{latest:Int64}}"
_OF_SCORES = {
    "metric": "name",
    "service": "lower(ifNull(provider, ''))",
    "model": "ifNull(model, '')",
}


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one value. `cost` is of the `priced` ones, `p95` (seconds, None without any) of
    the `timed` ones. `began` is when their window did, in microseconds, where they came late; 0 is
    the window that was asked for."""

    value: str
    calls: int
    errors: int
    priced: int
    cost: Decimal
    timed: int
    p95: float | None
    began: int = 0


@dataclass(frozen=True, slots=True)
class Scores:
    """The metrics of one value: how many are numbers, and their mean. `began` is as that of
    calls."""

    value: str
    count: int
    mean: Decimal
    began: int = 0


_Measured = TypeVar("_Measured", Calls, Scores)


@dataclass(frozen=True, slots=True)
class Values(Generic[_Measured]):
    """The values that were wanted; of those beyond that are too many how many, and the furthest."""

    found: Sequence[_Measured]
    left_out: int = 0
    furthest: _Measured | None = None


class Measures:
    """Named reads, each within the project of its first argument. Raises the store's errors."""

    def __init__(self, store: Store, every: timedelta = timedelta()) -> None:
        """`every` is how far apart looks are."""
        self._reader = Reader(store)
        self._every = every

    def calls(
        self, project_id: int, start: datetime, end: datetime, named: Mapping[str, str]
    ) -> list[Calls]:
        """All calls from `start` to `end` that have the values `named`; then those that came late,
        by windows as long as this one."""
        span = _Span(start, end, self._every)
        rows = self._reader.rows(project_id, _of_calls(span, named, "''"))
        found = sorted(map(_calls, rows), key=lambda each: each.began)
        if found and not found[0].began:
            return found
        return [Calls("", 0, 0, 0, Decimal(0), 0, None), *found]

    def calls_of_each(
        self,
        project_id: int,
        start: datetime,
        end: datetime,
        named: Mapping[str, str],
        dimension: str,
        beyond: Beyond,
    ) -> list[Values[Calls]]:
        """As `calls`, of each value of a dimension by itself: those in time, and then those that
        came late, of one window each."""
        timed = beyond.number is Number.LATENCY_P95  # the one that takes much memory of each value
        span = _Span(start, end, self._every)
        select = _of_calls(span, named, _OF_CALLS[dimension], timed=timed)
        return _values(self._reader.rows(project_id, beyond.of(select)), _calls, beyond)

    def scores(
        self, project_id: int, start: datetime, end: datetime, named: Mapping[str, str]
    ) -> list[Scores]:
        """As `calls`, of the values of `$ai_metric` events; `true` is 1 and `false` 0. What is no
        number is left out; nothing of a window without any."""
        span = _Span(start, end, self._every)
        rows = self._reader.rows(project_id, _of_scores(span, named, "''"))
        return sorted(map(_scores, rows), key=lambda each: each.began)

    def scores_of_each(
        self,
        project_id: int,
        start: datetime,
        end: datetime,
        named: Mapping[str, str],
        dimension: str,
        beyond: Beyond,
    ) -> list[Values[Scores]]:
        """As `scores`, of each value of a dimension by itself: those in time, and then those that
        came late, of one window each."""
        span = _Span(start, end, self._every)
        select = _of_scores(span, named, _OF_SCORES[dimension])
        return _values(self._reader.rows(project_id, beyond.of(select)), _scores, beyond)

    def keys(
        self,
        project_id: int,
        start: datetime,
        end: datetime,
        live: Collection[str],
        revoked: Collection[str],
    ) -> list[Sighting]:
        """The keys of well-known shapes in events that were accepted from `start` to `end`, also
        those that were redacted: of each live key of the project, and of all that are none of its
        own. `live` and `revoked` are the digests of its own. What lies in blobs and packs is not
        looked at."""
        select = sightings.select_of(_during("accepted_at", start, end), live, revoked)
        return [sightings.sighting(row) for row in self._reader.rows(project_id, select)]


@dataclass(frozen=True, slots=True)
class _Span:
    """The window that is asked for, and what is late for it: what came when its own was so nearly
    over that the next look, `every` so often, no longer saw it there."""

    start: datetime
    end: datetime
    every: timedelta

    @property
    def oldest(self) -> datetime:
        """The time of the oldest that may come late."""
        return self.start - LATEST

    def bound(self) -> dict[str, Any]:
        """What the texts of this module bind."""
        width = self.end - self.start
        two_looks = min(width / 2, max(_LOOK, 2 * self.every))
        late = width - max(two_looks, min(width, self.every))
        return {
            "start": clock.to_micros(self.start),
            "half": max(1, _micros(width / 2)),
            "late": _micros(late),
            "latest": _micros(LATEST),
        }

    def in_time_or_late(self, late: str = _IS_LATE) -> list[Condition]:
        """What is of the window, or was accepted within it too late to be seen in its own."""
        return [
            *_during("timestamp", self.oldest, self.end, "looked_"),
            Condition(f"(timestamp >= {_START} OR ({late}))", self.bound()),
        ]


def _micros(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def _is_late_call() -> str:
    """A call that another source told before was judged then."""
    late = among("call_id", "calls", Condition(f"timestamp < {_START} AND {_IS_LATE}")).sql
    told = f"{late} AND (accepted_at < {_START} OR {_DELAY} < {{late:Int64}})"
    return f"{_IS_LATE} AND NOT ({among('call_id', 'calls', Condition(told)).sql})"


def _of_calls(span: _Span, named: Mapping[str, str], value: str, *, timed: bool = True) -> Select:
    within = [*span.in_time_or_late(_is_late_call()), *_named(_OF_CALLS, named)]
    shown = (
        f"{value} AS value, {_BEGAN} AS began, count() AS calls, countIf(is_error) AS errors, "
        f"countIf({_COST} IS NOT NULL) AS priced, "
        f"sum(toDecimal256(ifNull({_COST}, 0), 18)) AS cost, "
        f"count(latency) AS timed, {'quantileTDigest(0.95)(latency)' if timed else 'NULL'} AS p95"
    )
    return Select(
        ", ".join(_COLUMNS),
        "calls",
        _during("timestamp", span.oldest - _SKEW, span.end + _SKEW, "seen_"),
        BEST,
        _parameters(within),
        [(shown, f"WHERE {_sql(within)} GROUP BY value, began")],
        early=[moment("accepted_at >=", "accepted", clock.to_micros(span.start - _SKEW))],
    )


def _of_scores(span: _Span, named: Mapping[str, str], value: str) -> Select:
    within = [
        Condition("isFinite(score)"),
        *span.in_time_or_late(),
        *_named(_OF_SCORES, named),
    ]
    score = "multiIf(raw = 'true', 1., raw = 'false', 0., toFloat64OrNull(raw)) AS score"
    shown = f"{value} AS value, {_BEGAN} AS began, count() AS count, avg(score) AS mean"
    return Select(
        f"{_SCORE} AS raw, {_NAME} AS name, {score}, provider, model, timestamp, accepted_at",
        "events",
        [
            Condition("event = '$ai_metric'"),
            moment("accepted_at >=", "accepted", clock.to_micros(span.start - _SKEW)),
            *_during("timestamp", span.oldest, span.end, "seen_"),
        ],
        parameters=_parameters(within),
        around=[(shown, f"WHERE {_sql(within)} GROUP BY value, began")],
    )


def _calls(row: Mapping[str, Any]) -> Calls:
    timed = int(row["timed"])
    return Calls(
        value=row["value"],
        calls=int(row["calls"]),
        errors=int(row["errors"]),
        priced=int(row["priced"]),
        cost=Decimal(row["cost"]),
        timed=timed,
        p95=float(row["p95"]) if timed and row["p95"] is not None else None,
        began=int(row["began"]),
    )


def _scores(row: Mapping[str, Any]) -> Scores:
    mean = Decimal(str(row["mean"]))
    return Scores(row["value"], int(row["count"]), mean, int(row["began"]))


def _values(
    rows: Sequence[Mapping[str, Any]],
    read: Callable[[Mapping[str, Any]], _Measured],
    beyond: Beyond,
) -> list[Values[_Measured]]:
    late = [row for row in rows if int(row["began"])]
    now = [row for row in rows if not int(row["began"])]
    return [_values_of_part(part, read, beyond) for part in (now, late)]


def _values_of_part(
    rows: Sequence[Mapping[str, Any]],
    read: Callable[[Mapping[str, Any]], _Measured],
    beyond: Beyond,
) -> Values[_Measured]:
    known = [read(row) for row in rows if row["besides"]]
    others = [row for row in rows if not row["besides"]]
    found = [*known, *map(read, others[: beyond.most])]
    if len(others) <= beyond.most:
        return Values(found)
    return Values(found, int(others[0]["others"]) - beyond.most, read(others[beyond.most]))


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
