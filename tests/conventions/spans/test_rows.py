"""The table, row by row: each source of each row has a golden case that only it explains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nilometer.conventions.converted import Converted
from nilometer.conventions.spans import convert, page
from nilometer.conventions.spans.table import CONVENTIONS
from nilometer.domain.span import Span

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "golden" / "rows.json").read_text(encoding="utf-8")
)
START = 1_751_367_600_000_000_000  # 2025-07-01T11:00:00Z
# A call that says nothing else; the operation is told in the words of a convention of its own.
CALL = {"ai.operationId": "ai.generateText.doGenerate"}


def converted(attributes: dict[str, Any]) -> Converted:
    return convert(
        Span(
            trace_id="0af7651916cd43dd8448eb211c80319c",
            span_id="b7ad6b7169203331",
            parent_id="00f067aa0ba902b7",
            name="step",
            start=START,
            end=START + 1_000_000_000,
            status="error",
            attributes=attributes,
        )
    )


def value_of(event: Converted, name: str) -> Any:
    if name == "distinct_id":
        return event.distinct_id
    outer, _, member = name.partition(".")
    value = event.properties.get(outer)
    return value.get(member) if member and isinstance(value, dict) else value


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['source']} is {c['property']}")
def test_each_source_gives_the_property_that_its_row_says(case: dict[str, Any]) -> None:
    others = {} if case["source"] == "ai.operationId" else CALL
    if case["property"] == "$ai_span_type" and case["source"] != "ai.operationId":
        others = {}
    attributes = {**others, **case["attributes"]}
    event = converted(attributes)
    assert value_of(event, case["property"]) == case["value"]
    assert value_of(converted(others), case["property"]) != case["value"]
    left = {name for name in case["attributes"] if name in event.properties}
    assert left <= {case["property"]}, "the attribute became a property and is not repeated"


def test_every_source_of_every_row_has_a_case() -> None:
    told = {
        (convention.name, row.target.removesuffix(".*"), source)
        for convention in CONVENTIONS
        for row in convention.rows
        for source in row.sources
    }
    cased = {(c["convention"], c["property"].partition(".")[0], c["source"]) for c in CASES}
    assert cased == told


def test_rows_of_tokens_and_costs_are_of_calls_only() -> None:
    for convention in CONVENTIONS:
        for row in convention.rows:
            counts = row.target.endswith(("_tokens", "_cost_usd"))
            assert not counts or row.calls_only, row


def test_the_documented_tables_are_current() -> None:
    text = (Path(__file__).parents[3] / "docs" / "conventions.md").read_text(encoding="utf-8")
    assert page.with_tables(text) == text, "run scripts/schemas"
    with pytest.raises(ValueError, match="needs one"):
        page.with_tables("# Conventions\n")
