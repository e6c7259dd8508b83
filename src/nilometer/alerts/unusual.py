"""Unusual days: a rule, and what it finds in the usage of any host of the aggregation contract."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal

from nilometer.alerts.anomalies import DAYS_OF_WEEK, MAX_CYCLES, Anomaly, detect
from nilometer.alerts.rule import AlertRule
from nilometer.usage.groups import Group, Groups
from nilometer.usage.query import MAX_LIMIT, UsageQuery

HISTORY_DAYS = DAYS_OF_WEEK * MAX_CYCLES
MAX_VALUES = 50
"""Of a dimension so many values are looked at, those that cost most on the day."""
MOST_PAGES = 50
"""Of `MAX_LIMIT` values each: of a dimension that has more, those of the later names are passed
over."""

Read = Callable[[UsageQuery], Groups]
"""A host of the aggregation contract, within one project."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A day (UTC) on which a value of the rule's dimension cost unusually much."""

    day: date
    value: str
    anomaly: Anomaly


def unusual(read: Read, rule: AlertRule, day: date) -> list[Finding]:
    """What a rule finds on a day, which need not be over: what it cost so far is compared with
    whole days. Raises what `read` raises."""
    findings: list[Finding] = []
    for value in _values(read, rule, day):
        costs = _costs(read, rule, value, day)
        history = [costs.get(day - timedelta(days=n), _NOTHING) for n in range(HISTORY_DAYS, 0, -1)]
        found = detect(history, costs.get(day, _NOTHING), sensitivity=rule.sensitivity)
        if found is not None:
            findings.append(Finding(day, value, found))
    return findings


def _values(read: Read, rule: AlertRule, day: date) -> list[str]:
    if rule.each is None:
        return [rule.named.get(rule.dimension, "")]
    query = UsageQuery(day, day, rule.named, levels=(), group_by=(rule.dimension,), limit=MAX_LIMIT)
    enough = (each for each in _spent(read, query) if each[1] >= rule.sensitivity.min_amount)
    most = heapq.nsmallest(MAX_VALUES, enough, key=lambda each: (-each[1], each[0]))
    return [value for value, _ in most]


def _spent(read: Read, query: UsageQuery) -> Iterator[tuple[str, Decimal]]:
    """Each value and what it cost, from page to page."""
    for _ in range(MOST_PAGES):
        combined = read(query).combined
        # As in an answer: a host may leave out what is on other pages, or not.
        keys = sorted(key for key in combined if query.after is None or key > query.after)
        for key in keys[: query.limit]:
            yield key[0], _cost(combined[key])
        if len(keys) <= query.limit:
            return
        query = replace(query, after=keys[query.limit - 1])


def _costs(read: Read, rule: AlertRule, value: str, day: date) -> dict[date, Decimal]:
    filters = {**rule.named, rule.dimension: value} if value else rule.named
    start = day - timedelta(days=HISTORY_DAYS)
    groups = read(UsageQuery(start, day, filters, levels=("day",))).levels["day"]
    return {date.fromisoformat(key): _cost(group) for key, group in groups.items()}


_NOTHING = Decimal(0)


def _cost(group: Group) -> Decimal:
    return group.cost or _NOTHING
