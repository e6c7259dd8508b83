"""What a pack has compiled is bounded, so that reading it holds nobody up."""

import threading
import time

import pytest

from nilometer.incidents import expressions, pack_bounds
from nilometer.incidents.expressions import InvalidExpression, expression
from nilometer.incidents.packs.reading import PackInvalid, parse_pack


def with_rules(*conditions):
    rules = [
        {"name": f"r{at}", "when": when, "severity": "low"} for at, when in enumerate(conditions)
    ]
    return {"format": 1, "name": "p", "triage": {"rules": rules}}


def matching(*patterns):
    return " || ".join(f"exception.type.matches(r'{each}')" for each in patterns)


@pytest.fixture(autouse=True)
def _nothing_is_kept():
    expressions._kept.cache_clear()


@pytest.mark.parametrize(
    "pattern",
    [
        ".{1,1000}" * 20,
        "(" * 60 + "a" + ")" * 60 + "{900}",
        r"\pL{1,200}" * 20,
        r"[^\pL]{30}" * 20,
        r"(?i)[\pL\pN]{1,8}" * 14,
        "((((a{10}){10}){10}))" * 12,
    ],
)
def test_a_pattern_that_would_compile_to_too_much_is_refused_at_once(pattern):
    began = time.thread_time()
    with pytest.raises(InvalidExpression, match="too large"):
        expression(matching(pattern))
    assert time.thread_time() - began < 0.2


def test_many_such_patterns_are_refused_while_other_threads_go_on():
    document = with_rules(*(matching(*[".{1,1000}" * 20 + str(at)] * 4) for at in range(200)))
    ended, longest = threading.Event(), [0.0]

    def tick():
        last = time.monotonic()
        while not ended.wait(0.01):
            now = time.monotonic()
            longest[0], last = max(longest[0], now - last), now

    ticking = threading.Thread(target=tick)
    ticking.start()
    began = time.thread_time()
    with pytest.raises(PackInvalid, match="too large"):
        parse_pack(document)
    took = time.thread_time() - began
    ended.set()
    ticking.join()
    assert took < 2
    # One such pattern held all threads for a second and more.
    assert longest[0] < 0.5


def test_patterns_of_a_pack_are_counted_and_summed(monkeypatch):
    monkeypatch.setattr(pack_bounds, "MAX_PATTERNS", 8)
    fitting = [matching(*"abcd"), matching(*"efgh")]
    assert parse_pack(with_rules(*fitting, *fitting)).triage.rules
    with pytest.raises(PackInvalid, match=r"triage\.rules\.2\.when.*at most 8 patterns"):
        parse_pack(with_rules(*fitting, "1 == 1 || " + matching("i")))
    monkeypatch.setattr(pack_bounds, "MAX_STEPS", 1000)
    assert parse_pack(with_rules(matching("a{100}"), matching("b{100}")))
    with pytest.raises(PackInvalid, match="too large together"):
        parse_pack(with_rules(matching("a{1000}"), matching("b")))


def test_expressions_of_a_pack_are_counted_also_those_that_are_kept(monkeypatch):
    monkeypatch.setattr(pack_bounds, "MAX_EXPRESSIONS", 3)
    three = [f"1 == {at}" for at in range(3)]
    expression("1 == 3")
    assert parse_pack(with_rules(*three, *three))
    with pytest.raises(PackInvalid, match="at most 3 expressions"):
        parse_pack(with_rules(*three, "1 == 3"))
    assert parse_pack(with_rules("1 == 3"))


def test_the_largest_pack_of_patterns_is_read_in_time():
    largest = [matching(f".{{{at}}}") for at in range(1, 100)]
    began = time.thread_time()
    assert parse_pack(with_rules(*largest)).triage.rules
    assert time.thread_time() - began < 2
