"""What a report says: figures, a trend, tables by scope, movers, savings and notes.

Amounts are exact, None where calls are unpriced and none is priced. Every form (terminal, Markdown,
HTML, CSV, JSON, Parquet) is written from this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact
from typing import Any

_EXACT = Context(prec=80, traps=[Inexact])
_ROUNDED = Context(prec=60, rounding=ROUND_HALF_EVEN)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Period:
    """Days, both ends included, UTC."""

    start: date
    end: date

    @property
    def days(self) -> int:
        """How many."""
        return (self.end - self.start).days + 1


@dataclass(frozen=True, slots=True)
class Figures:
    """What some calls cost and consumed, in dollars and counts. `calls` were recorded and stand for
    `requests`; `errors` failed; `unpriced` succeeded at an unknown cost. `p50` and `p95` are
    seconds, None where no call has a latency."""

    cost: Decimal | None = Decimal(0)
    calls: int = 0
    requests: int = 0
    errors: int = 0
    unpriced: int = 0
    tokens: int = 0
    p50: float | None = None
    p95: float | None = None

    def plus(self, other: Figures) -> Figures:
        """Both together, as `minus` has them; percentiles do not add up."""
        known = [each for each in (self.cost, other.cost) if each is not None]
        return _counted(
            _EXACT.add(*known) if len(known) == 2 else next(iter(known), None),
            self.calls + other.calls,
            self.requests + other.requests,
            self.errors + other.errors,
            self.unpriced + other.unpriced,
            self.tokens + other.tokens,
        )

    def minus(self, other: Figures) -> Figures:
        """What is left of these without some of them: nothing known, where all that is left did
        not fail and is unpriced."""
        cost = None if self.cost is None else _EXACT.subtract(self.cost, other.cost or Decimal(0))
        return _counted(
            cost,
            self.calls - other.calls,
            self.requests - other.requests,
            self.errors - other.errors,
            self.unpriced - other.unpriced,
            self.tokens - other.tokens,
        )


def _counted(
    cost: Decimal | None, calls: int, requests: int, errors: int, unpriced: int, tokens: int
) -> Figures:
    """Figures whose cost is not known where none of the calls that did not fail has one."""
    unknown = unpriced and not cost and unpriced + errors == calls
    return Figures(None if unknown else cost, calls, requests, errors, unpriced, tokens)


NOTHING = Figures()


@dataclass(frozen=True, slots=True)
class Line:
    """The calls of one key: the values of a table's levels. `before` is None where the report
    compares with nothing."""

    key: tuple[str, ...]
    now: Figures
    before: Figures | None = None

    @property
    def change(self) -> Decimal | None:
        """How much more was spent than before; None where either is not known."""
        return difference(self.now, self.before)

    @property
    def percent(self) -> Decimal | None:
        """The change in percent of what was spent before; None where that is nothing."""
        return percent_of(self.change, self.before.cost if self.before else None)


@dataclass(frozen=True, slots=True)
class Table:
    """Calls by a combination of levels, the costliest first. `rest` is what has no value of one of
    the levels: a call without a job is in no line by job."""

    levels: tuple[str, ...]
    lines: tuple[Line, ...]
    rest: Line = Line((), NOTHING)

    @property
    def title(self) -> str:
        """As a heading has it."""
        return "By " + " and ".join(self.levels)

    def movers(self, count: int) -> list[Line]:
        """The lines whose cost changed most, the largest change first."""
        changed = [line for line in self.lines if line.change]
        return sorted(changed, key=lambda line: (-abs(line.change or 0), line.key))[:count]

    def split(self, count: int) -> tuple[tuple[Line, ...], Line | None]:
        """The first lines that still were called now, and the others together; None for none."""
        lines = tuple(line for line in self.lines if line.now.calls)
        if len(lines) <= count:
            return lines, None
        now, before = NOTHING, None if lines[0].before is None else NOTHING
        for line in lines[count:]:
            now = now.plus(line.now)
            if before is not None and line.before is not None:
                before = before.plus(line.before)
        return lines[:count], Line((f"{len(lines) - count:,} others",), now, before)


@dataclass(frozen=True, slots=True)
class Report:
    """A period, compared with the one before it or with none. `trend` has a line for each `step`
    (`hour`, `day` or `week`: the day that it begins on). `savings` is None where the source cannot
    tell, or was not asked."""

    source: str
    made_at: datetime
    period: Period
    previous: Period | None
    filters: Mapping[str, str]
    total: Line
    step: str
    trend: tuple[Line, ...]
    tables: tuple[Table, ...]
    savings: Json | None
    notes: tuple[str, ...] = field(default=())

    @property
    def price_share(self) -> Decimal | None:
        """Percent of the calls that are unpriced."""
        return percent_of(Decimal(self.total.now.unpriced), Decimal(self.total.now.calls))

    @property
    def error_share(self) -> Decimal | None:
        """Percent of the calls that failed."""
        return percent_of(Decimal(self.total.now.errors), Decimal(self.total.now.calls))


def difference(now: Figures, before: Figures | None) -> Decimal | None:
    """How much more was spent; None where either is not known."""
    if before is None or now.cost is None or before.cost is None:
        return None
    return _EXACT.subtract(now.cost, before.cost)


def percent_of(part: Decimal | None, whole: Decimal | None) -> Decimal | None:
    """A share in percent, with one decimal; None of nothing."""
    if part is None or not whole:
        return None
    share = _ROUNDED.divide(_ROUNDED.multiply(part, Decimal(100)), whole)
    return share.quantize(Decimal("0.1"), context=_ROUNDED)


def money(amount: Decimal | None) -> str | None:
    """Exact decimal text, without zeros at its end."""
    if amount is None:
        return None
    text = format(amount, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def rounded(amount: Decimal, places: int = 2) -> str:
    """For reading: with thousands separated, and so many decimals."""
    return f"{amount.quantize(Decimal(1).scaleb(-places), context=_ROUNDED):,f}"
