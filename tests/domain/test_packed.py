"""The texts of objects with and without their large values."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.domain import packed
from nilometer.domain.json_text import InvalidJson
from nilometer.domain.packed import PackedValue, large_members, put_back, without

ABOVE = 40

names = st.text(max_size=12) | st.sampled_from(['a"b', "a\\b", "source", "", "é", "\u2028"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=10,
)


def packed_text(text: str, above: int = ABOVE) -> tuple[str, dict[str, str]]:
    members = large_members(text, above)
    urls = [(member, f"file://b/{number}") for number, member in enumerate(members)]
    return without(text, urls), {each.name: text[each.start : each.end] for each in members}


@given(
    st.dictionaries(names, values, max_size=6),
    st.sampled_from([None, 0, 3]),
    st.booleans(),
    st.sampled_from(["", " ", "\r\n\t"]),
)
def test_what_is_taken_out_and_put_back_is_the_very_text(given, indent, ascii_only, around):
    text = around + json.dumps(given, indent=indent, ensure_ascii=ascii_only) + around
    short, taken = packed_text(text)
    assert put_back(short, taken) == text
    parsed = json.loads(short)
    assert list(parsed) == list(given)
    for name, value in given.items():
        kept = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
        if name in taken:
            assert json.loads(taken[name]) == value
            assert parsed[name].startswith("file://b/")
        else:
            assert parsed[name] == value
            # Indented inside the object it may be longer than alone, never shorter.
            assert len(kept.encode()) <= ABOVE


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("x" * 38, False),
        ("x" * 39, True),
        ("é" * 19, False),
        ("é" * 19 + "x", True),
        ("水" * 12 + "xx", False),
        ("水" * 12 + "xxx", True),
        ("𓈗" * 9 + "xx", False),
        ("𓈗" * 9 + "xxx", True),
    ],
)
def test_the_threshold_counts_bytes_of_utf_8(value, taken):
    text = json.dumps({"a": value, "b": 1}, ensure_ascii=False)
    assert len(json.dumps(value, ensure_ascii=False).encode()) == ABOVE + taken
    assert bool(packed_text(text)[1]) is taken


def test_numbers_spaces_and_escapes_beside_a_large_value_stay_as_they_were_sent():
    text = '{ "n" : 1.10 , "big":12345678901234567890123 ,"e":1E5, "l":"%s", "u":"\\u00e9" }'
    text %= "x" * 100
    short, taken = packed_text(text)
    assert short == text.replace('"' + "x" * 100 + '"', '"file://b/0"')
    assert put_back(short, taken) == text


def test_a_name_that_occurs_twice_is_left_alone():
    text = f'{{"a":"{"x" * 100}","a":1,"b":"{"y" * 100}"}}'
    assert list(packed_text(text)[1]) == ["b"]


def test_what_python_reads_and_json_does_not_have_is_left_in_place():
    text = f'{{"n":NaN,"a":"{"x" * 100}","i":-Infinity}}'
    short, taken = packed_text(text)
    assert short == '{"n":NaN,"a":"file://b/0","i":-Infinity}'
    assert put_back(short, taken) == text


@pytest.mark.parametrize("text", ["[]" + " " * 100, '"' + "x" * 100 + '"', '{"a":1' + " " * 100])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(InvalidJson):
        large_members(text, ABOVE)


def test_a_property_named_like_the_column_is_not_taken_for_it():
    values = (
        PackedValue("source", "file://b/1", 10, 5),
        PackedValue(None, "file://b/2", 11, 6),
        PackedValue("", "file://b/3", 12, 7),
    )
    assert packed.from_json(packed.to_json(values)) == values
    assert packed.from_json("[]") == packed.from_json("") == ()
