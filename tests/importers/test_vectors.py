"""The quick readers of usage say what the adapters say, or leave it to them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nilometer.conventions.usage import ADAPTERS
from nilometer.importers.formats import vectors

_COUNT = st.one_of(
    st.none(), st.integers(0, 9), st.just(-1), st.just(2.0), st.just("3"), st.just(True)
)


def _some(*names, inner=None):
    counts = st.dictionaries(st.sampled_from(names), _COUNT, max_size=5)
    if not inner:
        return counts
    parts = st.fixed_dictionaries({}, optional=inner)
    return st.tuples(counts, parts).map(lambda pair: {**pair[0], **pair[1]})


_DETAILS = _some(
    *("cached_tokens", "cache_creation_tokens", "text_tokens", "audio_tokens", "image_count"),
    inner={
        "cache_creation_token_details": st.none()
        | _some(
            "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "ephemeral_12h_input_tokens"
        )
    },
)
_LITELLM = _some(
    *("prompt_tokens", "completion_tokens", "total_tokens", "cache_read_input_tokens"),
    *("cache_creation_input_tokens", "cached_tokens", "prompt_cache_hit_tokens", "other"),
    inner={
        "prompt_tokens_details": st.none() | st.just(3) | _DETAILS,
        "completion_tokens_details": st.none()
        | _some("reasoning_tokens", "text_tokens", "audio_tokens"),
    },
)
_ANTHROPIC = _some(
    *("input_tokens", "output_tokens", "total_tokens", "cache_read_input_tokens"),
    *("cache_creation_input_tokens", "cached_tokens"),
    inner={
        "cache_creation": st.none()
        | _some("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "other"),
        "server_tool_use": st.none() | _some("web_search_requests", "web_fetch_requests"),
        "service_tier": st.just("standard"),
    },
)
_WHOLE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}


def _same(quick, convention, raw):
    found = ADAPTERS[convention](raw)
    assert quick.tokens == (None if found.vector is None else found.vector.counts)
    assert quick.reason == found.reason
    assert dict(quick.units) == {unit: format(n, "f") for unit, n in found.units.items()}


@given(_LITELLM | _LITELLM.map(lambda raw: {**raw, **_WHOLE}))
def test_litellms_usage_is_what_its_adapter_reads(raw):
    _same(vectors.of_litellm(raw), "litellm", raw)


@example({"input_tokens": None, "output_tokens": 1})
@given(_ANTHROPIC)
def test_anthropics_usage_is_what_its_adapter_reads(raw):
    _same(vectors.of_anthropic(raw), "anthropic", raw)


def test_what_files_mostly_hold_needs_no_adapter(monkeypatch):
    monkeypatch.setattr(vectors, "by_adapter", lambda *_: (_ for _ in ()).throw(AssertionError))
    details = {"cached_tokens": 4, "cache_creation_tokens": 2, "audio_tokens": None}
    told = {**_WHOLE, "prompt_tokens_details": details, "completion_tokens_details": None}
    assert vectors.of_litellm(told).tokens == (3, 4, 2, 0, 0, 0, 0, 0, 7, 0, 0, 0)
    answered = {
        "input_tokens": 3,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 12,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 5},
        "output_tokens": 7,
        "service_tier": "standard",
        "inference_geo": "not_available",
        "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 2},
        "iterations": [{"input_tokens": 3}],
        "speed": "standard",
    }
    assert vectors.of_anthropic(answered).tokens == (3, 12, 0, 5, 0, 0, 0, 0, 7, 0, 0, 0)


@pytest.mark.parametrize(
    "odd",
    [
        {"cache_creation_input_tokens": 3, "prompt_tokens_details": {"cache_creation_tokens": 2}},
        {"cache_read_input_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}},
        {"cache_read_input_tokens": 10},
        {"completion_tokens_details": {"reasoning_tokens": 8}},
        {"total_tokens": 17},
    ],
)
def test_counts_that_contradict_each_other_are_left_to_the_adapter(odd):
    raw = {**_WHOLE, **odd}
    _same(vectors.of_litellm(raw), "litellm", raw)
    assert vectors.of_litellm(raw).reason or odd.get("total_tokens")
