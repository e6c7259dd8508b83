"""Unusual days: a rule, and what it finds in the usage of any host of the aggregation contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from nilometer.alerts.anomalies import DAYS_OF_WEEK, MAX_CYCLES, Anomaly, detect
from nilometer.alerts.rule import AlertRule
from nilometer.usage.groups import Group, Groups
from nilometer.usage.query import MAX_LIMIT, UsageQuery

HISTORY_DAYS = DAYS_OF_WEEK * MAX_CYCLES
MAX_VALUES = 50
"""Of a dimension so many values are looked at, those that cost most on the day."""

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
    costs = {key: _cost(group) for (key,), group in read(query).combined.items()}
    enough = [key for key, cost in costs.items() if cost >= rule.sensitivity.min_amount]
    return sorted(enough, key=lambda key: (-costs[key], key))[:MAX_VALUES]


def _costs(read: Read, rule: AlertRule, value: str, day: date) -> dict[date, Decimal]:
    filters = {**rule.named, rule.dimension: value} if value else rule.named
    start = day - timedelta(days=HISTORY_DAYS)
    groups = read(UsageQuery(start, day, filters, levels=("day",))).levels["day"]
    return {date.fromisoformat(key): _cost(group) for key, group in groups.items()}


_NOTHING = Decimal(0)


def _cost(group: Group) -> Decimal:
    return group.cost or _NOTHING
