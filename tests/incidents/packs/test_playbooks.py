import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.incidents.expressions import view
from nilometer.incidents.packs.reading import PackInvalid
from nilometer.incidents.playbooks.machine import (
    AddComment,
    AssignOwner,
    Escalate,
    Finished,
    PlaybookFailed,
    Record,
    RunTool,
    StepResult,
    StepStatus,
    WaitManual,
    next_step,
)
from nilometer.incidents.playbooks.matching import match
from nilometer.incidents.playbooks.templates import NotRendered, render
from nilometer.incidents.tools.tables import TOOL_NAME
from tests.incidents.packs.made import facts, json_values, many_facts, pack, playbooks

DONE, FAILED, SKIPPED = StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED


def book(*steps, **more):
    return pack(playbooks=[{"name": "p", "steps": list(steps), **more}]).playbooks[0]


def test_the_highest_priority_that_fits_is_taken_then_the_first_name():
    step = [{"name": "a", "tool": "t"}]
    made = pack(
        playbooks=[
            {"name": "low", "priority": 1, "steps": step},
            {"name": "unfit", "priority": 9, "when": "exception.payload.none", "steps": step},
            {"name": "other", "priority": 9, "types": ["B"], "steps": step},
            {"name": "z-high", "priority": 5, "steps": step},
            {"name": "a-high", "priority": 5, "steps": step},
        ]
    )
    found = match(made, facts())
    assert found.playbook is not None
    assert found.playbook.name == "a-high"
    assert [str(each) for each in found.considered] == [
        "other: not for A",
        'unfit: could not be evaluated: key not found in map : "none"',
        "a-high: taken (priority 5): true",
        "z-high: fits, but a-high comes first",
        "low: fits, but a-high comes first",
    ]


@settings(max_examples=50)
@given(playbooks, many_facts, st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_the_document(books, document, random):
    shuffled = list(books)
    random.shuffle(shuffled)
    found = match(pack(playbooks=books), document)
    assert found == match(pack(playbooks=shuffled), document)
    fitting = [each.playbook for each in found.considered if each.fits]
    assert (found.playbook.name if found.playbook else None) == (fitting[0] if fitting else None)


def test_steps_come_in_order_and_see_what_came_before():
    made = book(
        {
            "name": "a",
            "tool": "t",
            "params": {"n": "{{ exception.payload.n }}", "s": "n is {{ exception.payload.n }}"},
            "retries": {"attempts": 7},
            "timeout_seconds": 9,
            "dry_run": True,
        },
        {"name": "b", "when": "steps.a.output.ok", "comment": "got {{ steps.a.output }}"},
        {"name": "c", "when": "!steps.a.output.ok", "comment": "never"},
        {"name": "d", "manual": {"instructions": "do {{ exception.type }}", "assignee": "ada"}},
        {"name": "e", "assign": "{{ exception.source_system }}"},
        {"name": "f", "escalate": "see {{ incident.id }}"},
    )
    document = facts({"n": 3})
    results = []

    def following():
        return next_step(made, document, results)

    first = following()
    assert isinstance(first, RunTool)
    assert (first.tool, first.input) == ("t", {"n": 3, "s": "n is 3"})
    assert (first.retries.attempts, first.timeout_seconds, first.dry_run) == (7, 9.0, True)
    results.append(StepResult("a", DONE, {"ok": True}))
    assert following() == AddComment("b", 'got {"ok":true}')
    results.append(StepResult("b", DONE))
    skipped = following()
    assert isinstance(skipped, Record)
    assert (skipped.step, skipped.result.status) == ("c", SKIPPED)
    results.append(skipped.result)
    assert following() == WaitManual("d", "do A", "ada", None)
    results.append(StepResult("d", DONE))
    assert following() == AssignOwner("e", "tests")
    results.append(StepResult("e", DONE))
    assert following() == Escalate("f", "see i")
    results.append(StepResult("f", DONE))
    assert following() == Finished()


def failing(on_failure, *results):
    made = book(
        {"name": "a", "tool": "t", "on_failure": on_failure},
        {"name": "b", "tool": "t"},
        recovery=[{"name": "r", "tool": "t"}],
    )
    return next_step(made, facts(), [StepResult("a", FAILED, code="c", detail="d"), *results])


def test_a_failed_step_stops_goes_on_or_leads_to_recovery():
    assert failing("stop") == PlaybookFailed("a", "c", "d")
    going_on = failing("continue")
    assert isinstance(going_on, RunTool)
    assert going_on.step == "b"
    assert failing("continue", StepResult("b", DONE)) == Finished(("a",))
    recovering = failing("r")
    assert isinstance(recovering, RunTool)
    assert recovering.step == "r"
    assert failing("r", StepResult("r", DONE)) == PlaybookFailed("a", "c", "d", "r")
    assert failing("r", StepResult("r", FAILED)) == PlaybookFailed("a", "c", "d")


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ({"when": "exception.payload.none"}, "condition_invalid"),
        ({"params": {"x": "{{ exception.payload.none }}"}}, "params_invalid"),
    ],
)
def test_a_step_without_a_condition_or_parameters_fails_and_is_never_run(step, code):
    found = next_step(book({"name": "a", "tool": "t", **step}), facts(), [])
    assert isinstance(found, Record)
    assert (found.result.status, found.result.code) == (FAILED, code)
    assert found.result.detail


