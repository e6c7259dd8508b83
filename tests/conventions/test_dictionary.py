"""The table of properties, and what is made from it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.capture.schema import SchemaViolation, check, schemas
from nilometer.conventions import dictionary_page, json_schema
from nilometer.conventions.ai_event import columns
from nilometer.conventions.ai_properties import EVENT_TYPES, PROPERTIES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
EXAMPLES = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
WITH_COLUMNS = [known for known in PROPERTIES if known.column not in (None, "is_error")]


def test_no_property_and_no_column_stands_twice() -> None:
    names = [known.name for known in PROPERTIES]
    taken = [known.column for known in PROPERTIES if known.column]
    assert len(set(names)) == len(names)
    assert len(set(taken)) == len(taken)


def test_every_property_says_in_one_line_what_it_is_and_who_says_so() -> None:
    for known in PROPERTIES:
        assert known.description.strip(), known.name
        assert "\n" not in known.description + known.source
        assert "|" not in known.description + known.source, "would break the table"
        assert known.source.strip(), known.name
        assert set(known.events) <= set(EVENT_TYPES)


def test_every_amount_and_duration_names_its_unit() -> None:
    for known in PROPERTIES:
        if known.kind.name == "USD":
            assert "USD" in known.description
        if known.kind.name == "seconds":
            assert "seconds" in known.description


def test_heavy_properties_have_no_column() -> None:
    heavy = {known.name for known in PROPERTIES if known.heavy}
    assert {
        f"$ai_{name}"
        for name in ["input", "output", "output_choices", "input_state", "output_state", "tools"]
    } <= heavy
    assert not any(known.column for known in PROPERTIES if known.heavy)


@pytest.mark.parametrize("event", EVENT_TYPES)
def test_the_committed_schema_is_what_the_dictionary_makes(event: str) -> None:
    committed = schemas()[json_schema.schema_name(event)].decode()
    assert committed == json_schema.text(event), "run scripts/schemas"


def test_the_documented_dictionary_is_current() -> None:
    assert dictionary_page.with_tables(PAGE) == PAGE, "run scripts/schemas"
    assert all(f"| `{known.name}` |" in PAGE for known in PROPERTIES)


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="needs one"):
        dictionary_page.with_tables("# Events\n")


def test_there_is_an_example_of_every_event_type() -> None:
    assert {example["event"] for example in EXAMPLES} == set(EVENT_TYPES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["event"])
def test_the_documented_examples_are_valid_even_strictly(example: dict[str, Any]) -> None:
    check(example["event"], example["properties"], strict=True)
    row = columns(example["event"], example["properties"])
    for name, value in example["properties"].items():
        known = next(known for known in PROPERTIES if known.name == name)
        assert known.column is None or row[known.column] is not None, (name, value)


def accepted(name: str, value: Any) -> bool:
    try:
        check("$ai_span", {"$ai_model": "m", name: value})
    except SchemaViolation:
        return False
    return True


VALUES = (
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.floats(0, 1000)
    | st.integers(0, 2000)
    | st.text(max_size=5)
    | st.text(alphabet="x", min_size=1020, max_size=1030)
    | st.from_regex(r"[0-9]{0,17}\.?[0-9]{0,3}(e-?[0-9])?", fullmatch=True)
    | st.lists(st.text(max_size=3), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)


@given(st.sampled_from(WITH_COLUMNS), VALUES)
def test_a_column_reads_exactly_what_the_schema_accepts(known: Any, value: Any) -> None:
    read = known.kind.read(value)
    if known.kind.name == "message" and isinstance(value, (bool, int, float)):
        assert not accepted(known.name, value), "read from laxer doors only"
        return
    if value == "" or (known.kind.name == "HTTP status" and value == 0):
        assert read is None, "accepted, and means that there is none"
        return
    assert (read is not None) == accepted(known.name, value)
