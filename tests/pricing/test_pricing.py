"""Exact costs, and reasons where there is none. Expected sums are written out by hand."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from nilometer.pricing.book import current
from tests.pricing.calls import priced


def moment(text):
    return datetime.fromisoformat(text + "Z")


def test_a_price_says_what_it_is_made_of_and_where_it_is_from():
    cost = priced(
        "openai", "gpt-4o-2024-08-06", uncached_input=1000, cache_read=200, text_output=50
    )
    # 1000 x 2.50/M, 200 x 1.25/M, 50 x 10/M
    assert cost.components == {
        "uncached_input": Decimal("0.0025"),
        "cache_read": Decimal("0.00025"),
        "text_output": Decimal("0.0005"),
    }
    assert (cost.input_cost, cost.output_cost) == (Decimal("0.00275"), Decimal("0.0005"))
    assert (cost.total, cost.unit_cost, cost.reason) == (Decimal("0.00325"), 0, "")
    assert (cost.source, cost.version) == ("genai-prices", current().version)
    assert (cost.provider, cost.model, cost.how) == ("openai", "gpt-4o", "exact")


def test_the_price_is_that_of_the_day():
    million = {"uncached_input": 1_000_000, "text_output": 1_000_000}
    may = priced("openai", "o3", at=moment("2025-05-01T00:00:00"), **million)
    july = priced("openai", "o3", at=moment("2025-07-01T00:00:00"), **million)
    assert (may.total, july.total) == (50, 10)
    assert (may.as_of, july.as_of.isoformat()) == (None, "2025-06-10")
    eve = datetime(2025, 6, 9, 23, 0, tzinfo=timezone(timedelta(hours=-2)))  # the 10th in UTC
    assert priced("openai", "o3", at=eve, **million).total == 10


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-11-02T00:59:59", "0.66"),
        ("2026-11-02T01:00:00", "1.32"),
        ("2026-11-02T03:59:59", "1.32"),
        ("2026-11-02T04:00:00", "0.66"),
        ("2026-11-02T06:30:00", "1.32"),
        ("2026-10-30T06:30:00", "1.32"),  # a Friday
        ("2026-10-31T06:30:00", "0.66"),  # weekends are off-peak
        ("2026-11-01T06:30:00", "0.66"),
        ("2026-08-22T06:30:00", "1.32"),  # from the next day on
        ("2026-08-23T06:30:00", "0.66"),
        ("2026-07-01T02:00:00", "0.435"),  # peak hours came with the prices of August
    ],
)
def test_the_price_is_that_of_the_hour(at, expected):
    cost = priced("deepseek", "deepseek-v4-pro", at=moment(at), uncached_input=1_000_000)
    assert cost.total == Decimal(expected)


@pytest.mark.parametrize("model", ["deepseek-chat", "deepseek-reasoner"])
@pytest.mark.parametrize("provider", ["deepseek", "azure"])
def test_a_discount_by_the_hour_has_ended(provider, model):
    def at(text):
        return priced(provider, model, at=moment(text), uncached_input=1_000_000)

    assert at("2025-02-26T16:30:00").total == Decimal("0.135")
    assert at("2025-09-04T20:00:00").total == Decimal("0.135")
    assert at("2025-09-05T15:59:59").total in (Decimal("0.27"), Decimal("0.55"))
    for text in ("2025-02-26T16:29:59", "2025-09-05T16:00:00", "2026-11-01T12:00:00"):
        assert (at(text).total, at(text).reason) == (None, "no_price_at_time")


def test_a_long_context_is_billed_whole_at_its_own_price():
    at_limit = priced("anthropic", "claude-sonnet-4-5", uncached_input=150_000, cache_read=50_000)
    above = priced("anthropic", "claude-sonnet-4-5", uncached_input=150_000, cache_read=50_001)
    assert at_limit.total == Decimal("0.465")  # 150k x 3/M + 50k x 0.30/M
    assert above.total == Decimal("0.9300006")  # 150k x 6/M + 50,001 x 0.60/M


def test_cache_writes_of_an_hour_cost_more_than_those_of_minutes():
    cost = priced("anthropic", "claude-opus-4-5", cache_write_5m=1000, cache_write_1h=1000)
    assert cost.components == {
        "cache_write_5m": Decimal("0.00625"),
        "cache_write_1h": Decimal("0.01"),
    }


def test_reasoning_is_output_unless_it_has_a_price_of_its_own():
    assert priced("openai", "o3", reasoning=1000).total == Decimal("0.008")
    assert priced("perplexity", "sonar-deep-research", reasoning=1000).total == Decimal("0.003")


def test_a_batch_costs_its_own_price_where_the_book_has_one():
    call = {"uncached_input": 1000, "text_output": 100}
    cost = priced("anthropic", "claude-sonnet-4-5", tier="batch", units={"web_searches": 1}, **call)
    assert cost.total == Decimal("0.01225")  # 1000 x 1.50/M + 100 x 7.50/M + a search at 10/1000
    before = moment("2026-01-01T00:00:00")
    early = priced("anthropic", "claude-sonnet-4-5", tier="batch", at=before, **call)
    assert (early.total, early.reason) == (None, "tier_unpriced:batch")


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        *(("", "0.00125"), ("default", "0.00125"), ("auto", "0.00125"), ("flex", "0.000625")),
        *(("priority", "0.0025"), ("Priority", "0.0025"), ("batch", "0.000625")),
    ],
)
def test_each_tier_has_its_price(tier, expected):
    assert priced("openai", "gpt-5", tier=tier, uncached_input=1000).total == Decimal(expected)


@pytest.mark.parametrize(
    ("provider", "tier"), [("openai", "scale"), ("anthropic", "priority"), ("azure", "batch")]
)
def test_a_tier_that_the_book_does_not_know_is_unpriced(provider, tier):
    model = "claude-opus-4-5" if provider == "anthropic" else "gpt-4o"
    assert priced(provider, model, tier=tier, uncached_input=1).reason == f"tier_unpriced:{tier}"


def test_a_bucket_that_a_tier_leaves_out_is_not_billed_at_the_standard_price():
    cost = priced("openai", "gpt-4o", tier="batch", uncached_input=10, cache_read=1)
    assert cost.reason == "component_unpriced:cache_read"


@pytest.mark.parametrize(
    ("provider", "model", "call", "reason"),
    [
        ("openai", "whisper-1", {}, "no_usage"),
        ("openai", "whisper-1", {"uncached_input": 0}, "no_usage"),
        ("openai", "whisper-1", {"uncached_input": 9}, "component_unpriced:uncached_input"),
        ("openai", "tts-1", {"text_output": 0}, "no_usage"),
        ("openai", "text-embedding-3-small", {"text_output": 1}, "component_unpriced:text_output"),
        ("openai", "gpt-4o-audio-preview", {"audio_output": 1}, "component_unpriced:audio_output"),
        ("openai", "gpt-4o", {"cache_write_1h": 1}, "component_unpriced:cache_write_1h"),
        ("openai", "gpt-5-pro", {"cache_read": 1}, "component_unpriced:cache_read"),
        (
            "openai",
            "gpt-4o",
            {"units": {"images": 1}, "text_output": 0},
            "component_unpriced:images",
        ),
        (
            "openai",
            "gpt-4o",
            {"units": {"places": 1}, "text_output": 1},
            "component_unpriced:places",
        ),
        ("openai", "gpt-4o", {}, "no_usage"),
        ("openai", "gpt-4o", {"units": {"web_searches": 1}}, "no_usage"),
        ("openai", "gpt-4o", {"uncached_input": 10**16}, "usage_out_of_range"),
        ("openai", "whisper-1", {"units": {"audio_seconds": "NaN"}}, "usage_out_of_range"),
        ("openai", "whisper-1", {"units": {"audio_seconds": "-1"}}, "usage_out_of_range"),
        ("google", "gemma-4-31b-it", {"uncached_input": 1}, "component_unpriced:uncached_input"),
        ("openai", "gpt-99", {"uncached_input": 1}, "unknown_model"),
        ("nobody", "gpt-4o", {"uncached_input": 1}, "unknown_provider"),
    ],
)
def test_nothing_is_free_for_want_of_a_price(provider, model, call, reason):
    cost = priced(provider, model, **call)
    assert (cost.reason, cost.total, cost.input_cost, cost.components) == (reason, None, None, {})


def test_a_call_of_no_tokens_cost_nothing_where_tokens_are_billed():
    assert (priced("openai", "gpt-4o", text_output=0).total, "") == (0, "")


def test_what_is_not_tokens_has_its_price():
    assert priced("openai", "whisper-1", units={"audio_seconds": "61.5"}).total == Decimal(
        "0.00615"
    )
    assert priced("openai", "tts-1", units={"characters": 100}).total == Decimal("0.0015")
    sonar = priced("perplexity", "sonar", uncached_input=10, text_output=10)
    assert sonar.components["requests"] == Decimal("0.012")
    many = priced("perplexity", "sonar", uncached_input=10, units={"requests": 3})
    assert many.components["requests"] == Decimal("0.036")


def test_a_measure_is_not_billed_beside_the_tokens_that_pay_for_it():
    units = {"audio_seconds": 3, "images": 1, "requests": 1}
    assert priced("openai", "gpt-4o", uncached_input=1000, units=units).total == Decimal("0.0025")


def test_groq_bills_ten_seconds_of_speech_at_least_and_finer_than_the_store_is_rounded():
    cost = priced("groq", "whisper-large-v3", units={"audio_seconds": 3})
    assert cost.total == Decimal("0.000308333333333333")  # 10 x 0.111/3600 = 0.00030833...


@pytest.mark.parametrize(
    ("model", "call", "expected"),
    [
        ("gemini-2.5-flash", {"audio_input": 1000}, "0.001"),
        ("gemini-2.5-flash", {"image_input": 1000}, "0.0003"),
        ("gemini-2.5-flash", {"audio_cache_read": 1000}, "0.0001"),
        ("gemini-2.5-pro", {"audio_input": 1000}, "0.00125"),
        ("gemini-2.5-pro-tts", {"audio_output": 1000}, "0.02"),
        ("gemini-3-pro-image-preview", {"image_output": 1000}, "0.12"),
    ],
)
def test_each_modality_has_its_price(model, call, expected):
    assert priced("gemini", model, **call).total == Decimal(expected)


def test_images_of_a_model_that_makes_nothing_else_have_the_price_of_its_output():
    assert priced("openai", "gpt-image-1", image_output=1000).total == Decimal("0.04")
    assert priced("openai", "gpt-image-1.5", image_output=1000).total == Decimal("0.032")


def test_a_region_that_costs_more_than_the_book_says_is_unpriced():
    call = {"model": "claude-sonnet-4-5@20250929", "uncached_input": 1000}
    assert priced("vertex_ai", region="us-east5", **call).reason == "region_unpriced:us-east5"
    assert priced("vertex_ai", region="global", **call).total == Decimal("0.003")
    assert priced("anthropic", "claude-opus-4-6", region="us", text_output=1).total is None
    assert priced("vertex_ai", "claude-3-opus", region="us-east5", text_output=1).total is not None
    assert priced(
        "bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0", uncached_input=1000
    ).total == Decimal("0.0011")


def test_a_naive_time_is_no_time():
    assert priced("openai", "gpt-4o", at=datetime(2026, 1, 1), text_output=1).reason == "naive_time"  # noqa: DTZ001


def test_a_deprecated_model_is_marked():
    assert priced("gemini", "gemini-2.0-flash", text_output=1).deprecated
    assert not priced("openai", "gpt-4o", text_output=1).deprecated


def test_what_is_remembered_of_names_is_bounded():
    from nilometer.pricing import pricing

    for number in range(5000):
        priced("openai", f"made-up-{number}", text_output=1)
    assert len(pricing._PLANS) <= pricing._MOST_PLANS
    assert priced("openai", "gpt-4o", at=datetime(2026, 1, 1, tzinfo=UTC), text_output=1).total
