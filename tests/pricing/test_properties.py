"""What holds of every price, whatever the call."""

from decimal import Decimal
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from nilometer.domain.usage import INPUT_BUCKETS, OUTPUT_BUCKETS
from nilometer.pricing.exact import EXACT
from nilometer.pricing.names import LONGEST_NAME
from tests.pricing.calls import priced

BUCKETS = (*INPUT_BUCKETS, *OUTPUT_BUCKETS)
# A model with a price for each of its buckets, and no long-context threshold.
PRICED = {
    ("anthropic", "claude-opus-4-5"): (
        *("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "image_input"),
        *("text_output", "reasoning"),
    ),
    ("google", "gemini-2.5-flash"): (
        *("uncached_input", "cache_read", "audio_input", "audio_cache_read", "video_input"),
        *("text_output", "reasoning"),
    ),
    ("openai", "gpt-realtime"): ("uncached_input", "audio_input", "audio_output", "text_output"),
}
counts = st.integers(0, 10**12)


@st.composite
def calls(draw):
    model = draw(st.sampled_from(list(PRICED)))
    return model, {bucket: draw(counts) for bucket in PRICED[model]}


def total(model, tokens):
    cost = priced(*model, **tokens)
    assert cost.reason == ""
    return cost.total


@given(calls())
def test_a_cost_is_the_sum_of_what_each_bucket_costs_alone(call):
    model, tokens = call
    alone = [total(model, {bucket: count}) for bucket, count in tokens.items()]
    assert total(model, tokens) == reduce(EXACT.add, alone)


@given(calls(), st.integers(1, 500))
def test_so_many_times_the_tokens_cost_so_many_times_as_much(call, times):
    model, tokens = call
    more = {bucket: count // 500 * times for bucket, count in tokens.items()}
    once = {bucket: count // 500 for bucket, count in tokens.items()}
    assert total(model, more) == EXACT.multiply(total(model, once), times)


@given(calls(), st.data())
def test_more_tokens_cost_more(call, data):
    model, tokens = call
    bucket = data.draw(st.sampled_from(list(tokens)))
    assert total(model, tokens | {bucket: tokens[bucket] + 1}) > total(model, tokens)


@given(calls())
def test_the_parts_are_the_whole_and_finer_than_the_store_is_nothing(call):
    model, tokens = call
    cost = priced(*model, **tokens)
    assert cost.total == reduce(EXACT.add, cost.components.values(), Decimal(0))
    assert cost.total == cost.input_cost + cost.output_cost + cost.unit_cost
    assert all(each.as_tuple().exponent >= -18 for each in cost.components.values())


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_long_context_never_makes_more_tokens_cheaper(fresh, cached, more):
    model = ("anthropic", "claude-sonnet-4-5")
    smaller = total(model, {"uncached_input": fresh, "cache_read": cached})
    assert total(model, {"uncached_input": fresh + more, "cache_read": cached}) > smaller


@given(st.text(max_size=LONGEST_NAME), st.sampled_from(["openai", "anthropic", "azure", "google"]))
def test_a_name_that_is_made_up_has_no_price(name, provider):
    cost = priced(provider, "made-up-" + name, uncached_input=1)
    assert cost.total is None
    assert cost.reason in ("unknown_model", "provider_mismatch")


@given(
    st.sampled_from(["openai", "anthropic", "bedrock", "perplexity", "groq", "nobody", None]),
    st.sampled_from(["gpt-4o", "claude-opus-4-5", "whisper-1", "sonar", "whisper-large-v3", ""]),
    st.dictionaries(st.sampled_from(BUCKETS), st.integers(0, 10**30)),
    st.dictionaries(
        st.sampled_from(["web_searches", "audio_seconds", "requests", "images"]), st.decimals()
    ),
    st.text(),
    st.text(),
)
def test_a_price_or_a_reason_and_never_an_error(provider, model, tokens, units, tier, region):
    cost = priced(provider, model, tier=tier, region=region, units=units, **tokens)
    assert (cost.total is None) == bool(cost.reason)
    assert cost.total is None or cost.total.is_finite()
