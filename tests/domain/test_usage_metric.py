from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.domain.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, TokenVector, Usage
from nilometer.domain.usage_metric import SCHEMA_VERSION, AIUsageMetric
from nilometer.errors import InvalidInput

AT = datetime(2026, 3, 1, 23, 30, 0, 123456, tzinfo=UTC)


def metric(**fields: Any) -> AIUsageMetric:
    named: dict[str, Any] = {
        "service": "openai",
        "model": "gpt-4o-mini",
        "operation": "completion",
        "timestamp": AT,
    }
    return AIUsageMetric(**(named | fields))


names = st.text(min_size=1, max_size=30).filter(str.strip)
maybe_name = st.none() | st.text(max_size=30)
amounts = st.decimals(0, 1000, places=18)
counts = st.integers(0, 2**40)
moments = st.datetimes(
    AT.replace(year=1971, tzinfo=None),
    AT.replace(year=9990, tzinfo=None),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]),
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(max_size=9), json_values, max_size=4)
vectors = st.builds(TokenVector, **dict.fromkeys((*INPUT_BUCKETS, *OUTPUT_BUCKETS), counts))
usages = st.builds(
    Usage,
    vector=st.none() | vectors,
    convention=st.text(max_size=9),
    reason=st.text(max_size=9),
    units=st.dictionaries(names, amounts, max_size=3),
    raw=json_objects,
)


@st.composite
def metrics(draw: st.DrawFn) -> AIUsageMetric:
    parts = draw(st.dictionaries(names, amounts, max_size=3))
    cost = sum(parts.values(), Decimal(0)) if parts else draw(st.none() | amounts)
    optional = {
        name: draw(maybe_name)
        for name in (
            *("provider_request_id", "response_id", "requested_model", "resolved_model"),
            *("resolved_service", "service_tier", "region", "price_source", "price_version"),
            *("error_type", "error", "user_id", "job_id", "batch_id", "environment", "developer"),
            "repository",
        )
    }
    return AIUsageMetric(
        service=draw(names),
        model=draw(names),
        operation=draw(names),
        timestamp=draw(moments),
        id_given=draw(st.booleans()),
        api_calls=draw(st.integers(1, 10**6)),
        usage=draw(st.none() | usages),
        estimated=draw(st.booleans()),
        stream=draw(st.booleans()),
        cost_usd=cost,
        cost_components=parts,
        stated_cost_usd=None if cost is None else draw(st.none() | amounts),
        reported_cost_usd=draw(st.none() | amounts),
        price_as_of=draw(st.none() | st.dates()),
        unpriced_reason="" if cost is not None else draw(st.text(max_size=9)),
        latency=draw(st.none() | st.floats(0, 10**9)),
        time_to_first_token=draw(st.none() | st.floats(0, 10**9)),
        status=draw(st.sampled_from(["success", "error"])),
        http_status=draw(st.none() | st.integers(100, 999)),
        retries=draw(st.integers(0, 9)),
        tags=tuple(draw(st.lists(names, max_size=4))),
        github_pr=draw(st.none() | counts),
        metadata=draw(json_objects),
        **optional,
    )


@settings(max_examples=150, deadline=None)
@given(metrics())
def test_its_json_says_everything_exactly(given: AIUsageMetric) -> None:
    text = given.to_json()
    assert text.isascii()
    assert "\n" not in text
    assert AIUsageMetric.from_json(text) == given
    assert AIUsageMetric.from_json(text).to_json() == text


def test_every_field_is_in_the_json() -> None:
    full: dict[str, Any] = {
        "request_id": "ours",
        "id_given": True,
        "api_calls": 2,
        "usage": Usage(
            vector=TokenVector(uncached_input=7, text_output=2),
            convention="openai_chat",
            raw={"prompt_tokens": 7},
        ),
        "estimated": True,
        "stream": True,
        "cost_usd": Decimal("0.1"),
        "cost_components": {"text_output": Decimal("0.1")},
        "stated_cost_usd": Decimal(0),
        "reported_cost_usd": Decimal("0.2"),
        "price_as_of": date(2025, 1, 1),
        "latency": 1.5,
        "time_to_first_token": 0.25,
        "status": "error",
        "http_status": 500,
        "retries": 2,
        "tags": ("a",),
        "github_pr": 5,
        "metadata": {"a": [1, None]},
    }
    written = json.loads(metric(**full).to_json())
    left_out = {each.name for each in fields(AIUsageMetric)} - set(written)
    assert written["schema_version"] == SCHEMA_VERSION
    assert all(getattr(metric(), name) in (None, "") for name in left_out)


def test_counts_make_a_vector_and_a_vector_counts() -> None:
    counted = metric(input_tokens=100, output_tokens=50)
    assert (counted.total_tokens, counted.vector) == (
        150,
        TokenVector(uncached_input=100, text_output=50),
    )
    vector = TokenVector(uncached_input=10, cache_read=90, text_output=5, reasoning=6)
    measured = metric(usage=Usage(vector=vector, convention="openai_chat"))
    assert (measured.input_tokens, measured.output_tokens, measured.total_tokens) == (100, 11, 111)


def test_no_tokens_are_zero_and_not_unknown() -> None:
    assert metric(input_tokens=0, output_tokens=0).total_tokens == 0
    assert metric().total_tokens is None


