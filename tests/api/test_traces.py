from urllib.parse import quote

import pytest

from nilometer.api.routes.traces import MAX_NESTING, TracesAnswer, TraceTreeAnswer, nodes_json
from nilometer.query.tree import Span, build


@pytest.fixture
def project(world):
    return world.project()


def test_a_trace_is_read_as_a_tree(project):
    def send(event, name, parent, second, **more):
        properties = {"$ai_trace_id": "t", "$ai_span_id": name, "$ai_span_name": name}
        properties |= {"$ai_parent_id": parent} | more
        project.send(properties, event=event, timestamp=f"2025-07-01T00:00:0{second}Z")

    send("$ai_trace", "root", None, 0)
    send("$ai_span", "step", "root", 1, **{"$ai_latency": 4.5})
    tokens = {"$ai_input_tokens": 9, "$ai_output_tokens": 3}
    send("$ai_generation", "call", "step", 2, **tokens, **{"$ai_is_error": True})
    send("$ai_span", "lost", "nowhere", 3)
    project.world.settle()
    answer = project.get("traces/t/")
    assert answer.status_code == 200, answer.text
    trace = answer.json()
    TraceTreeAnswer.model_validate(trace, extra="forbid")

    def shape(nodes):
        return [(n["span_id"], n["link"], n["depth"], shape(n["children"])) for n in nodes]

    assert shape(trace["tree"]) == [
        (
            "root",
            "root",
            0,
            [
                ("step", "parent", 1, [("call", "parent", 2, [])]),
                ("lost", "orphan", 1, []),
            ],
        )
    ]
    assert (trace["event_count"], trace["error_count"], trace["duration"]) == (4, 1, 4.5)
    assert (trace["input_tokens"], trace["output_tokens"], trace["models"]) == (9, 3, ["m"])
    assert (trace["call_count"], trace["unpriced_call_count"]) == (1, 1)
    assert (trace["total_cost_usd"], trace["reported_total_cost_usd"]) == (None, None)
    assert (trace["start"], trace["truncated"]) == ("2025-07-01T00:00:00.000000Z", False)


def test_traces_are_listed_with_links(project):
    for name, day in (("a", 1), ("b", 2), ("c", 3)):
        project.send({"$ai_trace_id": name}, timestamp=f"2025-07-0{day}T00:00:00Z")
    project.world.settle()
    first = project.get("traces/", limit=2).json()
    TracesAnswer.model_validate(first, extra="forbid")
    assert [trace["trace_id"] for trace in first["results"]] == ["c", "b"]
    second = project.world.get(first["next"], project.reader).json()
    assert [trace["trace_id"] for trace in second["results"]] == ["a"]
    assert second["next"] is None
    narrowed = project.get("traces/", after="2025-07-02T00:00:00Z", before="2025-07-03T00:00:00Z")
    assert [trace["trace_id"] for trace in narrowed.json()["results"]] == ["b"]


ODD = ["a/b", "a/", "/", "..", ".", "traces/", "é ü", "%2F", "a?b#c", "\x00", "'; --", "a/events/"]


def test_a_trace_id_may_hold_any_character(project):
    for name in ODD:
        project.send({"$ai_trace_id": name})
    project.world.settle()
    for name in ODD:
        encoded = quote(name, safe="").replace(".", "%2E")
        for slash in ("", "/"):
            answer = project.get(f"traces/{encoded}{slash}")
            assert answer.status_code == 200, (name, answer.text)
            assert answer.json()["trace_id"] == name


def test_a_slash_in_an_id_need_not_be_encoded_but_at_its_end(project):
    project.store({"$ai_trace_id": "team/job/7"})
    assert project.get("traces/team/job/7/").json()["trace_id"] == "team/job/7"


def test_a_trace_that_does_not_exist_is_not_found(project):
    answer = project.get("traces/none/")
    assert (answer.status_code, answer.json()["attr"]) == (404, "trace_id")


def test_an_unknown_parameter_is_refused(project):
    assert project.get("traces/", limit=1, name="x").json()["attr"] == "name"
    assert project.get("traces/t/", depth=3).json()["attr"] == "depth"


def test_json_nests_no_deeper_than_parsers_allow():
    count = 3 * MAX_NESTING
    spans = [Span(str(n), "$ai_span", n, str(n), str(n - 1) if n else None) for n in range(count)]
    shown, depths, nesting = [], [], 0
    nodes = nodes_json(build(spans, "t"))
    while nodes:
        nesting += 1
        shown += [node["uuid"] for node in nodes]
        depths += [node["depth"] for node in nodes]
        nodes = [child for node in nodes for child in node["children"]]
    assert nesting == MAX_NESTING + 1
    assert sorted(map(int, shown)) == list(range(count))
    assert sorted(depths) == list(range(count))
