"""The noun of this room, and what it may be. What cannot be is InvalidInput."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

from nilometer.alerts.anomalies import DEFAULT, Sensitivity
from nilometer.alerts.kinds import MEASURES, WHOLE, Kind, Measure, Source
from nilometer.budgets.budget import MAX_NAME, MAX_VALUE
from nilometer.errors import InvalidInput

MAX_CHANNELS = 20
MAX_CALLS = 1_000_000_000
SEVERITIES = ("low", "medium", "high", "critical")

_WINDOWS = (timedelta(minutes=1), timedelta(days=7))
_LONGEST = timedelta(days=7)
_MOST = Decimal(10) ** 15
_FINEST = -18
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Condition:
    """When a rule fires: what is measured over the last `window`, by no fewer than `min_calls`, is
    at the threshold or above it (of some kinds: below it), for as long as `holds_for`. It fires
    once until it has recovered, and not within `cooldown` of the time before."""

    threshold: Decimal
    window: timedelta
    min_calls: int = 0
    holds_for: timedelta = timedelta(0)
    cooldown: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold)
        shortest, longest = _WINDOWS
        if not shortest <= self.window <= longest:
            raise InvalidInput("window_seconds is from 60 to 604800.", attr="window_seconds")
        if not 0 <= self.min_calls <= MAX_CALLS:
            raise InvalidInput(f"min_calls is from 0 to {MAX_CALLS}.", attr="min_calls")
        for attr, value in (("for_seconds", self.holds_for), ("cooldown_seconds", self.cooldown)):
            if not timedelta(0) <= value <= _LONGEST:
                raise InvalidInput(f"{attr} is from 0 to 604800.", attr=attr)


@dataclass(frozen=True, slots=True)
class RaisedAs:
    """The exception that a rule raises when it fires."""

    exception_type: str
    severity: str

    def __post_init__(self) -> None:
        if not _TYPE.fullmatch(self.exception_type):
            raise InvalidInput(
                "exception_type is 1 to 100 letters, digits, and _ . -, a letter first.",
                attr="exception_type",
            )
        if self.severity not in SEVERITIES:
            raise InvalidInput(f"severity is one of {', '.join(SEVERITIES)}.", attr="severity")


@dataclass(frozen=True, slots=True)
class AlertRule:
    """Looks for one kind of thing in a project.

    It looks at everything (`dimension` project), at the one thing that `value` names, or, where it
    is "", at each value of the dimension by itself; of these only what also has the values of
    `filters`. `condition` says when it fires, but of days of unusual spend `sensitivity`. It raises
    an exception unless `raised_as` is None; `channels` are as a budget's, () for none.
    """

    id: str
    name: str
    dimension: str = WHOLE
    value: str = ""
    sensitivity: Sensitivity = DEFAULT
    channels: tuple[str, ...] | None = None
    kind: Kind = Kind.SPEND_UNUSUAL
    condition: Condition | None = None
    filters: Mapping[str, str] = field(default_factory=dict[str, str])
    raised_as: RaisedAs | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= MAX_NAME or not self.name.isprintable():
            raise InvalidInput(
                f"name is a text of 1 to {MAX_NAME} printable characters.", attr="name"
            )
        if self.dimension not in self.measure.dimensions:
            names = ", ".join(self.measure.dimensions)
            raise InvalidInput(f"dimension of {self.kind} is one of {names}.", attr="dimension")
        _check_value("value", self.value)
        if self.value and self.dimension == WHOLE:
            raise InvalidInput("A rule of the whole project has no value.", attr="value")
        if self.kind is Kind.MISSING_TRAFFIC and self.dimension != WHOLE and not self.value:
            raise InvalidInput("What is missing has to be named.", attr="value")
        self._check_filters()
        if (self.condition is None) is not (self.measure.source is Source.DAYS):
            raise InvalidInput(f"threshold is what a rule of {self.kind} needs.", attr="threshold")
        if self.channels is not None and len(set(self.channels)) > MAX_CHANNELS:
            raise InvalidInput(f"There are at most {MAX_CHANNELS} channels.", attr="channels")

    @property
    def measure(self) -> Measure:
        """What its kind measures."""
        return MEASURES[self.kind]

    @property
    def named(self) -> Mapping[str, str]:
        """The values that whatever it looks at must have, by dimension."""
        own = {self.dimension: self.value} if self.value else {}
        return {
            name: value.lower() if name == "service" else value
            for name, value in {**self.filters, **own}.items()
        }

    @property
    def each(self) -> str | None:
        """The dimension whose values it looks at one by one; None for one number."""
        return None if self.dimension == WHOLE or self.value else self.dimension

    def _check_filters(self) -> None:
        possible = set(self.measure.dimensions) - {WHOLE, self.dimension}
        if unknown := set(self.filters) - possible:
            raise InvalidInput(
                f"filters of this rule are of {', '.join(sorted(possible)) or 'nothing'}, "
                f"not of {min(unknown)[:MAX_NAME]!r}.",
                attr="filters",
            )
        for value in self.filters.values():
            _check_value("filters", value)
            if not value:
                raise InvalidInput("A filter has a value.", attr="filters")


def check_number(attr: str, value: Decimal) -> None:
    """Raises InvalidInput, naming `attr`, for what is no number of 0 or more that can be kept."""
    exponent = value.as_tuple().exponent if value.is_finite() else None
    if not isinstance(exponent, int) or exponent < _FINEST or not 0 <= value < _MOST:
        raise InvalidInput(f'{attr} is a number of 0 or more as text: "2.5".', attr=attr)


def _check_value(attr: str, value: str) -> None:
    if len(value) > MAX_VALUE or not value.isprintable():
        raise InvalidInput(
            f"{attr} is a text of at most {MAX_VALUE} printable characters.", attr=attr
        )
