import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.domain import json_text
from nilometer.domain.json_text import InvalidJson

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(json_values, st.booleans())
def test_every_json_value_is_read_as_it_was_written(value, ascii_only):
    assert (
        json_text.loads(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))
        == value
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "Expecting value at line 1 column 1"),
        (b"{", "line 1 column 2"),
        (b"{} x", "Extra data"),
        (b"\xef\xbb\xbf{}", "Expecting value"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b'"\x00"', "Invalid control character"),
        (b"NaN", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b'{"a":{"b":1,"b":2}}', "duplicate key 'b'"),
        (b'{"a":1,"\\u0061":2}', "duplicate key 'a'"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"\\udfff":1}', "half of a surrogate pair"),
        (b"9" * 4301, "more than 4300 digits"),
        (b"[" * 128 + b"]" * 128, "nested deeper than 127 levels"),
        (b'{"a":' * 200_000, "nested deeper than 127 levels"),
        (b"[" * 200_000, "nested deeper than 127 levels"),
    ],
)
def test_a_text_that_two_readers_would_read_differently_is_refused(data, reason):
    with pytest.raises(InvalidJson, match=reason.replace("-", r"\-")):
        json_text.loads(data)


def test_nesting_of_127_levels_is_read():
    assert json_text.loads(b"[" * 127 + b"]" * 127)


def test_brackets_inside_strings_do_not_count_as_nesting():
    text = json.dumps(['["\\' * 500, "{" * 500])
    assert json_text.loads(text.encode()) == json.loads(text)


def test_numbers_keep_their_digits():
    assert json_text.members('{"a": 1.10, "b":123456789012345678901234567890 }') == {
        "a": "1.10",
        "b": "123456789012345678901234567890",
    }


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values))
def test_members_are_the_exact_texts_of_the_values(value):
    text = json.dumps(value, indent=1)
    assert {key: json.loads(part) for key, part in json_text.members(text).items()} == value


@given(
    st.dictionaries(st.sampled_from("abc"), json_values),
    st.dictionaries(st.sampled_from("xyz"), st.integers() | st.text('a"\\')),
)
def test_added_members_join_the_object_and_leave_its_text_alone(value, added):
    text = json.dumps(value, indent=1) + " \n"
    joined = json_text.with_members(text, {key: json.dumps(item) for key, item in added.items()})
    assert json.loads(joined) == value | added
    assert joined.startswith(text.rstrip().removesuffix("}").rstrip())


@given(json_values, st.booleans(), st.integers(100, 140))
def test_nesting_is_counted_whatever_stands_around_it(value, ascii_only, depth):
    text = json.dumps(['"\\]' * 70, value], ensure_ascii=ascii_only)[1:-1]
    data = ("[" * depth + text + "]" * depth).encode()
    if depth + _depth(value) <= 127:
        assert json_text.loads(data)
    else:
        with pytest.raises(InvalidJson, match="nested deeper than 127 levels"):
            json_text.loads(data)


def _depth(value: object) -> int:
    match value:
        case dict():
            return 1 + max(map(_depth, value.values()), default=0)
        case list():
            return 1 + max(map(_depth, value), default=0)
        case _:
            return 0
