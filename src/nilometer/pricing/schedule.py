"""When each price of a model of the book holds: dates, hours of the day, and tiers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import TYPE_CHECKING

from nilometer.pricing.listing import rates
from nilometer.pricing.rates import Rates
from nilometer.pricing.tiers import CONTEXTS, STANDARD

if TYPE_CHECKING:
    from genai_prices.types import ConditionalPrice, ModelPrice, PriceVariant, TimeOfDateConstraint

    from nilometer.pricing.book import Entry


# The book has DeepSeek's hours without their days.
# 1. Its discount by night began with the night of 2025-02-27 in Beijing (the press of that day) and
# ended with the prices of V3.1, which the book does not have: "New pricing starts & off-peak
# discounts end at Sep 5th, 2025, 16:00 (UTC Time)", https://api-docs.deepseek.com/news/news250821.
# 2. Its peak hours of 2026 are no longer of weekends: "Effective 00:00 (Beijing Time) on Sunday,
# August 23, 2026 ... off-peak rates applying throughout the day on weekends",
# https://api-docs.deepseek.com/quick_start/pricing in August 2026.
_DISCOUNTED_DAY = time(0, 30, tzinfo=UTC)
_DISCOUNT = (datetime(2025, 2, 26, 16, 30, tzinfo=UTC), datetime(2025, 9, 5, 16, tzinfo=UTC))
_WEEKENDS_OFF_PEAK = datetime(2026, 8, 22, 16, tzinfo=UTC)
_BEIJING = timezone(timedelta(hours=8))
_SATURDAY = 5


@dataclass(frozen=True, slots=True)
class Dated:
    """Rates, and the date that the book has them from; None where it gives none."""

    rates: Rates
    as_of: date | None


@dataclass(frozen=True, slots=True)
class _Rule:
    since: date | None
    hours: TimeOfDateConstraint | None
    prices: ModelPrice
    weekdays: bool = False

    def active(self, at: datetime) -> bool:
        begun = self.since is None or at.date() >= self.since
        return begun and (self.hours is None or (self.hours.active(at) and self._is_workday(at)))

    def _is_workday(self, at: datetime) -> bool:
        if not self.weekdays or at < _WEEKENDS_OFF_PEAK:
            return True
        return at.astimezone(_BEIJING).weekday() < _SATURDAY


class Schedule:
    """The prices of one model in one tier, over time. Safe between threads.

    The last rule that holds is the price. A rule for hours of the day belongs to the dated rule
    before it: the book lists DeepSeek's peak hours of 2026 behind that year's prices, and they are
    no part of the years before.
    """

    def __init__(self, entry: Entry, tier: str) -> None:
        self._entry = entry
        self._tier = tier
        self._rules = _rules(entry)
        self._variants = [] if tier == STANDARD else _variants(entry, tier)
        self._discounted = _is_deepseeks(entry) and any(
            rule.since is None and rule.hours and rule.hours.start_time == _DISCOUNTED_DAY
            for rule in self._rules
        )
        only = self._rules[0]
        fixed = len(self._rules) == 1 and only.since is None and only.hours is None
        self._always = (
            Dated(rates(entry, only.prices, []), None) if fixed and tier == STANDARD else None
        )
        self._made: dict[tuple[int, tuple[int, ...]], Dated] = {}

    def at(self, moment: datetime) -> Dated | str:
        """What holds at an aware moment, or `tier_unpriced:` and the tier, or
        `no_price_at_time`."""
        if self._always is not None:
            return self._always
        moment = moment.astimezone(UTC)
        rule = _last_active(self._rules, moment)
        if rule is None or not self._is_known(self._rules[rule], moment):
            return "no_price_at_time"
        chosen = tuple(n for n, each in enumerate(self._variants) if each.active(moment))
        if self._tier != STANDARD and not chosen:
            return f"tier_unpriced:{self._tier}"
        key = (rule, chosen)
        dated = self._made.get(key)
        if dated is None:
            dated = self._made[key] = self._make(rule, chosen)
        return dated

    def _is_known(self, rule: _Rule, moment: datetime) -> bool:
        """Whether the book has this moment's price; not outside the time of a discount by hour."""
        begins, ends = _DISCOUNT
        return not self._discounted or rule.since is not None or begins <= moment < ends

    def _make(self, rule: int, chosen: tuple[int, ...]) -> Dated:
        picked = [self._variants[n] for n in chosen]
        dates = [each.since for each in (self._rules[rule], *picked) if each.since]
        prices = rates(self._entry, self._rules[rule].prices, [each.prices for each in picked])
        return Dated(prices, max(dates, default=None))


def _rules(entry: Entry) -> list[_Rule]:
    listed = entry.model.prices
    if not isinstance(listed, list):
        return [_Rule(None, None, listed)]
    since: date | None = None
    found: list[_Rule] = []
    for each in listed:
        since, hours = _constraint(each, since)
        found.append(_Rule(since, hours, each.prices, weekdays=_is_deepseeks(entry)))
    return found


def _is_deepseeks(entry: Entry) -> bool:
    """Of DeepSeek's own prices, at DeepSeek or resold at them."""
    return entry.model.id.startswith("deepseek-") and (
        entry.provider == "deepseek" or not entry.own
    )


def _variants(entry: Entry, tier: str) -> list[_Rule]:
    if not entry.own:
        return []  # a reseller's tiers are not its maker's
    wanted = [{name: value} for name, value in CONTEXTS.get(tier, ())]
    found: list[_Rule] = []
    for each in entry.model.price_variants or ():
        if each.when in wanted:
            since, hours = _constraint(each, None)
            found.append(_Rule(since, hours, each.prices))
    return found


def _constraint(
    price: ConditionalPrice | PriceVariant, before: date | None
) -> tuple[date | None, TimeOfDateConstraint | None]:
    from genai_prices.types import StartDateConstraint

    constraint = price.constraint
    if isinstance(constraint, StartDateConstraint):
        return constraint.start_date, None
    return before, constraint


def _last_active(rules: list[_Rule], at: datetime) -> int | None:
    return next((n for n in reversed(range(len(rules))) if rules[n].active(at)), None)
