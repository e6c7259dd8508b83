import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.incidents.expressions import InvalidExpression, NotEvaluable, expression, view
from tests.incidents.packs.made import CONDITIONS, facts, json_values, many_facts


def value(text, payload=None):
    return expression(text).value(view(facts(payload)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('exception.type == "A"', True),
        ("exception.payload.n + 1", 4),
        ("exception.payload.n > 2.5", True),
        ("double(exception.payload.money) >= 100.0", True),
        ("has(exception.payload.none)", False),
        ('"b" in exception.payload.l', True),
        ("exception.payload.l.exists(e, e.startsWith('b'))", True),
        ("timestamp(exception.occurred_at) < timestamp('2027-01-01T00:00:00Z')", True),
        ("timestamp(exception.occurred_at)", "2026-01-31T12:00:00Z"),
        ("duration('90s')", 90.0),
        ("exception.payload.money.matches('^[0-9.]+$')", True),
        ("exception.severity == null", True),
        ("{'b': [1, null, true], 'a': 1.5}", {"a": 1.5, "b": [1, None, True]}),
        ("'// no note' + ' + none'", "// no note + none"),
        ("exception.payload.big > 1", True),
    ],
)
def test_an_expression_has_the_value_of_cel(text, expected):
    payload = {"n": 3, "money": "120.5", "l": ["a", "b"], "big": 10**30}
    found = value(text, payload)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("foo.bar == 1", "undeclared reference to 'foo.bar' (there are exception, incident"),
        ("secrets.token", "undeclared reference"),
        ("exception.typo == 1", "exception has no member 'typo'; it has amount"),
        ("1 +", "column 4: Syntax error: mismatched input the end"),
        ("exception.type ==\n\n'a' &&", "line 3"),
        ("1 + 'a'", "no matching overload"),
        ("1 == 1" + " || 1 == 1" * 200, "characters"),
        ("(" * 300 + "1" + ")" * 300, "recursion"),
        ("1" + "+1" * 17, "17 additions"),
        ("[1].map(x, x)", "no map here"),
        ("[1].filter(x, true).size() > 1", "no filter here"),
        ("bytes('a')", "no bytes here"),
        ("['a'].exists(x, (x + x).size() > 1)", "adds within"),
        ("[[1]].exists(x, x.exists(y, y == 1))", "one list at a time"),
        ("[[1]].exists(x, [x].exists /* */ (y, true))", None),
        ("[1].all(a, true) && [1].all(a, true) && [1].all(a, true) && [1].all(a, true)", "4 lists"),
        ("'a'.matches(exception.type)", "text in quotes"),
        ("'a'.matches('a' + exception.type)", "text in quotes"),
        ("'a'.matches('(')", "missing"),
        ("'a'.matches('" + "a" * 300 + "')", "300 characters"),
        ("'a'.matches(b'a')", "matching overload"),
        (" && ".join(["'a'.matches('a')"] * 5), "5 patterns"),
        ("'\\ud800' == 'a'", "column"),
        ("exception.?type", "unsupported"),
    ],
)
def test_what_is_no_expression_or_asks_for_too_much_is_refused_with_a_reason(text, told):
    with pytest.raises(InvalidExpression) as refused:
        expression(text)
    assert told is None or told in refused.value.detail
    assert len(refused.value.detail) < 400
    assert "<input>" not in refused.value.detail


@pytest.mark.parametrize(
    "text",
    [
        "exception.payload.none == 1",
        "exception.payload.n / 0 == 1",
        "exception.payload.n + 9223372036854775807 == 1",
        "exception.payload.s > 1",
        "exception.payload.l[7] == 1",
        "exception.payload.s",
        "type(1)",
        "b'abc'",
        "1.0 / 0.0",
        "int('none') == 1",
    ],
)
def test_what_has_no_value_for_these_facts_says_so(text):
    seen = view(facts({"n": 1, "s": "s", "l": [1]}))
    with pytest.raises(NotEvaluable) as told:
        expression(text).holds(seen)
    assert 0 < len(told.value.detail) <= 200


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("exception.payload.none", 'key not found in map : "none"'),
        ("exception.payload['a b']", 'key not found in map : "a b"'),
        ("exception.payload[exception.payload.who]", "key not found in map"),
        ("exception.payload[exception.payload.n]", "key not found in map"),
    ],
)
def test_what_is_missing_is_named_by_the_expression_and_by_no_value(text, told):
    seen = view(facts({"who": "patient Ada has flu", "n": 4711}))
    with pytest.raises(NotEvaluable) as error:
        expression(text).value(seen)
    assert error.value.detail == told


def test_an_expression_sees_a_bounded_part_of_texts_and_lists():
    payload = {"s": "a" * 100_000, "l": list(range(10_000)), "deep": None}
    deep = payload
    for _ in range(100):
        deep["deep"] = {}
        deep = deep["deep"]
    assert value("exception.payload.s.size()", payload) == 8192
    assert value("exception.payload.l.size()", payload) == 500
    assert value("exception.payload.deep.deep.deep == null", payload) is False


