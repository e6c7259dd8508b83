"""What caches and batches saved: worked examples, and the same on every host."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from nilometer.domain.usage import TokenVector
from nilometer.errors import InvalidInput
from nilometer.pricing.book import current
from nilometer.query.savings import SavingsReads
from nilometer.usage import savings
from nilometer.usage.jsonl import Ledger
from nilometer.usage.prices import local_rates
from tests.usage.calls import call, month, stored_row

NOVEMBER = {"start_date": ["2026-11-01"], "end_date": ["2026-11-20"]}
TODAY = date(2026, 11, 21)


def told(*metrics, **filters):
    ledger = Ledger()
    for each in metrics:
        ledger.add(each)
    query = savings.parse_savings({**NOVEMBER, **filters}, today=TODAY)
    return savings.answer(ledger.savings(query), local_rates())


def test_a_cached_token_is_compared_with_the_fresh_ones_of_its_call():
    """$0.15 and, from the cache, $0.075 a million."""
    cached = call(vector=TokenVector(uncached_input=1000, cache_read=3000, text_output=5))
    cache = told(cached, call())["cache"]
    assert (cache["read_calls"], cache["read_tokens"]) == (1, 3000)
    assert cache["read_as_input_usd_exact"] == "0.00045"
    assert cache["read_cost_usd_exact"] == "0.000225"
    assert cache["read_saved_usd_exact"] == cache["net_saved_usd_exact"] == "0.000225"
    assert cache["read_unknown_count"] == 0


def test_writing_to_a_cache_costs_more_than_fresh_input():
    """$3, and $3.75 for five minutes."""
    vector = TokenVector(uncached_input=10, cache_write_5m=1_000_000, cache_read=1_000_000)
    claude = call(service="anthropic", model="claude-sonnet-4-5", vector=vector)
    parts = claude.cost_components
    assert parts["uncached_input"] / 10 < parts["cache_write_5m"] / 1_000_000
    fresh = parts["uncached_input"] * 100_000
    cache = told(claude)["cache"]
    extra, saved = parts["cache_write_5m"] - fresh, fresh - parts["cache_read"]
    assert Decimal(cache["write_extra_usd_exact"]) == extra
    assert Decimal(cache["net_saved_usd_exact"]) == saved - extra


def test_a_call_without_fresh_input_or_without_parts_of_its_cost_is_unknown():
    vector = TokenVector(cache_read=3000, text_output=5)
    reported = TokenVector(uncached_input=1, cache_read=3000)
    cache = told(call(vector=vector), call(vector=reported, cost_usd=Decimal(1)))["cache"]
    assert (cache["read_calls"], cache["read_unknown_count"]) == (2, 2)
    assert cache["read_saved_usd_exact"] == "0"


def test_a_batch_is_compared_with_the_standard_price_of_its_day():
    """Half of $0.15 and $0.60 a million."""
    batch = told(call(service_tier="batch"), call(), call(service_tier="flex", cost_usd=None))
    assert batch["batch"] == {
        "calls": 1,
        "cost_usd_exact": "0.000105",
        "standard_cost_usd_exact": "0.00021",
        "saved_usd_exact": "0.000105",
        "unknown_count": 0,
    }


def test_a_batch_whose_cost_the_book_does_not_give_is_unknown():
    negotiated = call(service_tier="batch", cost_usd=Decimal("0.0001"),
                      cost_components={"uncached_input": Decimal("0.0001")})  # fmt: skip
    unpriced = call(service="acme", model="acme-1", service_tier="batch")
    batch = told(negotiated, unpriced)["batch"]
    assert (batch["calls"], batch["unknown_count"], batch["saved_usd_exact"]) == (2, 2, "0")


def test_a_long_input_has_the_price_of_long_inputs():
    long = TokenVector(uncached_input=300_000, text_output=1)
    for model in ("gemini-2.5-pro", "claude-sonnet-4-5"):
        service = "google" if "gemini" in model else "anthropic"
        priced = call(service=service, model=model, vector=long, service_tier="batch")
        if priced.cost_usd is None:
            continue
        batch = told(priced)["batch"]
        standard = call(service=service, model=model, vector=long).cost_usd
        assert standard is not None
        assert Decimal(batch["standard_cost_usd_exact"]) == standard
        break
    else:
        raise AssertionError("no model has a price for long inputs in batches")


def test_every_limit_of_the_price_book_is_a_size():
    """A price with another limit would be told as unknown."""
    rates_of, now = local_rates(), datetime(2026, 11, 21, 12, tzinfo=UTC)
    others = set()
    for name in current().names():
        provider, _, model = name.partition("/")
        rates = rates_of(provider, model, savings.BATCH_TIER, now)
        if rates is not None:
            others |= {start for start, _ in rates.rows} - {*savings.SIZES}
    assert others == set()


def test_estimates_are_counted():
    assert told(call(estimated=True), call())["estimated_count"] == 1


def test_only_days_and_filters_may_be_asked_for():
    with pytest.raises(InvalidInput) as refused:
        savings.parse_savings({**NOVEMBER, "aggregation": ["day"]}, today=TODAY)
    assert (refused.value.code, refused.value.attr) == ("unknown_parameter", "aggregation")


def test_the_server_says_the_same_as_a_file(world):
    project = world.project()
    calls = month(date(2026, 11, 1), 20, 200)
    rows = [stored_row(project.id, each) for each in calls]
    world.services.store.insert_lines("calls", rows)
    reads = SavingsReads(world.services.store)
    for filters in ({}, {"service": ["openai"], "job": ["nightly"]}, {"user": ["ada"]}):
        query = savings.parse_savings({**NOVEMBER, **filters}, today=TODAY)
        mine = savings.answer(reads.savings(project.id, query), local_rates())
        theirs = told(*calls, **filters)
        assert (mine["cache"], mine["batch"]) == (theirs["cache"], theirs["batch"])
        assert mine["estimated_count"] is None
        asked = {name: value[0] for name, value in {**NOVEMBER, **filters}.items()}
        assert project.get("usage/savings/", **asked).json() == mine
    assert theirs["cache"]["read_calls"] > theirs["cache"]["read_unknown_count"] > 0
    assert theirs["batch"]["calls"] > theirs["batch"]["unknown_count"] > 0
    stranger = world.foreign_project()
    assert stranger.get("usage/savings/", start_date="2026-11-01").json()["batch"]["calls"] == 0
