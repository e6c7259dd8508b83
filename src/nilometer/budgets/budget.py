"""The noun of this room, and what it may be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from nilometer.budgets.periods import Bounds, Period, zone
from nilometer.errors import InvalidInput

MAX_NAME = 100
MAX_VALUE = 500
"""The longest value of a scope, in characters."""
MAX_THRESHOLDS = 10
MAX_THRESHOLD = 1000
MAX_CHANNELS = 20
MAX_PAST_AMOUNTS = 50
"""Earlier amounts that a budget keeps: the last ones."""
MAX_USD = Decimal(10) ** 15
"""Amounts are below it and have at most 18 digits after the point, as every amount here has."""
DEFAULT_THRESHOLDS = (50, 80, 100)

_FINEST = -18


class ScopeKind(StrEnum):
    """What a budget is for: all projects of its organization (`global`), its project, or the calls
    of its project that have one service, model, user, job or environment."""

    GLOBAL = "global"
    PROJECT = "project"
    SERVICE = "service"
    MODEL = "model"
    USER = "user"
    JOB = "job"
    ENVIRONMENT = "environment"


WHOLE = frozenset({ScopeKind.GLOBAL, ScopeKind.PROJECT})
"""The kinds that have no value."""


@dataclass(frozen=True, slots=True)
class BudgetScope:
    """Which calls count: a kind, and the exact value that they have ("" for the kinds in `WHOLE`).
    Services are written in lower case. Raises InvalidInput."""

    kind: ScopeKind
    value: str = ""

    def __post_init__(self) -> None:
        if self.kind in WHOLE:
            if self.value:
                raise InvalidInput(f"A {self.kind} budget has no value.", attr="value")
            return
        if not 1 <= len(self.value) <= MAX_VALUE or not self.value.isprintable():
            raise InvalidInput(
                f"value is the {self.kind}: 1 to {MAX_VALUE} printable characters.",
                attr="value",
            )
        if self.kind is ScopeKind.SERVICE:
            object.__setattr__(self, "value", self.value.strip().lower())

    def __str__(self) -> str:
        return f"{self.kind} {self.value}" if self.value else str(self.kind)


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount in US dollars for each period of a calendar. What cannot be is InvalidInput.

    `thresholds` are whole percents of the limit, ascending. `rollover_cap` is how much of what is
    unspent carries over at most; None for nothing. `hard_stop` has the check say no once the limit
    is reached. `channels` are the ids of those that are notified; None for every one of the
    project. `raise_exception` has a server raise an exception when thresholds fire. `past_amounts`
    are earlier amounts and until when each held, oldest first; what an earlier period left over is
    of the amount that held at its end.
    """

    id: str
    name: str
    scope: BudgetScope
    amount: Decimal
    period: Period
    created_at: datetime
    time_zone: str = "UTC"
    thresholds: tuple[int, ...] = DEFAULT_THRESHOLDS
    rollover_cap: Decimal | None = None
    hard_stop: bool = False
    channels: tuple[str, ...] | None = None
    past_amounts: tuple[tuple[datetime, Decimal], ...] = ()
    raise_exception: bool = False

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError("a datetime without a time zone is ambiguous; give one with a zone")
        if not 1 <= len(self.name) <= MAX_NAME or not self.name.isprintable():
            raise InvalidInput(
                f"name is a text of 1 to {MAX_NAME} printable characters.", attr="name"
            )
        _check_usd("amount_usd", self.amount)
        if self.amount <= 0:
            raise InvalidInput("amount_usd is more than 0.", attr="amount_usd")
        if self.rollover_cap is not None:
            _check_usd("rollover_cap_usd", self.rollover_cap)
        zone(self.time_zone)
        _check_thresholds(self.thresholds)
        if self.channels is not None and len(set(self.channels)) > MAX_CHANNELS:
            raise InvalidInput(f"There are at most {MAX_CHANNELS} channels.", attr="channels")

    def amount_of(self, bounds: Bounds) -> Decimal:
        """The amount of a period: the one that held, or holds, at its end."""
        held = (amount for until, amount in self.past_amounts if bounds.end <= until)
        return next(held, self.amount)

    def past_with(self, amount: Decimal, now: datetime) -> tuple[tuple[datetime, Decimal], ...]:
        """The `past_amounts` of this budget when it has another amount from `now` on."""
        if amount == self.amount:
            return self.past_amounts
        return (*self.past_amounts, (now, self.amount))[-MAX_PAST_AMOUNTS:]


def usd(name: str, text: str) -> Decimal:
    """An amount of US dollars from its decimal text. Raises InvalidInput, naming the field."""
    try:
        amount = Decimal(text) if len(text) <= 64 else Decimal("NaN")
    except ArithmeticError:
        amount = Decimal("NaN")
    _check_usd(name, amount)
    return amount


def plain(amount: Decimal) -> str:
    """The exact decimal text of an amount, without zeros at its end."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _check_usd(name: str, amount: Decimal) -> None:
    exponent = amount.as_tuple().exponent if amount.is_finite() else None
    if not isinstance(exponent, int) or exponent < _FINEST or not 0 <= amount < MAX_USD:
        raise InvalidInput(
            f'{name} is an amount of US dollars as text, such as "99.50", with at most '
            f"{-_FINEST} digits after the point.",
            attr=name,
        )


def _check_thresholds(thresholds: tuple[int, ...]) -> None:
    ascending = list(thresholds) == sorted(set(thresholds))
    possible = all(1 <= each <= MAX_THRESHOLD for each in thresholds)
    if not ascending or not possible or len(thresholds) > MAX_THRESHOLDS:
        raise InvalidInput(
            f"thresholds are at most {MAX_THRESHOLDS} different whole percents from 1 to "
            f"{MAX_THRESHOLD}, ascending.",
            attr="thresholds",
        )
