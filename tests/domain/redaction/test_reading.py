"""Rules are taken whole or refused with the place of what is wrong."""

import pytest

from nilometer.domain.redaction.reading import (
    MAX_KEY,
    MAX_KEYS,
    MAX_PATTERNS,
    MAX_REGEX,
    InvalidRules,
    read_rules,
)
from nilometer.domain.redaction.redactor import RedactionUnavailable, redactor_of
from nilometer.domain.redaction.rules import UNREADABLE, Content, CustomPattern, RedactionRules

OWN = {"name": "own", "regex": "x"}


def test_rules_are_read_and_written_back():
    given = {
        "patterns": ["email", {"name": "staff", "regex": r"E\d+"}],
        "keys": ["Password"],
        "content": "none",
    }
    rules = read_rules(given)
    assert rules == RedactionRules(
        ("email",), (CustomPattern("staff", r"E\d+"),), ("Password",), Content.NONE
    )
    assert rules.to_json() == given
    assert rules.names == ("email", "staff", "key:Password", "content")
    assert read_rules(rules.to_json()) == rules


@pytest.mark.parametrize(
    "given", [{}, {"patterns": []}, {"content": "keep"}, {"patterns": None, "keys": []}]
)
def test_rules_that_say_nothing_are_none(given):
    assert read_rules(given) is None


@pytest.mark.parametrize(
    ("given", "attr"),
    [
        (None, "redaction"),
        ([], "redaction"),
        ("email", "redaction"),
        ({"pattern": []}, "redaction"),
        ({"patterns": "email"}, "redaction.patterns"),
        ({"patterns": ["email"] * (MAX_PATTERNS + 1)}, "redaction.patterns"),
        ({"patterns": ["email", "e-mail"]}, "redaction.patterns.1"),
        ({"patterns": ["email", "email"]}, "redaction.patterns.1"),
        ({"patterns": [OWN, OWN]}, "redaction.patterns.1"),
        ({"patterns": [3]}, "redaction.patterns.0"),
        ({"patterns": [{**OWN, "flags": "i"}]}, "redaction.patterns.0"),
        ({"patterns": [{"name": "own"}]}, "redaction.patterns.0.regex"),
        ({"patterns": [{**OWN, "regex": ""}]}, "redaction.patterns.0.regex"),
        ({"patterns": [{**OWN, "regex": "x" * (MAX_REGEX + 1)}]}, "redaction.patterns.0.regex"),
        ({"patterns": [{**OWN, "regex": "x*"}]}, "redaction.patterns.0.regex"),
        ({"patterns": [{**OWN, "regex": "(?=x)y"}]}, "redaction.patterns.0.regex"),
        ({"patterns": ["email", {**OWN, "regex": "("}]}, "redaction.patterns.1.regex"),
        ({"patterns": [{**OWN, "name": "email"}]}, "redaction.patterns.0.name"),
        ({"patterns": [{**OWN, "name": "content"}]}, "redaction.patterns.0.name"),
        ({"patterns": [{**OWN, "name": "key:x"}]}, "redaction.patterns.0.name"),
        ({"patterns": [{**OWN, "name": "Own"}]}, "redaction.patterns.0.name"),
        ({"patterns": [{**OWN, "name": "x" * 41}]}, "redaction.patterns.0.name"),
        ({"keys": ["a", "A"]}, "redaction.keys.1"),
        ({"keys": [""]}, "redaction.keys.0"),
        ({"keys": ['a"b']}, "redaction.keys.0"),
        ({"keys": ["a\nb"]}, "redaction.keys.0"),
        ({"keys": ["x" * (MAX_KEY + 1)]}, "redaction.keys.0"),
        ({"keys": [f"k{i}" for i in range(MAX_KEYS + 1)]}, "redaction.keys"),
        ({"content": "some"}, "redaction.content"),
        ({"content": ["keep"]}, "redaction.content"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(given, attr):
    with pytest.raises(InvalidRules) as refused:
        read_rules(given)
    assert (refused.value.attr, refused.value.code) == (attr, "invalid_redaction")
    assert len(refused.value.detail) < 400


def test_rules_that_cannot_be_read_let_nothing_through():
    with pytest.raises(RedactionUnavailable):
        redactor_of(UNREADABLE)
