"""From a source's answers to a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Protocol

from nilometer.domain import clock
from nilometer.errors import InvalidInput, Unavailable
from nilometer.usage.dimensions import DIMENSIONS
from nilometer.usage.query import MAX_COMBINED, MAX_DAYS
from nilometer.usage.report.report import NOTHING, Figures, Json, Line, Period, Report, Table
from nilometer.usage.report.sources import Source, pages

Levels = tuple[str, ...]
DEFAULT_TABLES: tuple[Levels, ...] = (("service",), ("model",), ("job",), ("user",))
HOURLY_DAYS, DAILY_DAYS = 2, 62
# Levels of few values come with one question; the values of others come in pages.
_FEW = frozenset({"day", "hour", "service", "operation", "environment", "status"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be reported: days, both included; filters; a table for each combination of
    levels; whether to compare with as many days before; whether to say what was saved, for which
    some sources read every call."""

    period: Period
    tables: tuple[Levels, ...] = DEFAULT_TABLES
    filters: Mapping[str, str] = field(default_factory=dict[str, str])
    compare: bool = True
    savings: bool = True


def levels_of(text: str) -> Levels:
    """The levels of a comma list. Raises InvalidInput."""
    names = tuple(dict.fromkeys(name for each in text.split(",") if (name := each.strip())))
    if not names or len(names) > MAX_COMBINED or not set(names) <= set(DIMENSIONS):
        raise InvalidInput(
            f"a table is by 1 to {MAX_COMBINED} of {', '.join(DIMENSIONS)}", attr="group_by"
        )
    return names


def earliest(wanted: Wanted) -> date:
    """The first day that is asked for."""
    before = previous(wanted)
    return before.start if before else wanted.period.start


def previous(wanted: Wanted) -> Period | None:
    """As many days, just before; None where nothing is compared."""
    if not wanted.compare:
        return None
    start, days = wanted.period.start, wanted.period.days
    return Period(start - timedelta(days=days), start - timedelta(days=1))


@dataclass(frozen=True, slots=True)
class Grouped:
    """Everything, and each combination of values of some levels, as they were at one moment: calls
    that arrive between two questions are in neither, or in both. A call without one of the levels
    is in no group."""

    total: Figures
    groups: dict[Levels, Figures]

    @property
    def rest(self) -> Figures:
        """What is in no group."""
        inside = NOTHING
        for each in self.groups.values():
            inside = inside.plus(each)
        return self.total.minus(inside)


class Reading(Protocol):
    """What is known of the calls of one period."""

    @property
    def period(self) -> Period:
        """The days, both ends included."""
        ...

    def total(self) -> Figures:
        """Everything."""
        ...

    def grouped(self, levels: Levels) -> Grouped:
        """By these levels."""
        ...


def make(source: Source, wanted: Wanted) -> Report:
    """The report. Raises NilometerError where the source refuses or cannot be asked."""
    if wanted.period.days > MAX_DAYS or wanted.period.days < 1:
        raise InvalidInput(f"a report is of 1 to {MAX_DAYS} days", attr="from")
    before = previous(wanted)
    now_read = _Read(source, wanted.period, wanted)
    before_read = _Read(source, before, wanted) if before else None
    saved, untold = _savings(source, wanted) if wanted.savings else (None, [])
    report = assembled(source.name, wanted, now_read, before_read, saved)
    return replace(report, notes=(*report.notes, *untold, *_saving_notes(saved), *source.notes()))


def assembled(
    name: str,
    wanted: Wanted,
    now_read: Reading,
    before_read: Reading | None = None,
    saved: Json | None = None,
) -> Report:
    """The report of what was read of a period, and of the one before it where there is one."""
    total = Line((), now_read.total(), before_read.total() if before_read else None)
    step = _step(wanted.period.days)
    report = Report(
        source=name,
        made_at=clock.now(),
        period=wanted.period,
        previous=before_read.period if before_read else None,
        filters=wanted.filters,
        total=total,
        step=step,
        trend=_trend(step, now_read, before_read),
        tables=tuple(_table(levels, now_read, before_read) for levels in wanted.tables),
        savings=saved,
    )
    return replace(report, notes=tuple(_notes(report)))


def spend(source: Source, wanted: Wanted) -> tuple[Figures, tuple[Table, ...]]:
    """The total and the tables alone, as fast as the source has them."""
    read = _Read(source, wanted.period, wanted)
    return read.total(), tuple(_table(levels, read, None) for levels in wanted.tables)


def _savings(source: Source, wanted: Wanted) -> tuple[Json | None, list[str]]:
    """What was saved, or why that is not told: a report is worth having without it."""
    try:
        saved = source.savings(_parameters(wanted.period, wanted.filters))
    except Unavailable as error:
        return None, [f"What caches and batches saved is not known: {error.detail}."]
    if saved is None:
        return None, ["What caches and batches saved is not known: there are too many calls."]
    return saved, []


def _parameters(period: Period, filters: Mapping[str, str]) -> dict[str, str]:
    return {
        "start_date": period.start.isoformat(),
        "end_date": period.end.isoformat(),
        **filters,
    }


