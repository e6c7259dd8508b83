"""Walking a text accepts what reading it whole accepts, and keeps each value's text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.domain import json_text
from nilometer.domain.json_text import InvalidJson
from nilometer.domain.json_walk import JsonWalk

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def walked(data: bytes):
    """The value, its outer two levels walked."""
    walk = JsonWalk(data)
    value = _walked(walk, 2)
    walk.finish()
    return value


def _walked(walk: JsonWalk, depth: int):
    if depth and walk.begins() == "{":
        return {name: _walked(walk, depth - 1) for name in walk.members()}
    if depth and walk.begins() == "[":
        return [_walked(walk, depth - 1) for _ in walk.elements()]
    value, text = walk.value()
    assert json_text.loads(text.encode()) == value
    return value


@given(json_values, st.sampled_from([None, 1]), st.booleans())
def test_what_is_walked_is_what_is_read(value, indent, ascii_only: bool):
    try:
        data = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
        expected = json_text.loads(data)
    except (UnicodeEncodeError, InvalidJson):
        return
    assert walked(data) == expected


@given(st.text(alphabet='{}[],:" 1ae\\u0d8"n\n', max_size=12))
def test_what_is_refused_whole_is_refused_walked(text: str):
    data = text.encode()
    try:
        expected = json_text.loads(data)
    except InvalidJson:
        with pytest.raises(InvalidJson):
            walked(data)
    else:
        assert walked(data) == expected


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":2}', '{"a":1 "b":2}', "[1 2]", "[1,]", '{"a":1,}', '{"a"}', "[1", '{"a":', "[] 1"],
)
def test_the_outer_levels_are_as_strict_as_the_inner(text: str):
    with pytest.raises(InvalidJson):
        walked(text.encode())


def test_half_of_a_surrogate_pair_is_refused_in_names_and_values():
    for text in (r'{"\ud83d":1}', r'{"a":"\ud83d"}', r'["\udE00"]'):
        with pytest.raises(InvalidJson, match="surrogate"):
            walked(text.encode())
    assert walked(rb'["\ud83d\ude00"]') == ["😀"]


def test_a_value_keeps_the_text_that_was_sent():
    walk = JsonWalk(b'{"a": 1.10 , "b":[1e400, 9007199254740993] }')
    texts = {name: walk.value()[1] for name in walk.members()}
    assert texts == {"a": "1.10", "b": "[1e400, 9007199254740993]"}
