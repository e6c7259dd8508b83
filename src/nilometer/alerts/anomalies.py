"""Unusual spend, by a method that has a name.

`seasonal_robust_z`: what is spent is compared with the same place of earlier cycles (a day with the
same weekday of earlier weeks, an hour with the same hour of earlier days).

1. A value's *level* is the median of the cycle before it, so growth is no anomaly, and one spike
   moves it little. Its *ratio* is the value by its level.
2. What is expected is the level of now, times the median ratio of the same place of earlier cycles.
3. Every earlier value differs from what its own level and place let expect. The median of these
   differences (each a share of what was expected), made comparable with a standard deviation of
   normal noise by 1.4826, is the *scale*: the usual noise.
4. The *score* is how many scales the value is above what is expected.

Nothing but medians, so that spikes in the history hardly count. The tested value is in none of
them. Where fewer cycles are known than `MIN_CYCLES`, the median of all earlier values is expected,
with their own median deviation (`robust_z`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from statistics import median

from nilometer.errors import InvalidInput

SEASONAL = "seasonal_robust_z"
PLAIN = "robust_z"

DAYS_OF_WEEK = 7
HOURS_OF_DAY = 24
MIN_CYCLES = 3
"""Earlier cycles that say what is usual for a place of one; the first gives a level alone."""
MAX_CYCLES = 9
"""More are not looked at."""

_NORMAL = Decimal("1.4826")
_CONTEXT = Context(prec=34, rounding=ROUND_HALF_EVEN)
_SHOWN = Decimal("0.01")
_CENT_OF_A_CENT = Decimal("0.0001")
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """When a value is an anomaly: all of these at once. Raises InvalidInput.

    `score` scales and `min_percent` percent above what is expected, and `min_amount` dollars;
    `min_history` earlier values are needed, of which a quarter has to be more than 0. `floor` is
    the least scale, in percent of what is expected: spend that never varies is no reason to tell of
    a cent.
    """

    score: Decimal = Decimal(5)
    min_percent: Decimal = Decimal(30)
    min_amount: Decimal = Decimal(1)
    min_history: int = 7
    floor: Decimal = Decimal(5)

    def __post_init__(self) -> None:
        for name in ("score", "min_percent", "min_amount", "floor"):
            value: Decimal = getattr(self, name)
            if not value.is_finite() or not 0 <= value <= 10**9:
                raise InvalidInput(f"{name} is a number of 0 or more.", attr=name)
        if not 3 <= self.min_history <= DAYS_OF_WEEK * MAX_CYCLES:
            raise InvalidInput(
                f"min_history is from 3 to {DAYS_OF_WEEK * MAX_CYCLES}.", attr="min_history"
            )


DEFAULT = Sensitivity()


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A value that is too high. `expected` is an estimate, to a hundredth of a cent, as `score` is
    to a hundredth; `history` is how many earlier values it is compared with."""

    method: str
    value: Decimal
    expected: Decimal
    score: Decimal
    history: int

    @property
    def excess(self) -> Decimal:
        """How much more it is, in dollars."""
        return self.value - self.expected


@dataclass(frozen=True, slots=True)
class _Usual:
    method: str
    expected: Decimal
    scale: Decimal


def detect(
    history: Sequence[Decimal],
    value: Decimal,
    *,
    cycle: int = DAYS_OF_WEEK,
    sensitivity: Sensitivity = DEFAULT,
) -> Anomaly | None:
    """Whether `value` is too high after `history`: the values before it, oldest first, one for each
    day (or hour) without a gap, 0 where nothing was spent; what is before the first spend is no
    history. `cycle` is how many make one: 7 days, 24 hours.

    The value may be that of a day which is not over: what it is above already, it stays above.
    """
    known = _begun(history)[-cycle * MAX_CYCLES :]
    if len(known) < sensitivity.min_history or 4 * sum(map(bool, known)) < len(known):
        return None
    usual = _seasonal(known, cycle) or _plain(known)
    excess = value - usual.expected
    least = max(
        usual.scale,
        _percent(usual.expected, sensitivity.floor),
        _CENT_OF_A_CENT,
    )
    score = _CONTEXT.divide(excess, least)
    enough = max(sensitivity.min_amount, _percent(usual.expected, sensitivity.min_percent))
    if score < sensitivity.score or excess < enough or excess <= 0:
        return None
    return Anomaly(
        usual.method,
        value,
        usual.expected.quantize(_CENT_OF_A_CENT, context=_CONTEXT),
        score.quantize(_SHOWN, context=_CONTEXT),
        len(known),
    )


def _begun(history: Sequence[Decimal]) -> Sequence[Decimal]:
    first = next((place for place, value in enumerate(history) if value), len(history))
    return history[first:]


def _seasonal(known: Sequence[Decimal], cycle: int) -> _Usual | None:
    """What is usual at this place of the cycle; None where too little is known of it."""
    if len(known) < cycle * (MIN_CYCLES + 1):
        return None
    ratios = {
        place: _CONTEXT.divide(known[place], level)
        for place in range(cycle, len(known))
        if (level := median(known[place - cycle : place]))
    }
    typical: dict[int, Decimal] = {}
    for phase in range(cycle):
        same = [ratio for place, ratio in ratios.items() if (place - len(known)) % cycle == phase]
        if len(same) < MIN_CYCLES:
            return None
        typical[phase] = median(same)
    level = median(known[-cycle:])
    expected = _CONTEXT.multiply(level, typical[0])
    if expected <= 0:
        return None
    shares = [
        abs(_CONTEXT.divide(ratio, usual) - 1)
        for place, ratio in ratios.items()
        if (usual := typical[(place - len(known)) % cycle])
    ]
    scale = _CONTEXT.multiply(_CONTEXT.multiply(median(shares), _NORMAL), expected)
    return _Usual(SEASONAL, expected, scale)


def _plain(known: Sequence[Decimal]) -> _Usual:
    expected = median(known)
    deviation = median(abs(value - expected) for value in known)
    return _Usual(PLAIN, expected, _CONTEXT.multiply(deviation, _NORMAL))


def _percent(amount: Decimal, percent: Decimal) -> Decimal:
    return _CONTEXT.divide(_CONTEXT.multiply(amount, percent), Decimal(100))
