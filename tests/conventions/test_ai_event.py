"""The typed columns and the call identity of an event."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nilometer.conventions.ai_event import COLUMNS, call_id, columns, normalise_id
from nilometer.conventions.ai_properties import PROPERTIES

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**1200), max_value=10**1200)
    | st.floats()
    | st.decimals(allow_nan=False)
    | st.text()
    | st.text(alphabet=st.characters(min_codepoint=0xD7F0, max_codepoint=0xE010)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KNOWN_NAMES = st.sampled_from([known.name for known in PROPERTIES])
PYTHON_TYPES: dict[str, type] = {
    "text": str,
    "int64": int,
    "float64": float,
    "decimal": str,
    "flag": bool,
}


def column(name: str, value: Any) -> Any:
    return columns("$ai_generation", {f"$ai_{name}": value})[name]


def test_every_column_of_the_contract_is_there_with_its_type() -> None:
    media = [
        f"{medium}_{way}"
        for medium in ("text", "image", "audio", "video")
        for way in ("input", "output")
    ]
    expected = {
        **dict.fromkeys(
            [
                "trace_id",
                "session_id",
                "parent_id",
                "span_id",
                "span_type",
                "generation_id",
                "experiment_id",
                "span_name",
                "trace_name",
                "prompt_name",
                "model",
                "provider",
                "framework",
                "error",
                "error_type",
                "error_normalized",
                "base_url",
                "stop_reason",
            ],
            "text",
        ),
        **{
            f"{which}_tokens": "int64"
            for which in [
                "total",
                "input",
                "output",
                *media,
                "reasoning",
                "cache_read_input",
                "cache_creation_input",
            ]
        },
        "web_search_count": "int64",
        "http_status": "int64",
        **{
            f"{what}_cost_usd": "decimal"
            for what in [
                "input",
                "output",
                "total",
                "request",
                "web_search",
                "audio",
                "image",
                "video",
            ]
        },
        "latency": "float64",
        "time_to_first_token": "float64",
        "is_error": "flag",
    }
    assert dict(COLUMNS) == expected


def test_a_generation_fills_its_columns_and_leaves_the_others_none() -> None:
    row = columns(
        "$ai_generation",
        {
            "$ai_model": "gpt-4o",
            "$ai_trace_id": 17,
            "$ai_input_tokens": 12,
            "$ai_latency": 2,
            "$ai_input": [{"role": "user", "content": "hi"}],
            "$ai_total_cost_usd": 0.1,
            "mine": True,
        },
    )
    assert set(row) == set(COLUMNS)
    assert {name: value for name, value in row.items() if value is not None} == {
        "model": "gpt-4o",
        "trace_id": "17",
        "input_tokens": 12,
        "latency": 2.0,
        "total_cost_usd": "0.1",
        "is_error": False,
    }


@given(st.dictionaries(KNOWN_NAMES | st.text(), JSON_VALUES))
def test_columns_never_raise_and_always_have_the_type_they_promise(
    properties: dict[str, Any],
) -> None:
    row = columns("$ai_generation", properties)
    assert set(row) == set(COLUMNS)
    for name, value in row.items():
        assert value is None or type(value) is PYTHON_TYPES[COLUMNS[name]]
        if isinstance(value, str):
            value.encode()
        if COLUMNS[name] == "decimal" and value is not None:
            assert Decimal(value).as_tuple().exponent >= -18
            assert 0 <= Decimal(value) <= 10**15
            assert "E" not in value


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("abc", "abc"),
        (1, "1"),
        (1.0, "1"),
        (Decimal("1.0"), "1"),
        (1.5, "1.5"),
        (-7, "-7"),
        (2**80, str(2**80)),
        (True, "true"),
        (False, "false"),
        ("", None),
        (None, None),
        ({"a": 1}, None),
        (["a"], None),
        (float("inf"), None),
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, None),
        ("\ud800", None),
    ],
)
def test_an_id_is_text_and_nothing_else(sent: object, kept: str | None) -> None:
    assert normalise_id(sent) == kept
    assert column("span_id", sent) == kept


def test_a_number_of_more_digits_than_python_writes_is_no_id() -> None:
    assert normalise_id(10**5000) is None


@given(JSON_VALUES)
def test_normalising_an_id_twice_is_normalising_it_once(value: Any) -> None:
    once = normalise_id(value)
    assert normalise_id(once) == once


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("0.00012", "0.00012"),
        (Decimal("1.10"), "1.10"),
        (Decimal("0.000000000000000001"), "0.000000000000000001"),
        (0.1, "0.1"),
        (1.5e-07, "0.00000015"),
        (0.1 + 0.2, "0.30000000000000004"),
        ("1.5e-07", "0.00000015"),
        (3, "3"),
        (0, "0"),
        (-0.0, "0"),
        (Decimal("0E+999999999"), "0"),
        (Decimal("1E-999999999"), "0"),
        (Decimal("0.0000000000000000015"), "0.000000000000000002"),
        (Decimal("0.0000000000000000025"), "0.000000000000000002"),
        (10**15, "1000000000000000"),
        (10**15 + 1, None),
        (Decimal("1E+999999"), None),
        (10**400, None),
        (float("inf"), None),
        (float("nan"), None),
        (-0.01, None),
        ("-1", None),
        ("1e5", None),
        ("1,5", None),
        (" 1", None),
        ("1\n", None),
        ("٣", None),
        ("NaN", None),
        (True, None),
        ([1], None),
    ],
)
def test_a_cost_is_exact_decimal_text_or_none(sent: object, kept: str | None) -> None:
    assert column("total_cost_usd", sent) == kept


@given(st.decimals(min_value=0, max_value=10**15, places=18))
def test_a_cost_that_the_column_holds_is_never_changed(cost: Decimal) -> None:
    assert Decimal(column("input_cost_usd", cost)) == cost


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (0, 0),
        (5, 5),
        (5.0, 5),
        (Decimal(5), 5),
        (Decimal("5.0"), 5),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        (1e300, None),
        (Decimal("1E+999999"), None),
        (-1, None),
        (5.5, None),
        (Decimal("5.5"), None),
        ("5", None),
        (True, None),
        (None, None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_a_token_count_is_a_whole_number_or_none(sent: object, kept: int | None) -> None:
    assert column("input_tokens", sent) == kept


@pytest.mark.parametrize(
    ("sent", "kept"),
    [(1, 1.0), (0.25, 0.25), (Decimal("0.25"), 0.25), (0, 0.0), (10**9, 1e9)]
    + [
        (value, None)
        for value in (-0.1, 1e300, 10**400, "1", True, float("nan"), float("inf"), 1.8e15)
    ],
)
def test_a_latency_is_seconds_or_none(sent: object, kept: float | None) -> None:
    assert column("latency", sent) == kept


def test_an_http_status_of_zero_means_that_none_is_known() -> None:
    assert column("http_status", 0) is None
    assert column("http_status", 529) == 529
    assert column("http_status", 1000) is None


@pytest.mark.parametrize(
    ("sent", "kept"),
    [(True, True), ("true", True)]
    + [(value, False) for value in (False, "false", "True", 1, "1", None, [True])],
)
def test_only_true_and_the_string_true_are_an_error(sent: object, kept: bool) -> None:
    assert column("is_error", sent) is kept


def test_an_event_without_the_flag_is_no_error() -> None:
    row = columns("$ai_span", {"$ai_error": "boom 5"})
    assert (row["is_error"], row["error"], row["error_normalized"]) == (False, "boom 5", None)


@pytest.mark.parametrize(
    ("error", "text", "normalised"),
    [
        ("status 500", "status 500", "status <N>"),
        (
            {"status": 400, "id": "req_a1"},
            '{"status":400,"id":"req_a1"}',
            '{"status":<N>,"id":"<ID>"}',
        ),
        (["Error 1", "é"], '["Error 1","é"]', '["Error <N>","é"]'),
        (12345, "12345", "<N>"),
        (Decimal("1.5"), "1.5", "<N>.<N>"),
        (None, None, "Unknown error"),
        ("   ", "   ", "Unknown error"),
        ("", None, "Unknown error"),
    ],
)
def test_the_error_of_a_failed_event_is_normalised(
    error: object, text: str | None, normalised: str
) -> None:
    row = columns("$ai_generation", {"$ai_is_error": "true", "$ai_error": error})
    assert (row["error"], row["error_normalized"]) == (text, normalised)


def test_the_clients_own_normalised_error_is_kept() -> None:
    row = columns(
        "$ai_generation",
        {"$ai_is_error": True, "$ai_error": "e 1", "$ai_error_normalized": "mine 1"},
    )
    assert row["error_normalized"] == "mine 1"


def test_an_error_that_cannot_be_written_as_json_is_none() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert column("error", deep) is None
    assert column("error", {"a": "\ud800"}) is None
    # Taken apart by hand: Python frees a deep list by recursion.
    while deep:
        deep = deep.pop()


UUID = "018f6a1e-7c3b-7d10-8a55-3d2f1c9b0a01"


def identity(properties: dict[str, Any]) -> tuple[str, str]:
    return call_id(UUID, columns("$ai_generation", properties), properties)


def test_the_providers_response_id_identifies_the_call_before_anything_else() -> None:
    properties = {
        "$ai_response_id": "chatcmpl-9kQ2vXb7LmT4sYc1RzW8",
        "litellm_call_id": "c-1",
        "$ai_trace_id": "t",
        "$ai_span_id": "s",
    }
    assert identity(properties) == ("response", "chatcmpl-9kQ2vXb7LmT4sYc1RzW8")


def test_a_response_id_too_short_to_be_unique_does_not_identify_a_call() -> None:
    short = {"$ai_response_id": "chatcmpl-123", "$ai_trace_id": "t", "$ai_span_id": "s"}
    assert identity(short) == ("span", "t/s")


def test_litellms_call_id_comes_before_the_span() -> None:
    properties = {"litellm_call_id": "c-1", "$ai_trace_id": "t", "$ai_span_id": "s"}
    assert identity(properties) == ("litellm", "c-1")


@pytest.mark.parametrize(
    "properties",
    [{}, {"$ai_trace_id": "t"}, {"$ai_span_id": "s"}, {"$ai_trace_id": "", "$ai_span_id": "s"}],
)
def test_without_a_whole_span_the_event_identifies_the_call(properties: dict[str, Any]) -> None:
    assert identity(properties) == ("event", UUID)


def test_the_parts_of_a_spans_identity_are_percent_encoded() -> None:
    assert identity({"$ai_trace_id": "a/b é", "$ai_span_id": "c/%"}) == (
        "span",
        "a%2Fb%20%C3%A9/c%2F%25",
    )


IDS = st.text(min_size=1, max_size=8, alphabet="ab/%é")


@given(IDS, IDS, IDS, IDS)
@example("a/b", "c", "a", "b/c")
@example("a/", "b", "a%2F", "b")
def test_two_spans_share_a_call_only_when_trace_and_span_are_the_same(
    trace: str, span: str, other_trace: str, other_span: str
) -> None:
    mine = identity({"$ai_trace_id": trace, "$ai_span_id": span})
    other = identity({"$ai_trace_id": other_trace, "$ai_span_id": other_span})
    assert (mine == other) == ((trace, span) == (other_trace, other_span))


@given(st.dictionaries(KNOWN_NAMES | st.just("litellm_call_id"), JSON_VALUES))
def test_a_call_always_has_an_identity(properties: dict[str, Any]) -> None:
    kind, identifier = identity(properties)
    assert kind in {"response", "litellm", "span", "event"}
    assert identifier


def test_columns_are_the_same_whichever_way_the_json_was_read() -> None:
    text = (
        '{"$ai_trace_id":1.50,"$ai_latency":0.30,"$ai_input_tokens":7.0,"$ai_total_cost_usd":0.10}'
    )
    exact = columns("$ai_span", json.loads(text, parse_float=Decimal))
    assert exact["total_cost_usd"] == "0.10"
    plain = columns("$ai_span", json.loads(text))
    assert {**exact, "total_cost_usd": "0.1"} == plain
