import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.incidents.packs.documents import read_document, read_pack
from nilometer.incidents.packs.reading import PackInvalid


def told(text):
    with pytest.raises(PackInvalid) as refused:
        read_document(text if isinstance(text, bytes) else text.encode())
    [problem] = refused.value.problems
    return problem


@pytest.mark.parametrize(
    ("text", "sentence", "line"),
    [
        ("a: &x [1]\nb: *x\n", "Anchors", 1),
        ("a: 1\nb: !!python/object/apply:os.system ['true']\n", "Tags", 2),
        ("a: 1\n---\nb: 2\n", "second document", 2),
        ("a: 1\nb: 2\na: 3\n", "twice", 3),
        ("? [a]\n: 1\n", "name of a member", 1),
        ("a: [1\nb: 2", "not YAML", 2),
        ("[" * 60 + "]" * 60, "deeper than 40", 1),
        ("", "empty", None),
        ("# nothing\n", "empty", None),
        ("a: 1e999\n", "not JSON|too large", None),
        (b"a: \xff\n", "not UTF-8", None),
        (b"a: " + b"x" * 300_000, "at most 262,144", None),
        ('{"a": 1, "a": 2}', "not JSON", None),
        ('{"a": NaN, "b": "c"}', "not JSON", None),
        ("- 1\n" * 20_001, "more than 20,000", 20_000),
        ("a: \x00\n", "not YAML", None),
    ],
)
def test_a_text_that_is_hostile_or_broken_is_refused_with_its_line(text, sentence, line):
    problem = told(text)
    assert any(part in problem.sentence for part in sentence.split("|"))
    assert line is None or problem.line == line


def test_a_billion_laughs_are_refused_at_the_first():
    text = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(50))
    assert "Anchors" in told(text).sentence


def test_plain_words_are_texts_unless_json_has_them():
    text = (
        "a: yes\nb: on\nc: 2026-01-31\nd: 1:30\ne: 017\nf: 0x1f\ng: '12'\nh: null\ni: true\nj: .5\n"
    )
    assert read_document(text.encode()).value == {
        "a": "yes", "b": "on", "c": "2026-01-31", "d": "1:30", "e": 17, "f": "0x1f",
        "g": "12", "h": None, "i": True, "j": 0.5,
    }  # fmt: skip


json_documents = st.dictionaries(
    st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=6),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(st.characters(codec="ascii", categories=("L",))), inner)
        ),
        max_leaves=6,
    ),
    min_size=1,
)


@settings(max_examples=40)
@given(json_documents)
def test_yaml_and_json_of_a_document_are_the_same(document):
    as_json = json.dumps(document, ensure_ascii=False).encode()
    assert read_document(as_json).value == document
    # JSON is YAML, whose reader it comes to by its first line.
    assert read_document(b"---\n" + as_json).value == document


def test_problems_of_a_pack_have_their_lines():
    rule = b"    - name: r\n      when: nope\n      severity: x\n"
    text = b"format: 1\nname: p\ntriage:\n  rules:\n" + rule
    with pytest.raises(PackInvalid) as refused:
        read_pack(text)
    assert [(each.path, each.line) for each in refused.value.problems] == [
        ("triage.rules.0.when", 6),
        ("triage.rules.0.severity", 7),
    ]
    missing = b"format: 1\nname: p\nplaybooks:\n  - name: a\n"
    with pytest.raises(PackInvalid) as refused:
        read_pack(missing)
    assert [(each.path, each.line) for each in refused.value.problems] == [("playbooks.0.steps", 4)]
