"""What a schema and secrets may cost: refused before it is done, and not what is ordinary."""

from __future__ import annotations

import base64

import pytest
from sqlalchemy import text

from nilometer.database.fence import EVERY_ROW
from nilometer.errors import InvalidInput
from nilometer.incidents.tools.call import Succeeded
from nilometer.incidents.tools.definition import Tool
from nilometer.incidents.tools.keeping import kept
from nilometer.incidents.tools.resolving import Resolved
from nilometer.incidents.tools.schemas import checked_schema, objection
from nilometer.incidents.tools.secrets import MAX_SECRETS

TREE = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "children": {"items": {"$ref": "#"}}},
}
# Looked at twice for each member: twice as much with each level.
TWICE = {"allOf": [{"additionalProperties": {"$ref": "#"}}] * 2}


def chain(levels, to="#/$defs/d{}", **last):
    twice = {f"d{i}": {"allOf": [{"$ref": to.format(i + 1)}] * 2} for i in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": {**twice, f"d{levels}": last}}


def deep(levels, value):
    for _ in range(levels):
        value = {"a": value}
    return value


def nested(levels):
    schema = {}
    for _ in range(levels):
        schema = {"anyOf": [schema], "unevaluatedProperties": False}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        chain(60),
        chain(14, type="object"),
        {"items": chain(60)["$defs"]["d0"], "$defs": chain(60)["$defs"]},
        nested(18),
        {"$ref": "#"},
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
        {"$defs": {"a": {"$anchor": "here", "not": {"$ref": "#here"}}}},
        {"$defs": {"a": {"$dynamicAnchor": "here", "not": {"$dynamicRef": "#here"}}}},
        {"$id": "https://here.example/x", "not": {"$ref": "https://here.example/x#"}},
        {"properties": {"a": {"$id": "https://here.example/x"}}},
    ],
)
def test_a_schema_that_would_take_long_is_refused_when_it_is_defined(schema):
    with pytest.raises(InvalidInput) as refused:
        checked_schema(schema, "input_schema")
    assert refused.value.attr == "input_schema"
    assert "cannot be held against" in refused.value.detail


def test_a_stored_schema_that_would_take_long_takes_nothing():
    assert "cannot be checked" in objection(chain(60), {})
    assert "cannot be checked" in objection({"$ref": "#"}, {})


@pytest.mark.parametrize("value", [1, {}, {"a": [1, {"b": None}]}, deep(100, 1)])
def test_schemas_of_trees_go_on_to_work(value):
    any_json = {
        "anyOf": [
            {"type": ["null", "integer"]},
            {"type": "array", "items": {"$ref": "#"}},
            {"type": "object", "additionalProperties": {"$ref": "#"}},
        ]
    }
    assert objection(checked_schema(any_json, "x"), value) is None


def test_a_tree_is_taken_deep_and_wide_and_a_wrong_one_is_told_of():
    checked_schema(TREE, "x")
    leaf = {"name": "leaf"}
    wide = {"name": "root", "children": [{"name": "n", "children": [leaf] * 50}] * 50}
    assert objection(TREE, wide) is None
    tree = leaf
    for _ in range(60):
        tree = {"name": "n", "children": [tree]}
    assert objection(TREE, tree) is None
    assert objection(TREE, {"name": 1}) == "breaks /properties/name/type of"


def test_a_value_is_refused_by_which_an_innocent_schema_would_take_long():
    checked_schema(TWICE, "x")
    assert objection(TWICE, deep(10, 1)) is None
    assert "cannot be checked" in objection(TWICE, deep(100, 1))
    names = {"items": {"enum": [str(i) for i in range(3000)]}}
    assert objection(names, ["2999"] * 10) is None
    assert "cannot be checked" in objection(names, [str(i) for i in range(10_000)])


def test_an_input_and_an_answer_that_would_take_long_are_told_of(bench, receiver):
    bench.http("in", input_schema=TWICE)
    bench.http("out", output_schema=TWICE)
    outcome = bench.run(bench.call("in", a=deep(60, 1)))
    assert (outcome.code, receiver.received) == ("input_invalid", [])
    assert outcome.detail == (
        "The input cannot be checked (it is too large, or nested too deeply) against the tool's "
        "input schema."
    )
    receiver.answers(200, deep(60, 1))
    outcome = bench.run(bench.call("out"))
    assert outcome.code == "output_invalid"
    assert "cannot be checked" in outcome.detail


def secrets_of(count):
    names = [f"s{i}" for i in range(count)]
    return {
        "headers": {"X": "".join(f"{{secrets.{name}}}" for name in names)},
        "secrets": {name: f"hunter2-{name}" for name in names},
    }


def test_a_tool_has_not_too_many_secrets(bench):
    bench.http("most", **secrets_of(MAX_SECRETS))
    with pytest.raises(InvalidInput) as refused:
        bench.http("more", **secrets_of(MAX_SECRETS + 1))
    assert (refused.value.attr, "at most 20" in refused.value.detail) == ("secrets", True)
    with pytest.raises(InvalidInput):
        bench.tools.change(
            bench.project,
            "most",
            {
                "secrets": {"t": "x"},
                "config": {"headers": {**secrets_of(MAX_SECRETS)["headers"], "Y": "{secrets.t}"}},
            },
        )


def test_a_tool_that_has_more_secrets_from_before_goes_on_to_work(bench, receiver):
    bench.http(**secrets_of(1))
    headers = secrets_of(MAX_SECRETS + 5)["headers"]
    with bench.database.session(EVERY_ROW) as session:
        for i in range(1, MAX_SECRETS + 5):
            session.execute(
                text(
                    "INSERT INTO tool_secrets (project_id, tool, name, value, created_at) "
                    "VALUES (:p, 'call', :name, :value, '2026-01-01 00:00:00')"
                ),
                {"p": bench.project, "name": f"s{i}", "value": f"hunter2-s{i}"},
            )
    bench.tools.change(bench.project, "call", {"config": {"headers": headers}})
    call = bench.call(note="hunter2-s24 and hunter2-s2")
    assert isinstance(bench.run(call), Succeeded)
    assert bench.kept(call).input == {"note": "[secret:s24] and [secret:s2]"}


def test_of_secrets_that_begin_alike_the_longest_is_hidden():
    held = {"a": ("hunter2",), "b": ("hunter2.more",), "c": ("(x|y)*",), "d": ("abc",)}
    tool = Resolved(Tool(project_id=1, name="call", kind="http"), secrets=held)
    coded = base64.b64encode(b"hunter2.more").decode()
    told = kept(tool, {"hunter2": f"hunter2.more hunter2 (x|y)* xy abc {coded}"})
    assert told == {
        "[secret:a]": f"[secret:b] [secret:a] [secret:c] xy abc [secret:b]{'=' * coded.count('=')}"
    }


def test_texts_are_searched_for_secrets_together_and_not_each_for_all(monkeypatch):
    asked = []

    class Secret(str):
        """Tells of each replacement that it is asked for."""

        __slots__ = ()

        def replace(self, *given):
            asked.append(given[0])
            return super().replace(*given)

    held = {f"s{i}": (f"hunter2-{i}.",) for i in range(200)}
    tool = Resolved(Tool(project_id=1, name="call", kind="http"), secrets=held)
    monkeypatch.setattr("nilometer.domain.keepable.text", Secret)
    told = kept(tool, {"texts": [f"text {i}" for i in range(100)] + ["it is hunter2-7."]})
    assert told["texts"][-1] == "it is [secret:s7]"
    assert set(asked) == {"hunter2-7."}