class _Read:
    """What a source says of one period: levels of few values at once, with the summary."""

    def __init__(self, source: Source, period: Period, wanted: Wanted) -> None:
        self._source = source
        self.period = period
        self._parameters = _parameters(period, wanted.filters)
        few = [names[0] for names in wanted.tables if len(names) == 1 and names[0] in _FEW]
        levels = ",".join(dict.fromkeys(["day", *few]))
        self._answer = source.ask({**self._parameters, "aggregation": levels})

    def total(self) -> Figures:
        """Everything."""
        return summed(self._answer["summary"])

    def grouped(self, levels: Levels) -> Grouped:
        """By these levels."""
        found = self._answer["aggregations"].get(f"by_{levels[0]}") if len(levels) == 1 else None
        if found is not None:
            groups = {(key,): figures(group) for key, group in found.items()}
            return Grouped(self.total(), groups)
        asked = {**self._parameters, "aggregation": "", "group_by": ",".join(levels)}
        first, results = pages(self._source, asked)
        groups = {tuple(each[name] for name in levels): figures(each) for each in results}
        return Grouped(summed(first["summary"]), groups)


def figures(group: Json) -> Figures:
    """A group of an answer."""
    latency: Json = group.get("latency") or {}
    return Figures(
        cost=_amount(group["cost_usd_exact"]),
        calls=group["call_count"],
        requests=group["api_calls"],
        errors=group["error_count"],
        unpriced=group["unpriced_count"],
        tokens=group["tokens"],
        p50=latency.get("p50"),
        p95=latency.get("p95"),
    )


def summed(summary: Json) -> Figures:
    """The summary of an answer."""
    return figures(
        {
            **summary,
            "cost_usd_exact": summary["total_cost_usd_exact"],
            "api_calls": summary["total_api_calls"],
            "tokens": summary["total_tokens"],
        }
    )


def _amount(text: Any) -> Decimal | None:
    return None if text is None else Decimal(text)


def _table(levels: Levels, now: Reading, before: Reading | None) -> Table:
    found = now.grouped(levels)
    earlier = before.grouped(levels) if before else Grouped(NOTHING, {})
    lines = [
        Line(
            key,
            found.groups.get(key, NOTHING),
            earlier.groups.get(key, NOTHING) if before else None,
        )
        for key in {**found.groups, **earlier.groups}
    ]
    lines.sort(key=lambda line: (-(line.now.cost or 0), -line.now.calls, line.key))
    rest = Line((), found.rest, earlier.rest if before else None)
    return Table(levels, tuple(lines), rest)


def _step(days: int) -> str:
    if days <= HOURLY_DAYS:
        return "hour"
    return "day" if days <= DAILY_DAYS else "week"


def _trend(step: str, now: Reading, before: Reading | None) -> tuple[Line, ...]:
    """Every step of the period, also those without a call, beside the same one before."""
    mine = _steps(step, now)
    theirs = list(_steps(step, before).values()) if before else []
    return tuple(
        Line(key, each, theirs[place] if before else None)
        for place, (key, each) in enumerate(mine.items())
    )


def _steps(step: str, read: Reading) -> dict[Levels, Figures]:
    days = [read.period.start + timedelta(days=n) for n in range(read.period.days)]
    if step == "hour":
        found = read.grouped(("day", "hour")).groups
        keys = [(day.isoformat(), f"{hour:02}") for day in days for hour in range(24)]
        return {key: found.get(key, NOTHING) for key in keys}
    found = read.grouped(("day",)).groups
    if step == "day":
        return {(day.isoformat(),): found.get((day.isoformat(),), NOTHING) for day in days}
    weeks: dict[Levels, Figures] = {}
    for place, day in enumerate(days):
        key = (days[place - place % 7].isoformat(),)
        weeks[key] = weeks.get(key, NOTHING).plus(found.get((day.isoformat(),), NOTHING))
    return weeks


def _notes(report: Report) -> Iterable[str]:
    now, before = report.total.now, report.total.before
    yield "Amounts are US dollars, exact, by the price of each call; days are UTC."
    if now.unpriced:
        yield (
            f"{now.unpriced:,} of {now.calls:,} calls ({report.price_share} %) succeeded at a cost "
            "that is not known. They are in no amount: what was spent is more than is shown."
        )
    if before is not None and before.unpriced:
        yield f"In the period before, {before.unpriced:,} of {before.calls:,} calls are unpriced."
    if report.period.end >= report.made_at.date():
        yield "The period is not over: its last day is counted as far as it has come."


def _saving_notes(savings: Json | None) -> Iterable[str]:
    if savings is None:
        return
    cache, batch = savings["cache"], savings["batch"]
    if cache["read_unknown_count"]:
        yield (
            f"{cache['read_unknown_count']:,} of {cache['read_calls']:,} calls that read from a "
            "cache have no price of fresh input to compare with, and are in no saving."
        )
    if batch["unknown_count"]:
        yield (
            f"{batch['unknown_count']:,} of {batch['calls']:,} calls of the batch tier have no "
            "known standard price, and are in no saving."
        )
    if savings["estimated_count"]:
        yield (
            f"The usage of {savings['estimated_count']:,} calls was told by no provider: their "
            "counts are estimates."
        )
