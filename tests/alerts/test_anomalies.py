"""Unusual spend: planted spikes are found and little else is."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.alerts.anomalies import (
    DAYS_OF_WEEK,
    HOURS_OF_DAY,
    PLAIN,
    SEASONAL,
    Sensitivity,
    detect,
)
from nilometer.errors import InvalidInput

FIRST, LAST, SPIKES = 40, 160, 8


def planted(
    seed: int, cycle: int = DAYS_OF_WEEK, values: int = LAST
) -> tuple[list[Decimal], set[int]]:
    """Spend with a level, a trend, a season and noise, and the places of the spikes in it."""
    chance = random.Random(seed)
    level, growth = chance.uniform(20, 2000), chance.uniform(-0.004, 0.008)
    noise = chance.uniform(0.03, 0.2)
    quiet = chance.sample(range(cycle), cycle * 2 // 7)
    season = [chance.uniform(*((0.2, 0.7) if at in quiet else (0.9, 1.3))) for at in range(cycle)]
    spikes = set(chance.sample(range(values * FIRST // LAST, values), SPIKES))
    found: list[Decimal] = []
    for at in range(values):
        trend = (1 + growth * DAYS_OF_WEEK / cycle) ** at
        value = level * trend * season[at % cycle] * max(0.05, chance.gauss(1, noise))
        if at in spikes:
            value *= chance.uniform(2.5, 6)
        found.append(Decimal(f"{value:.9f}"))
    return found, spikes


def counted(cycle: int, values: int, seeds: int) -> tuple[int, int, int]:
    """Spikes that were found, other values that were told, and spikes that were not found."""
    hits = wrong = missed = 0
    for seed in range(seeds):
        series, spikes = planted(seed, cycle, values)
        for at in range(values * FIRST // LAST, values):
            told = detect(series[:at], series[at], cycle=cycle) is not None
            hits += told and at in spikes
            wrong += told and at not in spikes
            missed += not told and at in spikes
    return hits, wrong, missed


@pytest.mark.parametrize(
    ("cycle", "values", "seeds"), [(DAYS_OF_WEEK, LAST, 40), (HOURS_OF_DAY, 400, 3)]
)
def test_planted_spikes_are_found_with_precision_and_recall_of_nine_in_ten(
    cycle: int, values: int, seeds: int
) -> None:
    hits, wrong, missed = counted(cycle, values, seeds)
    precision, recall = hits / (hits + wrong), hits / (hits + missed)
    assert precision >= 0.9, (hits, wrong, missed)
    assert recall >= 0.9, (hits, wrong, missed)


@given(st.lists(st.integers(1, 10**6), min_size=7, max_size=70), st.integers(0, 10**7))
def test_the_tested_value_is_not_in_its_own_baseline(history: list[int], value: int) -> None:
    """More is never less unusual, and what is expected does not depend on it."""
    before = [Decimal(each) / 100 for each in history]
    found = detect(before, Decimal(value))
    more = detect(before, Decimal(value + 10**6))
    if found is not None:
        assert more is not None
        assert more.expected == found.expected
        assert more.score > found.score


@given(st.lists(st.integers(0, 10**6), max_size=70), st.integers(0, 10**7), st.integers(1, 20))
def test_what_was_before_the_first_spend_is_no_history(
    history: list[int], value: int, zeros: int
) -> None:
    before = [Decimal(each) for each in history]
    assert detect([Decimal(0)] * zeros + before, Decimal(value)) == detect(before, Decimal(value))


def week(*days: int, weeks: int = 6) -> list[Decimal]:
    return [Decimal(each) for each in days] * weeks


def test_a_weekday_is_compared_with_its_own() -> None:
    history = week(100, 100, 100, 100, 100, 10, 10)
    assert detect(history, Decimal(110)) is None
    assert detect(history[:-2], Decimal(100)) is not None  # on a Saturday
    found = detect(history[:-2], Decimal(100))
    assert found is not None
    assert (found.method, found.expected, found.excess) == (SEASONAL, 10, 90)


def test_a_short_history_is_compared_as_a_whole() -> None:
    found = detect(week(10, 11, 9, 10, 12, 8, 10, weeks=1), Decimal(50))
    assert found is not None
    assert (found.method, found.expected, found.history) == (PLAIN, 10, 7)
    assert found.score == Decimal("26.98")  # 40 of 1.4826


def test_with_too_little_history_or_money_nothing_is_told() -> None:
    assert detect([Decimal(1)] * 6, Decimal(1000)) is None
    assert detect([], Decimal(1000)) is None
    cents = [Decimal("0.01")] * 30
    assert detect(cents, Decimal("0.90")) is None
    assert detect(cents, Decimal("1.02")) is not None
    rare = ([Decimal(5)] + [Decimal(0)] * 9) * 5
    assert detect(rare, Decimal(50)) is None


def test_spend_that_never_varies_is_no_reason_to_tell_of_a_cent() -> None:
    steady = [Decimal(100)] * 42
    assert detect(steady, Decimal("100.01")) is None
    assert detect(steady, Decimal(129)) is None
    assert detect(steady, Decimal(131)) is not None
    assert detect(steady, Decimal(0)) is None  # less is none


def test_growth_is_no_anomaly_and_a_jump_is_told_until_it_is_usual() -> None:
    growing = [Decimal(100 + 2 * day) for day in range(60)]
    assert detect(growing, Decimal(222)) is None
    doubled = [Decimal(100)] * 42
    told = 0
    while detect(doubled, Decimal(200)):
        doubled.append(Decimal(200))
        told += 1
    assert 1 <= told <= 5


def test_a_spike_of_yesterday_hides_none_of_today() -> None:
    history = [Decimal(95 + day % 10) for day in range(41)] + [Decimal(2000)]
    found = detect(history, Decimal(250))
    assert found is not None
    assert 90 < found.expected < 110


def test_what_can_be_no_sensitivity_is_refused() -> None:
    for wrong in ({"score": Decimal("NaN")}, {"min_amount": Decimal(-1)}, {"min_history": 2}):
        with pytest.raises(InvalidInput) as error:
            Sensitivity(**wrong)  # type: ignore[arg-type]
        assert error.value.attr in wrong
