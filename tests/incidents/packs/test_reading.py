import json
import time

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.incidents.packs import built_in, publishing
from nilometer.incidents.packs.documents import read_document
from nilometer.incidents.packs.reading import PackInvalid, parse_pack
from tests.incidents.packs.made import json_values

STEP = {"name": "a", "tool": "t"}


def problems(**members):
    with pytest.raises(PackInvalid) as refused:
        parse_pack({"format": 1, "name": "p", **members})
    return {each.path: each.sentence for each in refused.value.problems}


def playbook(*steps, **more):
    return {"playbooks": [{"name": "p", "steps": list(steps), **more}]}


def test_every_problem_is_told_at_once_in_the_order_of_the_document():
    with pytest.raises(PackInvalid) as refused:
        parse_pack(
            {
                "format": 2,
                "name": "Not A Name",
                "nope": 1,
                "triage": {"rules": [{"name": "a", "when": "exception.typo", "severity": "bad"}]},
                "policy": {"rules": [{"name": "z", "when": "1", "outcome": "no"}]},
                **playbook(
                    {"name": "stop", "tool": "x", "comment": "{{ 1 + }}", "on_failure": "zz"},
                    {"name": "b", "tool": "x", "when": "steps.later.status == 'x'"},
                ),
            }
        )
    assert [each.path for each in refused.value.problems] == [
        "format",
        "name",
        "nope",
        "triage.rules.0.when",
        "triage.rules.0.severity",
        "policy.rules.0.when",
        "policy.rules.0.outcome",
        "playbooks.0.steps.0",
        "playbooks.0.steps.0.name",
        "playbooks.0.steps.0.comment",
        "playbooks.0.steps.0.on_failure",
        "playbooks.0.steps.1.when",
    ]
    assert "(and 11 more)" in refused.value.detail
    assert refused.value.attr == "format"


def step(**members):
    return playbook({**STEP, **members})


@pytest.mark.parametrize(
    ("members", "path", "told"),
    [
        (
            {"exceptions": [{"type": "A"}, {"type": "B", "aliases": ["A"]}]},
            "exceptions.1.aliases.0",
            "already",
        ),
        (
            {"triage": {"rules": [{"name": "a", "severity": "low"}] * 2}},
            "triage.rules.1.name",
            "its own",
        ),
        (playbook(STEP, STEP), "playbooks.0.steps.1.name", "its own"),
        (playbook({"name": "a"}), "playbooks.0.steps.0", "has none"),
        (step(tool=None, comment="x", params={"b": 1}), "playbooks.0.steps.0.params", "Only"),
        (step(on_failure="b"), "playbooks.0.steps.0.on_failure", "no step 'b'"),
        (
            playbook(STEP, recovery=[{"name": "r", "tool": "t", "on_failure": "r"}]),
            "playbooks.0.recovery.0.on_failure",
            "only stop",
        ),
        (step(params={"x": "{{ steps.b.output }}"}), "playbooks.0.steps.0.params", "'b'"),
        (step(params={"x": ["{{ open"]}), "playbooks.0.steps.0.params.x", "must end"),
        (step(params={"x": "{{ secrets.k }}"}), "playbooks.0.steps.0.params.x", "undeclared"),
        ({"overrides": [{"tenants": [1]}, {"tenants": [1]}]}, "overrides.1.tenants.0", "already"),
        (
            {"policy": {"confidence": {"approval_below": 0.2, "escalate_below": 0.5}}},
            "policy.confidence.escalate_below",
            "above",
        ),
        (
            {"normalisation": {"redaction": {"rules": {"patterns": ["x"]}}}},
            "normalisation.redaction.rules",
            "pattern",
        ),
        (
            {"normalisation": {"redaction": {"paths": ["a..b"]}}},
            "normalisation.redaction.paths.0",
            "pattern",
        ),
        ({"normalisation": {"sla_seconds": {"soon": 1}}}, "normalisation.sla_seconds.soon", "low"),
        ({"policy": {"approval_seconds": "60"}}, "policy.approval_seconds", "whole number"),
        ({"playbooks": {}}, "playbooks", "list"),
    ],
)
def test_a_problem_names_its_place_and_what_to_change(members, path, told):
    found = problems(**members)
    assert path in found
    assert told in found[path]


@settings(max_examples=50)
@given(json_values)
def test_whatever_is_no_pack_is_refused_and_never_breaks(document):
    with pytest.raises(PackInvalid) as refused:
        parse_pack(document)
    assert refused.value.problems


PARTS = ["exceptions", "normalisation", "triage", "policy", "playbooks", "overrides"]


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(PARTS), json_values))
def test_members_of_any_form_are_refused_or_taken_and_never_break(members):
    try:
        parse_pack({"format": 1, "name": "p", **members})
    except PackInvalid as refused:
        said = [each.sentence for each in refused.problems]
    else:
        said = ["taken"]
    assert all(said)


def test_a_document_that_is_too_deep_is_refused():
    deep = []
    for _ in range(2000):
        deep = [deep]
    assert "deeper" in problems(playbooks=deep)[""]


MANY = 9_000


@pytest.mark.parametrize(
    "members",
    [
        {f"x{number}": 1 for number in range(MANY)},
        {"policy": {"block": {"types": [1] * MANY}}},
        {"triage": {"rules": [{"name": "R", "when": "((("}] * (MANY // 5)}},
        {"triage": {"rules": [{f"x{number}": 1 for number in range(MANY)}]}},
    ],
)
def test_however_much_is_wrong_it_is_told_at_once(members):
    problems(nope=1)
    began = time.process_time()
    found = problems(**members)
    # Each with each of so many took tens of seconds.
    assert time.process_time() - began < 5
    assert 0 < len(found) <= 100


def test_a_document_of_too_many_values_is_refused_in_whatever_form_it_comes():
    assert "20,000 values" in problems(**{f"x{number}": 1 for number in range(10_000)})[""]


def test_the_published_schema_takes_what_ships_and_refuses_other_things():
    schema = json.loads(publishing.schema_text())
    jsonschema_rs.meta.validate(schema)
    validator = jsonschema_rs.validator_for(schema)
    document = read_document(built_in.text_of("llm-operations").encode()).value
    assert validator.is_valid(document)
    assert not validator.is_valid({**document, "unknown": 1})
    assert not validator.is_valid({**document, "format": 2})
