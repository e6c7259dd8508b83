"""Whatever a client sends: an event, in bounded work, that every JSON writer can write."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from nilometer.conventions import ai_event, litellm
from nilometer.conventions.litellm_secrets import scrubbed
from nilometer.conventions.spans import convert
from nilometer.conventions.spans.flat import nested
from nilometer.conventions.spans.table import EXACT, STEMS
from nilometer.domain.span import KINDS, STATUSES, Span, SpanEvent, known_id, plain

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text(alphabet=st.characters(min_codepoint=0xD7F0, max_codepoint=0xE010), max_size=5)
    | st.sampled_from(['{"input": 1}', "[1e999]", '["\\ud800"]', "{'a': 1}", "2025-07-01", "[[["]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [*EXACT, *(f"{stem}{rest}" for stem in STEMS for rest in ("0", "0.message", "1.role", "x"))]
)
ATTRIBUTES = st.dictionaries(NAMES | st.text(max_size=20), ANYTHING, max_size=8)
EVENTS = st.builds(
    SpanEvent,
    st.sampled_from(["gen_ai.user.message", "gen_ai.choice", "gen_ai.content.prompt", "exception"]),
    st.integers(0, (1 << 64) - 1),
    st.dictionaries(
        st.sampled_from(["content", "message", "gen_ai.event.content", "gen_ai.prompt", "role"])
        | st.text(max_size=5),
        ANYTHING,
        max_size=3,
    ),
)
SPANS = st.builds(
    Span,
    trace_id=st.none() | st.just("1" * 32),
    span_id=st.none() | st.just("2" * 16),
    parent_id=st.none() | st.just("2" * 16) | st.just("3" * 16),
    name=st.text(max_size=10),
    kind=st.sampled_from(KINDS),
    start=st.integers(0, (1 << 64) - 1),
    end=st.integers(0, (1 << 64) - 1),
    status=st.sampled_from(STATUSES),
    attributes=ATTRIBUTES,
    resource=ATTRIBUTES,
    events=st.lists(EVENTS, max_size=3),
)
PAYLOAD_NAMES = st.sampled_from(
    [
        *("id", "trace_id", "session_id", "litellm_call_id", "call_type", "stream", "status"),
        *("response_cost", "cost_breakdown", "startTime", "endTime", "completionStartTime"),
        *("metadata", "messages", "response", "error_information", "model_parameters", "end_user"),
        *("request_tags", "cache_hit", "api_base", "model", "prompt_tokens", "total_tokens"),
    ]
)
METADATA = st.dictionaries(
    st.sampled_from(["usage_object", "requester_metadata", "requester_custom_headers"])
    | st.text(max_size=5),
    ANYTHING,
    max_size=3,
)


BOUNDED = settings(
    max_examples=60,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)


def within(seconds: float, work: Callable[[], object]) -> None:
    """Run the work, three times if it must be: other processes share the processors."""
    taken: list[float] = []
    for _ in range(3):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
        if taken[-1] < seconds:
            return
    raise AssertionError(f"{min(taken):.2f} s of processor time, at most {seconds} are allowed")


@BOUNDED
@given(SPANS)
def test_any_span_becomes_an_event_that_can_be_written_and_read(span: Span) -> None:
    event = convert(span)
    orjson.dumps(event.properties)
    event.distinct_id.encode()
    assert event.distinct_id
    assert event.timestamp is None or event.timestamp >= 0
    ai_event.columns(event.event, event.properties)
    assert convert(span) == event


@BOUNDED
@given(SPANS)
def test_any_span_has_a_source_that_gives_the_same_event(span: Span) -> None:
    source = span.to_json()
    orjson.loads(source)
    once = Span.from_json(source)
    assert Span.from_json(once.to_json()) == once
    if span.trace_id and span.span_id:
        assert convert(once).uuid == convert(span).uuid


@BOUNDED
@given(
    st.dictionaries(
        PAYLOAD_NAMES | st.text(max_size=8), ANYTHING | METADATA | st.floats(0, 2e9), max_size=10
    )
)
def test_any_payload_of_litellm_becomes_an_event(payload: dict[str, Any]) -> None:
    event = litellm.convert(payload)
    orjson.dumps(event.properties)
    event.distinct_id.encode()
    ai_event.columns(event.event, event.properties)
    assert scrubbed(scrubbed(payload)).keys() == scrubbed(payload).keys()
    assert litellm.convert(scrubbed(payload)).uuid == event.uuid


@BOUNDED
@given(st.lists(st.tuples(st.from_regex(r"[a0-9]{1,2}(\.[a0-9]{1,2}){0,3}", fullmatch=True))))
def test_flattened_lists_do_not_depend_on_the_order_of_their_attributes(
    paths: list[tuple[str]],
) -> None:
    pairs = [(path, path) for (path,) in dict.fromkeys(paths)]
    assert nested(pairs) == nested(reversed(pairs))


def test_a_hundred_thousand_indexed_attributes_are_one_list_in_bounded_work() -> None:
    attributes = {f"gen_ai.prompt.{i}.content": "x" for i in range(100_000)}
    within(5, lambda: convert(Span(attributes=attributes)))
    properties = convert(Span(attributes=attributes)).properties
    assert len(properties["$ai_input_state"]) == 100_000


@pytest.mark.parametrize("index", ["1000000000", "9" * 18, "9" * 400, "٣", "-1", "1e9"])
def test_an_index_is_a_name_and_allocates_nothing(index: str) -> None:
    attributes = {f"llm.input_messages.{index}.message.role": "user"}
    within(0.5, lambda: convert(Span(attributes=attributes)))
    properties = convert(Span(attributes=attributes)).properties
    message = properties.get("$ai_input_state")
    assert message == [{"role": "user"}] or next(iter(attributes)) in properties


def test_names_and_values_of_a_thousand_levels_are_cut_not_recursed_into() -> None:
    deep: Any = "leaf"
    for _ in range(1000):
        deep = [deep]
    attributes = {
        "gen_ai.prompt.0." + "a." * 1000 + "b": "x",
        "gen_ai.input.messages": "[" * 1000 + "]" * 1000,
        "gen_ai.output.messages": deep,
        "mine": deep,
    }
    span = Span(attributes=attributes)
    orjson.dumps(convert(span).properties)
    orjson.loads(span.to_json())
    assert convert(span).properties["$ai_input_state"] == "[" * 1000 + "]" * 1000


def test_five_megabytes_in_one_attribute_are_kept_whole() -> None:
    text = "é" * 2_500_000
    within(2, lambda: convert(Span(attributes={"gen_ai.input.messages": text, "mine": text})))
    properties = convert(Span(attributes={"gen_ai.input.messages": text, "mine": text})).properties
    assert properties["$ai_input_state"] == text
    assert properties["mine"] == text


def test_brackets_without_end_cost_no_more_than_reading_them() -> None:
    for text in ("[" * 2_000_000, "[" + "[]," * 1_000_000 + "[]]", "{" * 500_000, "[{" * 500_000):
        attributes = {"input.value": text, "metadata.usage_object": text}
        within(3, lambda given=attributes: convert(Span(attributes=given)))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (b"\x01\xff", "01ff"),
        (1 << 64, str(1 << 64)),
        ((1 << 64) - 1, (1 << 64) - 1),
        ("\ud800x", "\ufffdx"),
        ({1: True}, {"1": True}),
    ],
)
def test_what_json_has_not_is_written_as_text(value: Any, kept: Any) -> None:
    assert plain(value) == kept
    assert convert(Span(attributes={"mine": value})).properties["mine"] == kept
    source = json.loads(Span(attributes={"mine": value}).to_json())["attributes"]
    assert source["mine"] in (kept, value)


@pytest.mark.parametrize(
    ("text", "digits", "known"),
    [
        ("AB" * 8, 16, "ab" * 8),
        ("0" * 16, 16, None),
        ("ab" * 8, 32, None),
        ("0x" + "1" * 14, 16, None),
        ("g" * 16, 16, None),
        ("1" * 15 + "١", 16, None),
        (" " + "1" * 15, 16, None),
    ],
)
def test_an_id_is_hex_of_its_length_and_not_zero(text: str, digits: int, known: str | None) -> None:
    assert known_id(text, digits) == known


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"nope": 1}', '{"events": [{"a": 1}]}'])
def test_what_is_no_span_is_refused_as_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Span.from_json(text)
