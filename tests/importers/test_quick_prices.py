"""The quick price is the price."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.domain.usage import TokenVector, Usage
from nilometer.importers.quick_prices import QuickPrices, text
from nilometer.importers.trace_call import BUCKETS
from nilometer.pricing import price

NAMES = [
    ("anthropic", "claude-sonnet-4-5-20250929"),
    (None, "anthropic/claude-3-opus-20240229"),
    ("openai", "gpt-4o-mini"),
    ("google", "gemini-2.5-pro"),
    ("deepseek", "deepseek-chat"),
    ("openai", "no-such-model"),
]
START = datetime(2025, 1, 1, tzinfo=UTC)
QUICK = QuickPrices(None)
COUNTS = st.one_of(st.just(0), st.integers(0, 300_000))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.sampled_from(["", "batch"]),
    st.tuples(*[COUNTS] * 5, *[st.just(0)] * 3, COUNTS, COUNTS, *[st.just(0)] * 2),
    st.integers(0, 24 * 600),
)
def test_it_says_what_the_other_says_or_nothing(name, tier, counts, hours):
    at = START + timedelta(hours=hours)
    provider, model = name
    found = QUICK.cost(provider, model, tier, "", counts, at)
    usage = Usage(vector=TokenVector(**dict(zip(BUCKETS, counts, strict=True))), convention="x")
    usual = price(usage, provider=provider, model=model, at=at, tier=tier)
    if found is None:
        return
    told = orjson.loads(found.price)
    assert Decimal(found.total) == usual.total
    assert {name: Decimal(amount) for name, amount in told.get("components", {}).items()} == {
        name: amount for name, amount in usual.components.items() if amount
    }
    assert told["source"] == usual.source
    assert told["version"] == usual.version
    assert (told.get("provider"), told.get("model")) == (usual.provider, usual.model)
    assert told.get("as_of") == (usual.as_of.isoformat() if usual.as_of else None)


@pytest.mark.parametrize(("provider", "model"), NAMES[:3])
def test_the_usual_is_quick(provider, model):
    at = START + timedelta(days=300)
    assert QUICK.cost(provider, model, "", "", (5, *[0] * 7, 5, 0, 0, 0), at) is not None


@given(st.integers(0, 10**27))  # what the default context has digits for
def test_an_amount_is_exact(units):
    shown = text(units)
    assert Decimal(shown) == Decimal(units).scaleb(-18)
    assert shown == "0" or not shown.endswith(".")