def test_a_total_alone_makes_no_vector() -> None:
    assert (metric(total_tokens=9).total_tokens, metric(total_tokens=9).vector) == (9, None)


def test_but_of_an_embedding_it_is_the_input() -> None:
    counted = metric(operation="embedding", total_tokens=9)
    assert counted.vector == TokenVector(uncached_input=9)
    assert (counted.input_tokens, counted.output_tokens, counted.total_tokens) == (9, 0, 9)
    assert metric(operation="embedding", total_tokens=0).vector is None


def test_day_month_and_hour_are_utc() -> None:
    late = metric(timestamp=datetime(2026, 3, 1, 1, 15, tzinfo=timezone(timedelta(hours=2))))
    assert (late.date, late.month, late.hour) == ("2026-02-28", "2026-02", "2026-02-28-23")
    assert late.timestamp.tzinfo is UTC


def test_each_metric_has_its_own_id() -> None:
    assert metric().request_id != metric().request_id


def test_the_service_is_lower_case_and_the_latency_also_in_milliseconds() -> None:
    assert metric(service=" OpenAI ").service == "openai"
    assert metric(latency=0.0126).latency_ms == 13


def test_tags_are_a_set_of_texts_or_named_values() -> None:
    assert metric(tags=["b", "a", "b"]).tags == ("a", "b")
    assert metric(tags={"team": "search"}).tags == ("team:search",)


def test_what_the_caller_changes_later_changes_nothing() -> None:
    notes = {"list": [1]}
    kept = metric(metadata=notes)
    notes["list"].append(2)
    assert kept.metadata == {"list": [1]}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"service": ""}, "service"),
    ({"model": " "}, "model"),
    ({"operation": 5}, "operation"),
    ({"timestamp": AT.replace(tzinfo=None)}, "timestamp"),
    ({"timestamp": datetime(1, 1, 1, tzinfo=UTC)}, "timestamp"),
    ({"job_id": "x" * 1025}, "job_id"),
    ({"job_id": 7}, "job_id"),
    ({"user_id": "\ud800"}, "user_id"),
    ({"api_calls": 0}, "api_calls"),
    ({"input_tokens": -1}, "input_tokens"),
    ({"input_tokens": True}, "input_tokens"),
    ({"http_status": 42}, "http_status"),
    ({"latency": float("nan")}, "latency"),
    ({"latency": -0.1}, "latency"),
    ({"status": "failed"}, "status"),
    ({"stream": 1}, "stream"),
    ({"cost_usd": 0.1}, "cost_usd"),
    ({"cost_usd": Decimal(-1)}, "cost_usd"),
    ({"cost_usd": Decimal("NaN")}, "cost_usd"),
    ({"cost_usd": Decimal("1e-19")}, "cost_usd"),
    ({"cost_usd": Decimal(1), "unpriced_reason": "no_usage"}, "unpriced_reason"),
    ({"cost_usd": Decimal(1), "cost_components": {"a": Decimal(2)}}, "cost_components"),
    ({"cost_components": {"a": Decimal(2)}}, "cost_components"),
    ({"stated_cost_usd": Decimal(0)}, "stated_cost_usd"),
    ({"tags": "a"}, "tags"),
    ({"tags": [str(n) for n in range(65)]}, "tags"),
    ({"metadata": {"a": object()}}, "metadata.a"),
    ({"metadata": {1: "a"}}, "metadata"),
    (
        {
            "usage": Usage(vector=TokenVector(uncached_input=5), convention="x"),
            "input_tokens": 6,
        },
        "input_tokens",
    ),
    ({"usage": Usage(vector=None, convention="x", units={"a": Decimal(-1)})}, "usage"),
]


@pytest.mark.parametrize(
    ("given_fields", "named"), REFUSED, ids=[str(i) for i, _ in enumerate(REFUSED)]
)
def test_what_cannot_be_is_refused_by_name(given_fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        metric(**given_fields)
    assert refused.value.attr == named
    assert named.partition(".")[0] in str(refused.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, "schema_version"),
        ({"schema_version": None}, "schema_version"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"cost_usd": 0.1}, "cost_usd"),
        ({"cost_usd": "a lot"}, "cost_usd"),
        ({"usage": {"vector": {"unheard_of": 1}}}, "usage"),
        ({"usage": []}, "usage"),
        ({"model": None}, "model"),
    ],
)
def test_json_that_says_no_metric_is_refused(change: dict[str, Any], named: str) -> None:
    members = metric().to_dict() | change
    with pytest.raises(InvalidInput) as refused:
        AIUsageMetric.from_json(json.dumps(members))
    assert refused.value.attr == named


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_text_that_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        AIUsageMetric.from_json(text)


def test_members_of_a_later_writer_are_passed_over() -> None:
    known = metric()
    assert AIUsageMetric.from_dict(known.to_dict() | {"added_later": 1}) == known


def test_a_repriced_copy_is_the_same_call() -> None:
    first = metric(input_tokens=5, output_tokens=1)
    again = replace(first, cost_usd=Decimal("0.5"), unpriced_reason="")
    assert again.request_id == first.request_id
    assert again.usage == first.usage
