"""What holds for every adapter and every input."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.conventions.usage import ADAPTERS, detect, providers, read, telemetry
from nilometer.conventions.usage.layout import INPUT_PARTS, OUTPUT_PARTS, Layout
from nilometer.conventions.usage.reading import read_by
from nilometer.domain.usage import TokenVector

LAYOUTS = [
    known
    for module in (providers, telemetry)
    for known in vars(module).values()
    if isinstance(known, Layout)
]
NAMES = sorted({path for layout in LAYOUTS for paths in layout.counts.values() for path in paths})
STEPS = sorted({step for name in NAMES for step in name.split("/")} | {"iterations", "usage"})
ODD = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.decimals()
    | st.text(max_size=3)
    | st.just({})
    | st.just([{}])
    | st.just([{"type": "compaction", "input_tokens": "x"}])
)
OBJECTS = st.dictionaries(
    st.sampled_from(STEPS),
    st.recursive(
        ODD, lambda inner: st.dictionaries(st.sampled_from(STEPS), inner, max_size=3), max_leaves=4
    ),
    max_size=8,
)


@given(st.sampled_from(sorted(ADAPTERS)), OBJECTS)
def test_an_adapter_never_raises_and_always_says_a_vector_or_a_reason(
    convention: str, raw: dict[str, Any]
) -> None:
    usage = ADAPTERS[convention](raw)
    assert (usage.vector is None) == bool(usage.reason)
    assert all(isinstance(amount, Decimal) and amount > 0 for amount in usage.units.values())


@given(OBJECTS, OBJECTS, st.sampled_from(["openai", "anthropic", "gemini", "xai", None]))
def test_reading_an_event_never_raises(
    raw: dict[str, Any], counts: dict[str, Any], provider: str | None
) -> None:
    usage = read({**counts, "$ai_usage": raw, "$ai_output_choices": raw}, provider=provider)
    assert (usage.vector is None) == bool(usage.reason)
    assert detect(raw) is None or detect(raw) in ADAPTERS


@pytest.mark.parametrize("convention", [*sorted(ADAPTERS), None])
def test_names_that_are_no_text_are_only_strange(convention: str | None) -> None:
    """An object that was parsed from Python's repr of a dict may have any key."""
    raw: dict[Any, Any] = {1: 2, None: 3, ("gen_ai.usage.input_tokens",): 4}
    assert detect(raw) is None
    if convention is not None:
        assert ADAPTERS[convention](raw).reason == "not_reported"
    assert read({"$ai_usage": raw}, convention=convention).reason == "not_reported"


def put(raw: dict[str, Any], path: str, value: int) -> None:
    *outer, last = path.split("/")
    for step in outer:
        raw = raw.setdefault(step, {})
    raw[last] = value


TOKENS = st.integers(0, 10**9)
PARTS = [*sorted(INPUT_PARTS - {"cache_write"}), "cache_write_5m", "cache_write_1h"]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.convention)
@given(data=st.data())
def test_what_a_layout_says_is_what_is_read_and_the_sums_are_the_sources_own(
    layout: Layout, data: st.DataObject
) -> None:
    """Build a usage from known parts as the layout says, and get exactly these parts back."""
    if not {"input", "output"} <= set(layout.counts):
        return
    has = [name for name in (*PARTS, *sorted(OUTPUT_PARTS)) if name in layout.counts]
    parts = {name: data.draw(TOKENS, name) for name in has}
    text_in, text_out = data.draw(TOKENS) + 1, data.draw(TOKENS) + 1
    written = {"cache_write_5m", "cache_write_1h"}
    inside = INPUT_PARTS - layout.beside
    if "cache_write" in inside:
        inside |= written

    def side(names: Iterable[str]) -> int:
        return sum(parts.get(name, 0) for name in names)

    raw: dict[str, Any] = {}
    put(raw, layout.counts["input"][0], text_in + side(inside))
    put(raw, layout.counts["output"][0], text_out + side(OUTPUT_PARTS - layout.beside))
    for name, number in parts.items():
        put(raw, layout.counts[name][0], number)  # type: ignore[index]
    total = text_in + text_out + sum(parts.values())
    if "total" in layout.counts:
        put(raw, layout.counts["total"][0], total)
    usage = read_by(layout, raw)
    assert usage.vector == TokenVector(uncached_input=text_in, text_output=text_out, **parts)
    assert usage.vector.total == total


def test_every_layout_says_where_its_contract_stands() -> None:
    for layout in LAYOUTS:
        assert layout.source
        assert layout.convention in ADAPTERS or layout.convention == "vercel_exclusive"
