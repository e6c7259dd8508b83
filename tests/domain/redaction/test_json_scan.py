"""JSON is redacted in place: what no rule touches keeps its bytes, and what comes out is JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.domain.redaction.layout import Layout
from tests.domain.redaction.rules import EVERY_PATTERN, json_text, redactor, text

MAIL = "ada@example.com"
R = redactor(*EVERY_PATTERN, {"name": "staff", "regex": r"E-\d+"}, keys=["password", "X-Token"])
MARK = "[redacted:email]"


def key(name: str) -> str:
    return f"[redacted:key:{name}]"


@pytest.mark.parametrize(
    "given",
    [
        '{"a": 1.10, "b":1e400,\t"c" : 12345678901234567890123, "a": 2}',
        '{ "x" : [ null , true, "a\\u0062\\/c" , -0.0 ] }\n',
        '"plain"',
        "[]",
        "{}",
        "[" * 500 + "]" * 500,
        '{"n": 1700000000000000, "t": 4111111111111111.5}',
    ],
)
def test_what_no_rule_touches_keeps_every_byte(given):
    told, counts = json_text(R, given)
    assert told is given
    assert counts == {}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            f'{{"a": 1.10, "m" : "to {MAIL}" , "b": 1e400}}',
            f'{{"a": 1.10, "m" : "to {MARK}" , "b": 1e400}}',
        ),
        ('["ad\\u0061@ex\\u0061mple.com"]', f'["{MARK}"]'),
        (
            '{"a": {"PASSWORD": {"b": [1, 2]}, "c": 1}}',
            f'{{"a": {{"PASSWORD": "{key("password")}", "c": 1}}}}',
        ),
        ('{"pass\\u0077ord": [1]}', f'{{"pass\\u0077ord": "{key("password")}"}}'),
        ('{"x-token":12}', f'{{"x-token":"{key("X-Token")}"}}'),
        ('{"password": null, "passwords": 1}', '{"password": null, "passwords": 1}'),
        ('{"card": 4111111111111111}', '{"card": "[redacted:credit_card]"}'),
        (f'{{"{MAIL}": 1, "{MAIL} too": 2}}', f'{{"{MARK}": 1, "{MARK} too": 2}}'),
        (f'"{MAIL}"', f'"{MARK}"'),
    ],
)
def test_values_are_replaced_where_they_stand(given, told):
    assert json_text(R, given)[0] == told
    assert json_text(R, told) == (told, {})


def test_two_names_do_not_become_one():
    given = {
        MAIL: 1,
        "bob@example.com": 2,
        "[redacted:email] 2": 3,
        "inner": {"eve@example.com": 4},
    }
    told = json.loads(json_text(R, json.dumps(given))[0])
    assert list(told.values())[:3] == [1, 2, 3]
    assert len(told) == 4
    assert "example.com" not in json.dumps(told)


def test_json_in_strings_of_json_is_redacted_inside_and_stays_json():
    messages = [{"role": "user", "content": f"I am {MAIL}", "Password": {"old": "a"}, "n": 1.5}]
    given = json.dumps(
        {"attributes": {"gen_ai.input.messages": json.dumps({"all": json.dumps(messages)})}}
    )
    told, counts = json_text(R, given)
    inner = json.loads(json.loads(json.loads(told)["attributes"]["gen_ai.input.messages"])["all"])
    assert inner == [
        {"role": "user", "content": f"I am {MARK}", "Password": key("password"), "n": 1.5}
    ]
    assert counts == {"email": 1, "key:password": 1}


def test_half_of_a_surrogate_pair_in_json_in_a_string_stays_an_escape():
    given = json.dumps({"a": f'{{"b": "\\ud83d {MAIL}", "\\ud83d {MAIL}": 1}}'})
    told, counts = json_text(R, given)
    assert counts == {"email": 2}
    inner = json.loads(json.loads(told.encode())["a"])
    assert inner == {"b": f"\ud83d {MARK}", f"\ud83d {MARK}": 1}


def test_json_in_strings_deeper_than_is_looked_is_redacted_as_text():
    given: Any = {"password": "swordfish", "to": MAIL}
    for _ in range(12):
        given = json.dumps(given)
    told, _ = text(R, given)
    assert "swordfish" not in told
    assert MAIL not in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('{"a": "b", "password": "swordf', f'{{"a": "b", "password": "{key("password")}"'),
        ('{"password": {"a": "swordfish"', f'{{"password": "{key("password")}"'),
        ('one {"password": "swordfish"} two', f'one {{"password": "{key("password")}"}} two'),
        (
            "{'Password': 'it\\'s swordfish', 'a': 1}",
            f"{{'Password': '{key('password')}', 'a': 1}}",
        ),
        ('{"password": 12}\n{"password": 13}', f'{{"password": "{key("password")}"}}\n' * 2),
        ('say "password": null', 'say "password": null'),
        (
            '{"m": "[{\\"password\\": \\"swordfish',
            f'{{"m": "[{{\\"password\\": "{key("password")}"',
        ),
    ],
)
def test_named_values_are_found_in_what_is_no_json_any_more(given, told):
    made = text(R, given)[0]
    assert made == told.rstrip("\n") if "\n" in given else made == told
    assert "swordf" not in made
    assert text(R, made) == (made, {})


KEPT = Layout(
    fixed=frozenset({"uuid"}),
    named=frozenset({"distinct_id"}),
    keeps=frozenset({"uuid", "distinct_id", "name"}),
    whole=frozenset({"usage"}),
    inner={
        "properties": Layout(keeps=frozenset({"model"})),
        "choices": Layout(keeps=frozenset({"finish_reason"})),
    },
)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('{"a": "x"}', "{}"),
        ('{"a": "x", "n": 1}', '{"n": 1}'),
        ('{"n": 1, "a": "x"}', '{"n": 1}'),
        ('{"n": 1, "a": "x" , "b": {"c": 1} }', '{"n": 1}'),
        ('{"n": 1 , "a": [1], "t": true, "b": "y"}', '{"n": 1 , "t": true}'),
        ('{"a": "x", "b": "y"}', "{}"),
        ('{"name": "x", "a": ",}"}', '{"name": "x"}'),
        ('{"usage": {"tier": "a"}, "a": {}}', '{"usage": {"tier": "a"}}'),
        ('{"name": ["x"]}', "{}"),
        ('{"properties": {"model": "m", "in": "x"}}', '{"properties": {"model": "m"}}'),
        (
            '{"choices": [{"finish_reason": "stop", "text": "x"}, "y", ["z"]]}',
            '{"choices": [{"finish_reason": "stop"}, null, [null]]}',
        ),
        ('{"properties": "x"}', "{}"),
    ],
)
def test_without_content_only_numbers_and_what_is_known_stays(given, told):
    none = redactor(content="none")
    assert json_text(none, given, KEPT)[0] == told
    assert json_text(none, told, KEPT)[0] == told


def test_an_identity_stays_whatever_rules_say():
    layout = Layout(fixed=frozenset({"uuid"}), named=frozenset({"distinct_id"}))
    given = (
        f'{{"uuid": "{MAIL}", "distinct_id": "{MAIL}", "x": "{MAIL}", "y": {{"uuid": "{MAIL}"}}}}'
    )
    told = (
        f'{{"uuid": "{MAIL}", "distinct_id": "{MAIL}", "x": "{MARK}", "y": {{"uuid": "{MARK}"}}}}'
    )
    assert json_text(R, given, layout)[0] == told
    naming = redactor(keys=["uuid", "distinct_id"])
    made = json.loads(json_text(naming, given, layout)[0])
    assert (made["uuid"], made["distinct_id"]) == (MAIL, key("distinct_id"))
    assert made["y"] == {"uuid": key("uuid")}


words = st.sampled_from(
    [
        *(MAIL, "E-17", "4111 1111 1111 1111", "password", "x-token", "plain", '"', "\\", "\u2028"),
        *("[redacted:email]", "[redacted:", "{", "+4917012345678", "漢", "123-45-6789", ":", "'"),
    ]
)
strings = (
    st.lists(words, max_size=4).map("".join) | st.lists(words, max_size=4).map(" ".join) | st.text()
)
scalars = strings | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(strings, inner, max_size=4)
        | inner.map(json.dumps)
    ),
    max_leaves=16,
)


def shape(value: Any) -> Any:
    """The value without its texts; a member that a rule names may have become a text."""
    if isinstance(value, dict):
        return [shape(each) for each in value.values()]
    if isinstance(value, list):
        return [shape(each) for each in value]
    return value if not isinstance(value, str) else ""


@given(values, st.booleans())
def test_redacting_again_changes_nothing_and_json_stays_json(value, escaped):
    given = json.dumps(value, ensure_ascii=escaped)
    told, counts = json_text(R, given)
    assert json_text(R, told) == (told, {})
    assert (told == given) == (not counts)
    json.loads(told)
    assert MAIL not in told
    assert "E-17" not in told


@given(values)
def test_without_rules_that_match_every_byte_stays(value):
    given = json.dumps(value, indent=1)
    own = redactor({"name": "never", "regex": "there is no such text"}, keys=["no such name"])
    assert json_text(own, given)[0] is given


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "name", "usage"]), values))
def test_leaving_members_out_leaves_json(value):
    told = json.loads(json_text(redactor(content="none"), json.dumps(value), KEPT)[0])
    assert list(told) == [
        name
        for name, each in value.items()
        if name == "usage"
        or (name == "name" and isinstance(each, str))
        or not isinstance(each, (str, dict, list))
    ]


@given(values)
def test_members_and_their_number_stay(value):
    own = redactor("email", {"name": "staff", "regex": r"E-\d+"})
    given = json.dumps(value)
    told = json.loads(json_text(own, given)[0])
    assert shape(told) == shape(json.loads(given))
