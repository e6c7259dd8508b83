"""Unusual days: a rule, and what it finds in the usage of any host of the aggregation contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from nilometer.budgets.anomalies import (
    DAYS_OF_WEEK,
    DEFAULT,
    MAX_CYCLES,
    Anomaly,
    Sensitivity,
    detect,
)
from nilometer.budgets.budget import MAX_NAME, MAX_VALUE
from nilometer.errors import InvalidInput
from nilometer.usage.groups import Group, Groups
from nilometer.usage.query import MAX_LIMIT, UsageQuery

EVERYTHING = "project"
DIMENSIONS = (EVERYTHING, "service", "model", "user", "job", "environment")
"""What a rule looks at: the project's spend, or that of each value of a dimension."""
HISTORY_DAYS = DAYS_OF_WEEK * MAX_CYCLES
MAX_VALUES = 50
"""Of a dimension so many values are looked at, those that cost most on the day."""
MAX_CHANNELS = 20

Read = Callable[[UsageQuery], Groups]
"""A host of the aggregation contract, within one project."""


@dataclass(frozen=True, slots=True)
class AlertRule:
    """Tells of days on which one thing, or each value of a dimension where `value` is "", cost
    unusually much. Raises InvalidInput. `channels` are as a budget's."""

    id: str
    name: str
    dimension: str = EVERYTHING
    value: str = ""
    sensitivity: Sensitivity = DEFAULT
    channels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= MAX_NAME or not self.name.isprintable():
            raise InvalidInput(
                f"name is a text of 1 to {MAX_NAME} printable characters.", attr="name"
            )
        if self.dimension not in DIMENSIONS:
            raise InvalidInput(f"dimension is one of {', '.join(DIMENSIONS)}.", attr="dimension")
        if len(self.value) > MAX_VALUE or not self.value.isprintable():
            raise InvalidInput(
                f"value is a text of at most {MAX_VALUE} printable characters.", attr="value"
            )
        if self.value and self.dimension == EVERYTHING:
            raise InvalidInput("A rule of the whole project has no value.", attr="value")
        if self.channels is not None and len(set(self.channels)) > MAX_CHANNELS:
            raise InvalidInput(f"There are at most {MAX_CHANNELS} channels.", attr="channels")


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
    if rule.dimension == EVERYTHING or rule.value:
        return [rule.value.lower() if rule.dimension == "service" else rule.value]
    query = UsageQuery(day, day, levels=(), group_by=(rule.dimension,), limit=MAX_LIMIT)
    costs = {key: _cost(group) for (key,), group in read(query).combined.items()}
    enough = [key for key, cost in costs.items() if cost >= rule.sensitivity.min_amount]
    return sorted(enough, key=lambda key: (-costs[key], key))[:MAX_VALUES]


def _costs(read: Read, rule: AlertRule, value: str, day: date) -> dict[date, Decimal]:
    filters = {} if rule.dimension == EVERYTHING else {rule.dimension: value}
    start = day - timedelta(days=HISTORY_DAYS)
    groups = read(UsageQuery(start, day, filters, levels=("day",))).levels["day"]
    return {date.fromisoformat(key): _cost(group) for key, group in groups.items()}


_NOTHING = Decimal(0)


def _cost(group: Group) -> Decimal:
    return group.cost or _NOTHING
