"""What a budget's spend comes to: pure, given what was spent.

`assess` asks a `Spend` for everything that some budgets need, at once, and evaluates them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Context, Decimal

from nilometer.budgets.budget import Budget
from nilometer.budgets.forecast import WINDOW, Forecast, trailing_week
from nilometer.budgets.periods import Bounds, before, bounds, zone
from nilometer.budgets.spend import Span, Spend, Spent

LATE = timedelta(hours=24)
"""For so long after a period's end usage of it that comes late still fires its thresholds."""

MAX_CARRIED = 12
"""What is left over is followed through at most so many earlier periods."""

_HUNDRED = Decimal(100)
_EXACT = Context(prec=80)
_TOLD = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One budget in one period. `limit` is `amount` and what `carried` over; `crossed` are the
    thresholds that are reached; `stops` says that the check says no."""

    budget: Budget
    bounds: Bounds
    spent: Spent
    amount: Decimal
    carried: Decimal
    limit: Decimal
    crossed: tuple[int, ...]
    stops: bool
    forecast: Forecast | None = None

    @property
    def percent(self) -> Decimal:
        """Of the limit, rounded down to two digits: 100 is said of nothing less. To be shown;
        what is decided is decided exactly."""
        share = _EXACT.divide(_EXACT.multiply(self.spent.cost, _HUNDRED), self.limit)
        return share.quantize(_TOLD, rounding=ROUND_DOWN, context=_EXACT)

    @property
    def left(self) -> Decimal:
        """What may still be spent; 0 when it is all."""
        return max(_EXACT.subtract(self.limit, self.spent.cost), Decimal(0))

    def reaches(self, threshold: int) -> bool:
        """Whether so many percent of the limit are spent."""
        return reaches(self.spent.cost, self.limit, threshold)


@dataclass(frozen=True, slots=True)
class Assessment:
    """A budget in its current period, and in the one before where that ended less than `LATE` ago
    (and the budget was there)."""

    current: Evaluation
    late: Evaluation | None

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Both, the earlier first."""
        return (self.current,) if self.late is None else (self.late, self.current)


def reaches(cost: Decimal, limit: Decimal, threshold: int) -> bool:
    """Whether a cost is so many percent of a limit, exactly."""
    return _EXACT.multiply(cost, _HUNDRED) >= _EXACT.multiply(limit, Decimal(threshold))


def evaluate(
    budget: Budget,
    period: Bounds,
    spent: Spent,
    *,
    carried: Decimal = Decimal(0),
    forecast: Forecast | None = None,
) -> Evaluation:
    """A budget in a period, given what was spent in it and what the one before left over."""
    amount = budget.amount_of(period)
    limit = _EXACT.add(amount, carried)
    return Evaluation(
        budget=budget,
        bounds=period,
        spent=spent,
        amount=amount,
        carried=carried,
        limit=limit,
        crossed=tuple(each for each in budget.thresholds if reaches(spent.cost, limit, each)),
        stops=budget.hard_stop and spent.cost >= limit,
        forecast=forecast,
    )


def left_over(evaluation: Evaluation) -> Decimal:
    """What a period that has ended leaves to the next."""
    cap = evaluation.budget.rollover_cap
    return Decimal(0) if cap is None else min(evaluation.left, cap)


def assess(
    spend: Spend, budgets: Iterable[Budget], now: datetime, *, forecasts: bool = False
) -> list[Assessment]:
    """Every budget as it stands at `now`, by one question to the store. Raises Unavailable."""
    planned = [(budget, _periods(budget, now)) for budget in budgets]
    spans = dict.fromkeys(
        span for budget, periods in planned for span in _spans(budget, periods, now, forecasts)
    )
    found = dict(zip(spans, spend.of(list(spans)) if spans else (), strict=True))
    return [_assessed(budget, periods, found, now) for budget, periods in planned]


def _periods(budget: Budget, now: datetime) -> list[Bounds]:
    """The current period, and before it, oldest first, those of which something is asked."""
    time_zone = zone(budget.time_zone)
    periods = [bounds(budget.period, time_zone, now)]
    late = int(now - periods[0].start < LATE)
    # The one before keeps the limit that it had, of what came over from as many before it.
    wanted = late if budget.rollover_cap is None else MAX_CARRIED + late
    while len(periods) <= wanted and periods[0].start > budget.created_at:
        periods.insert(0, before(budget.period, time_zone, periods[0]))
    return periods


def _spans(budget: Budget, periods: Sequence[Bounds], now: datetime, forecasts: bool) -> list[Span]:
    spans = [_span(budget, each) for each in periods]
    return [*spans, _recent(budget, now)] if forecasts else spans


def _span(budget: Budget, period: Bounds) -> Span:
    return Span(budget.scope, period.start, period.end)


def _recent(budget: Budget, now: datetime) -> Span:
    return Span(budget.scope, now - WINDOW, now, first=True)


def _assessed(
    budget: Budget, periods: Sequence[Bounds], found: dict[Span, Spent], now: datetime
) -> Assessment:
    *earlier, last = periods
    spent, carried = found[_span(budget, last)], _carried(budget, earlier, found)
    limit = _EXACT.add(budget.amount_of(last), carried)
    recent = found.get(_recent(budget, now))
    forecast = None if recent is None else trailing_week(spent, recent, last, limit, now)
    current = evaluate(budget, last, spent, carried=carried, forecast=forecast)
    if not earlier or now - last.start >= LATE:
        return Assessment(current, None)
    *earlier, late = earlier
    carried = _carried(budget, earlier, found)
    return Assessment(current, evaluate(budget, late, found[_span(budget, late)], carried=carried))


def _carried(budget: Budget, earlier: Sequence[Bounds], found: dict[Span, Spent]) -> Decimal:
    """What earlier periods leave to the next, followed through the last `MAX_CARRIED` of them."""
    carried = Decimal(0)
    for period in earlier[-MAX_CARRIED:]:
        spent = found[_span(budget, period)]
        carried = left_over(evaluate(budget, period, spent, carried=carried))
    return carried
