"""How a report words periods, amounts and changes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from nilometer.errors import ConfigurationError
from nilometer.usage.report import wording
from nilometer.usage.report.report import Figures, Line, Period
from nilometer.usage.report.sources import open_local

PERIODS = [
    ((2026, 11, 5), (2026, 11, 5), "5 November 2026"),
    ((2026, 11, 1), (2026, 11, 30), "1 to 30 November 2026"),
    ((2026, 10, 30), (2026, 11, 2), "30 October to 2 November 2026"),
    ((2025, 12, 31), (2026, 1, 1), "31 December 2025 to 1 January 2026"),
]
AMOUNTS = [
    (None, "unknown"),
    (Decimal(0), "$0.00"),
    (Decimal("1234.567"), "$1,234.57"),
    (Decimal("0.00012345"), "$0.00012"),
    (Decimal("-2.5"), "-$2.50"),
]
CHANGES = [
    (Decimal(2), None, ""),
    (None, Decimal(1), "unknown"),
    (Decimal(1), Decimal(1), "no change"),
    (Decimal(3), Decimal(2), "+$1.00 (+50.0 %)"),
    (Decimal(1), Decimal(2), "-$1.00 (-50.0 %)"),
]


def line(now: Decimal | None, before: Decimal | None, *, calls: int = 1) -> Line:
    then = None if before is None else Figures(before, calls=calls)
    return Line(("a",), Figures(now, calls=1), then)


@pytest.mark.parametrize(("start", "end", "text"), PERIODS)
def test_a_period_names_its_month_and_year_once(
    start: tuple[int, int, int], end: tuple[int, int, int], text: str
):
    assert wording.days(Period(date(*start), date(*end))) == text


@pytest.mark.parametrize(("amount", "text"), AMOUNTS)
def test_a_headline_has_cents_and_two_digits_of_less(amount: Decimal | None, text: str):
    assert wording.headline(amount) == text


def test_an_exact_amount_has_its_last_digit():
    assert wording.exact(Decimal("-0.000000000000000001")) == "-$0.000000000000000001"
    assert wording.exact(None) == "unknown"


@pytest.mark.parametrize(("now", "before", "text"), CHANGES)
def test_a_change_says_by_how_much(now: Decimal | None, before: Decimal | None, text: str):
    assert wording.change(line(now, before)) == text


def test_what_was_not_there_before_is_new_and_what_cost_nothing_has_no_percent():
    assert wording.percent(line(Decimal(1), Decimal(0), calls=0)) == "new"
    assert wording.percent(line(Decimal(1), Decimal(0))) == "unknown"


def test_a_name_that_steers_a_terminal_or_cannot_be_seen_is_spelled():
    names = Line(("\x1b[2J", " ", "Ada"), Figures())
    assert wording.key(names) == ["\\x1b[2J", "' '", "Ada"]


@pytest.mark.parametrize(
    "url", ["jsonl:///", "dynamodb://", "dynamodb://table?colour=red", "ftp://host/file"]
)
def test_a_source_that_is_none_is_refused(url: str, tmp_path: Path):
    since = datetime.now(UTC).date()
    with pytest.raises(ConfigurationError) as refused:
        open_local(url, since=since)
    assert refused.value.attr == "source"
