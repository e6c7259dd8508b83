"""How the forms for people word what a report says: the same texts in each."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal

from nilometer.usage.report.report import (
    Figures,
    Json,
    Line,
    Period,
    Report,
    Table,
    money,
    percent_of,
    rounded,
)

MOVERS = 5
UNKNOWN = "unknown"


def title(report: Report) -> str:
    """The report's name."""
    return f"AI spend, {days(report.period)}"


def days(period: Period) -> str:
    """A period: `1 to 30 November 2026`."""
    start, end = period.start, period.end
    if start == end:
        return _day(end)
    if (start.year, start.month) == (end.year, end.month):
        return f"{start.day} to {_day(end)}"
    if start.year == end.year:
        return f"{start.day} {start:%B} to {_day(end)}"
    return f"{_day(start)} to {_day(end)}"


def scope(report: Report) -> str:
    """What the report is narrowed to, "" for nothing."""
    return ", ".join(f"{name} {value}" for name, value in report.filters.items())


def headline(amount: Decimal | None) -> str:
    """An amount at a glance: cents, and two digits of what is less than a dollar."""
    if amount is None:
        return UNKNOWN
    places = 2 if abs(amount) >= 1 or not amount else min(18, 1 - amount.adjusted())
    text = rounded(abs(amount), places)
    return f"{'-' if amount < 0 else ''}${text}"


def exact(amount: Decimal | None) -> str:
    """An amount, to its last digit."""
    text = money(amount)
    return UNKNOWN if text is None else f"${text}".replace("$-", "-$")


def change(line: Line) -> str:
    """How the cost changed: `+$1.20 (+4.0 %)`; "" where nothing is compared."""
    if line.before is None:
        return ""
    amount = line.change
    if amount is None:
        return UNKNOWN
    if not amount:
        return "no change"
    sign = "+" if amount > 0 else ""
    return f"{sign}{headline(amount)} ({percent(line)})"


def percent(line: Line) -> str:
    """The change in percent; `new` where there was nothing before."""
    share = line.percent
    if share is None:
        return "new" if line.before is not None and not line.before.calls else UNKNOWN
    return f"{share:+,} %"


def share(part: Figures, whole: Figures) -> str:
    """How much of the cost this is, in percent."""
    found = percent_of(part.cost, whole.cost)
    return "" if found is None else f"{found} %"


def step(report: Report, line: Line) -> str:
    """The name of a step of the trend."""
    if report.step == "hour":
        return f"{line.key[0]} {line.key[1]}:00"
    return f"week of {line.key[0]}" if report.step == "week" else line.key[0]


def key(line: Line) -> list[str]:
    """The values of a line's levels: what is blank, or holds control characters, is visible."""
    return [visible(value) if value.strip() else ascii(value) for value in line.key]


def visible(text: str) -> str:
    """A text without characters that steer a terminal or hide what stands beside them."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


Saving = tuple[str, Decimal | None, str]
"""A name, an amount (None: not known), and what it is of."""


def savings(report: Report) -> list[Saving]:
    """What caches and batches saved; nothing, where none were used or the source cannot tell."""
    found = report.savings
    if found is None:
        return []
    return [*_cache(found["cache"]), *_batch(found["batch"])]


def _cache(cache: Json) -> Iterable[Saving]:
    if cache["read_calls"]:
        yield (
            "Saved by reading from caches",
            _known(cache["read_saved_usd_exact"], cache["read_calls"], cache["read_unknown_count"]),
            f"{cache['read_tokens']:,} tokens in {cache['read_calls']:,} calls",
        )
    if cache["write_calls"]:
        extra, unknown = cache["write_extra_usd_exact"], cache["write_unknown_count"]
        yield (
            "Paid beyond fresh input for writing to caches",
            _known(extra, cache["write_calls"], unknown),
            f"{cache['write_tokens']:,} tokens in {cache['write_calls']:,} calls",
        )


def _batch(batch: Json) -> Iterable[Saving]:
    if batch["calls"]:
        yield (
            "Saved by batch prices",
            _known(batch["saved_usd_exact"], batch["calls"], batch["unknown_count"]),
            f"{batch['calls']:,} calls; ${batch['standard_cost_usd_exact']} at standard prices",
        )


def _known(text: str, calls: int, unknown: int) -> Decimal | None:
    return None if unknown == calls else Decimal(text)


def movers(table: Table) -> list[Line]:
    """The largest changes of a table."""
    return table.movers(MOVERS)


def _day(day: date) -> str:
    return f"{day.day} {day:%B} {day.year}"
