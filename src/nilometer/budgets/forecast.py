"""What a period will have cost at its end, by a method that has a name.

`trailing_week`: what was spent so far, and for the rest of the period the mean rate of the last
seven days. Whole weeks, because spend has weekdays; the days before the period too, because the
first hours of a month say little. Where the first call is less than a week ago the rate is that
since it, and since an hour at least. It knows no trend and no season.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal

from nilometer.budgets.periods import Bounds
from nilometer.budgets.spend import Spent

TRAILING_WEEK = "trailing_week"
WINDOW = timedelta(days=7)

_LEAST = timedelta(hours=1)
_MICROSECOND = timedelta(microseconds=1)
_CONTEXT = Context(prec=50, rounding=ROUND_HALF_EVEN)
_CENT_OF_A_CENT = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Forecast:
    """`cost` is an estimate, to a hundredth of a cent. `limit_at` is when the limit would be
    reached; None where it is not within the period, and where it is reached already."""

    method: str
    cost: Decimal
    limit_at: datetime | None


def trailing_week(
    spent: Spent, recent: Spent, bounds: Bounds, limit: Decimal, now: datetime
) -> Forecast:
    """`spent` is that of the period so far, `recent` that of the `WINDOW` before `now`."""
    window = WINDOW if recent.first_at is None else now - recent.first_at
    window = min(max(window, _LEAST), WINDOW)
    rest = max(bounds.end - now, timedelta())
    more = _share(recent.cost, rest, window)
    cost = (spent.cost + more).quantize(_CENT_OF_A_CENT, context=_CONTEXT)
    return Forecast(TRAILING_WEEK, cost, _limit_at(spent, recent.cost, window, limit, now, rest))


def _limit_at(
    spent: Spent, rate: Decimal, window: timedelta, limit: Decimal, now: datetime, rest: timedelta
) -> datetime | None:
    """When `rate` in each `window` makes up what is left."""
    left = limit - spent.cost
    if left <= 0 or rate <= 0 or _share(rate, rest, window) < left:
        return None
    micros = _CONTEXT.divide(left * (window // _MICROSECOND), rate)
    return now + timedelta(microseconds=int(micros))


def _share(rate: Decimal, rest: timedelta, window: timedelta) -> Decimal:
    return _CONTEXT.divide(rate * (rest // _MICROSECOND), Decimal(window // _MICROSECOND))