NUMBERS = list(range(500))
LONG = "xy" * 4096
LARGE = {f"k{i}": [{"a": j} for j in range(6)] for i in range(400)}
SAME = "exception.payload.m == exception.payload.m"
HEAVY = {f"k{i}": NUMBERS[:50] for i in range(30)}
ROWS = [{"sku": f"s{i}", "qty": i, "tags": ["a", "b", "c"], "name": "x" * 60} for i in range(500)]


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        (f"exception.payload.l.all(x, {SAME})", {"l": NUMBERS, "m": LARGE}),
        (" && ".join([SAME] * 21), {"m": LARGE}),
        ("[1].all(x, [exception.payload] == [exception.payload])", {"l": NUMBERS, "m": ROWS * 60}),
        ("exception.payload.a.all(x, x in exception.payload.b)", {"a": ROWS, "b": ROWS[::-1]}),
        (
            "(exception.payload.l + exception.payload.l).all(x, x in exception.payload.l)",
            {"l": NUMBERS},
        ),
        (f"[{'1,' * 300}1].all(x, {SAME})", {"m": {"a": [{"b": [0] * 20}] * 60}}),
        (f"[{','.join(['exception'] * 45)}].all(x, {' && '.join(['x==x'] * 60)})", {"m": HEAVY}),
        (
            f"[{','.join(['exception'] * 30)}].all(x, [{'x,' * 80}1] == [{'x,' * 80}1])",
            {"m": HEAVY},
        ),
        ("exception.payload.l.all(x, !''.matches('.{1,400}'))", {"l": NUMBERS}),
        ("exception.payload.l.all(x, !exception.payload.t.matches('(x.*)z'))", {"l": NUMBERS}),
        (
            "exception.payload.l.all(x, "
            + " && ".join(["!x.matches('(a|b|a?b?){20}c')"] * 4)
            + ")",
            {"l": [LONG] * 400},
        ),
    ],
)
def test_what_would_be_too_much_work_is_not_begun(text, payload):
    found, seen = expression(text), view(facts({"t": LONG, **payload}))
    began = time.process_time()
    with pytest.raises(NotEvaluable, match="compare too much"):
        found.holds(seen)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        (SAME, {"m": LARGE}),
        ("exception.payload.l.all(x, x.a == 1 && x.b != 'c' && x.a in [1, 2])", None),
        ("exception.payload.l.exists(x, x.a == exception.payload.n)", None),
        ("exception.payload.m.all(x, x in exception.payload.m)", {"m": NUMBERS[:450]}),
        ("exception.payload.l.all(x, !x.s.matches('([xy]{1,30})z$'))", None),
        ("exception.payload.l.all(x, size(exception.payload.l) > 1)", None),
    ],
)
def test_what_is_allowed_is_done_in_time(text, payload):
    rows = [{"a": 1, "b": "b", "s": "x" * 60} for _ in range(500)]
    found, seen = expression(text), view(facts({"l": rows, "n": 1} if payload is None else payload))
    assert seen.activation
    began = time.process_time()
    assert found.holds(seen)
    # Counted for 60 ms at most.
    assert time.process_time() - began < 0.5


def _has_value(condition, seen):
    try:
        return condition.holds(seen)
    except NotEvaluable:
        return False


def test_all_conditions_on_the_same_facts_share_a_bound():
    seen = view(facts({"m": LARGE}))
    conditions = [expression(f"{SAME} && {number} == {number}") for number in range(500)]
    assert all(each.holds(seen) for each in conditions[:20])
    told = [each for each in conditions if not _has_value(each, seen)]
    assert told == conditions[-len(told) :]
    assert len(told) > 300
    assert expression(SAME).holds(view(facts({"m": LARGE})))


@settings(max_examples=50)
@given(json_values)
def test_a_value_of_a_payload_is_found_as_it_is(found):
    kept = value("exception.payload.v", {"v": found})
    if isinstance(found, int) and not -(2**63) <= found < 2**63:
        assert kept == float(found)
    elif not isinstance(found, dict | list | str):
        assert (kept, type(kept)) == (found, type(found))
    elif isinstance(found, str):
        assert kept == found.encode("utf-8", "replace").decode()


@settings(max_examples=50)
@given(st.sampled_from(CONDITIONS), many_facts)
def test_the_same_facts_always_give_the_same_answer(text, document):
    def asked():
        try:
            return expression(text).holds(view(document))
        except NotEvaluable as error:
            return error.detail

    assert asked() == asked()


def test_the_order_of_an_objects_members_is_the_same_in_every_process():
    program = (
        "from nilometer.incidents.expressions import expression, view\n"
        "facts = {'exception': {'payload': {c: [c] for c in 'zyxwvutsrq'}}}\n"
        "print(expression('exception.payload').value(view(facts)))\n"
        'print(expression(\'{"b": 1, "c": 2, "a": 3}\').value(view(facts)))\n'
    )
    ran = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
        for _ in range(2)
    ]
    assert ran[0] == ran[1]


def test_threads_share_an_expression():
    shared = expression("exception.payload.l.exists(e, e == exception.payload.n)")
    wrong = []

    def ask(number):
        for n in range(300):
            document = facts({"n": n % 7, "l": [number]})
            if shared.holds(view(document)) is not (n % 7 == number):
                wrong.append((number, n))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