conditions = st.sampled_from(
    [
        "true",
        "false",
        "exception.payload.n > 3",
        "steps.s0.status == 'succeeded'",
        "steps.s0.output.x",
    ]
)


@st.composite
def books(draw):
    steps = []
    for place in range(draw(st.integers(1, 5))):
        when = draw(conditions)
        if place == 0 and "steps" in when:
            when = "true"
        on_failure = draw(st.sampled_from(["stop", "continue", "r"]))
        steps.append({"name": f"s{place}", "tool": "t", "when": when, "on_failure": on_failure})
    return book(*steps, recovery=[{"name": "r", "tool": "t"}])


@given(
    books(),
    many_facts,
    st.lists(
        st.tuples(st.sampled_from([DONE, FAILED, SKIPPED]), st.sampled_from([{}, {"x": True}])),
        min_size=6,
        max_size=6,
    ),
)
def test_a_playbook_goes_on_the_same_from_any_prefix_and_ends(made, document, outcomes):
    results, followed = [], []
    for status, output in itertools.chain(outcomes, itertools.repeat((DONE, {}))):
        following = next_step(made, document, results)
        followed.append(following)
        if isinstance(following, Finished | PlaybookFailed):
            break
        result = (
            following.result
            if isinstance(following, Record)
            else StepResult(following.step, status, output)
        )
        results.append(result)
        assert len(results) <= len(made.steps) + 1
    for length in range(len(results) + 1):
        prefix = results[:length]
        assert next_step(made, document, prefix) == followed[length]
        # Whatever is told of a step once more: its first result counts.
        later = [StepResult(each.step, FAILED, {"x": False}, "late") for each in prefix]
        later += [StepResult(each.step, DONE) for each in prefix]
        assert next_step(made, document, [*prefix, *later]) == followed[length]


def test_types_are_kept_and_what_is_filled_in_is_not_filled_in_again():
    seen = view(facts({"evil": "{{ exception.type }}", "l": [1, {"a": None}], "t": True}))
    assert render(
        {
            "whole": "{{ exception.payload.l }}",
            "text": "x {{ exception.payload.evil }} {{ exception.payload.t }}",
            "braces": "{{ '}}' + '{{' }}",
            "plain": ["{not} {{'one'}}", 1.5, None],
            "spaces": "  {{ exception.payload.t }} ",
            "null": "<{{ exception.severity }}>",
        },
        seen,
    ) == {
        "whole": [1, {"a": None}],
        "text": "x {{ exception.type }} true",
        "braces": "}}{{",
        "plain": ["{not} one", 1.5, None],
        "spaces": True,
        "null": "<>",
    }


@given(json_values)
def test_a_whole_placeholder_gives_the_value_and_never_expands_it(found):
    if isinstance(found, int) and not -(2**63) <= found < 2**63:
        return
    seen = view(facts({"v": found}))
    try:
        made = render("{{ exception.payload.v }}", seen)
    except NotRendered:
        return
    if isinstance(found, str):
        assert made == found.encode("utf-8", "replace").decode()
    elif not isinstance(found, dict | list):
        assert (made, type(made)) == (found, type(found))


def test_a_text_that_becomes_too_long_is_refused():
    seen = view(facts({"s": "a" * 8192}))
    with pytest.raises(NotRendered):
        render("{{ exception.payload.s }} " * 20, seen)


def test_what_a_step_is_given_is_bounded_as_a_whole():
    payload = {f"a{i}": "x" * 8000 for i in range(30)}
    params = {f"k{i}": ["{{ exception.payload }}"] * 2 for i in range(4)}
    step = {"name": "a", "tool": "t", "params": params}
    following = next_step(book(step), facts(payload), [])
    assert isinstance(following, Record)
    assert following.result.code == "params_invalid"
    assert "larger than 1,048,576 bytes" in (following.result.detail or "")
    assert isinstance(
        next_step(book({**step, "params": {"k": params["k1"]}}), facts(payload), []), RunTool
    )


def test_a_step_has_so_many_placeholders_at_most():
    params = {f"k{i}": ["{{ 1 }}"] * 50 for i in range(5)}
    with pytest.raises(PackInvalid, match="250 placeholders"):
        book({"name": "a", "tool": "t", "params": params})


def test_a_step_can_use_a_tool_of_any_name_that_tools_have():
    name = "t" * TOOL_NAME
    assert book({"name": "a", "tool": name}).steps[0].tool == name
