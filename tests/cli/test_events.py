"""`nilometer events`, `traces`, `trace` and `log` over a server that really listens."""

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from nilometer.access.types import Scope
from nilometer.cli.app import app
from nilometer.cli.trace import trace_tree
from nilometer.log.port import Lag, LogState
from nilometer.log.sqlite import SqliteLog

# Clears the screen, renames the window, and reorders text, if it ever reaches a terminal.
HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202ereversed\u2066\x7f"
UNSAFE = set("\x1b\x07\x9b\u202e\u2066\x7f")


@pytest.fixture
def project(world, monkeypatch):
    project = world.project()
    monkeypatch.setenv("NILOMETER_URL", world.url)
    monkeypatch.setenv("NILOMETER_API_KEY", project.key(Scope.READ, Scope.OPERATE))
    return project


def run(project, *arguments, code=0):
    command, *rest = arguments
    options = [] if command == "log" else ["--project", str(project.id)]
    words = [command, rest[0]] if rest and rest[0] in ("show", "lag", "resume") else [command]
    result = CliRunner().invoke(app, [*words, *options, *rest[len(words) - 1 :]])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_events_are_a_table_for_people(project):
    uuid = project.store({"$ai_model": "gpt-x", "$ai_input_tokens": 9, "$ai_is_error": True})
    table = run(project, "events").stdout
    (line,) = [line for line in table.splitlines() if uuid in line]
    for shown in ("$ai_generation", "ada", "gpt-x", "9", "error"):
        assert shown in line
    assert "\x1b" not in table


def test_events_are_one_json_document_for_machines(project):
    for n in range(3):
        project.send('{"$ai_model":"m","price":1.10}', timestamp=f"2025-07-01T00:00:0{n}Z")
    project.world.settle()
    text = run(project, "events", "--json", "--limit", "2").stdout
    assert [e["timestamp"][:19] for e in json.loads(text)["results"]] == [
        "2025-07-01T00:00:02",
        "2025-07-01T00:00:01",
    ]
    assert text.count('"price":1.10') == 2


def test_a_limit_above_a_page_follows_the_links(project, monkeypatch):
    monkeypatch.setattr("nilometer.cli.client.PAGE", 2)
    for _ in range(5):
        project.send()
    project.world.settle()
    assert len(json.loads(run(project, "events", "--json").stdout)["results"]) == 5
    assert len(json.loads(run(project, "events", "--json", "--limit", "3").stdout)["results"]) == 3


def test_filters_reach_the_server(project):
    span = project.send({"$ai_trace_id": "a&b=c"}, event="$ai_span", timestamp="2025-07-01T00:00Z")
    project.store({"$ai_session_id": "s"})

    def found(*filters):
        return [
            e["uuid"]
            for e in json.loads(run(project, "events", "--json", *filters).stdout)["results"]
        ]

    assert found("--event", "$ai_span") == [span]
    assert found("--trace", "a&b=c") == [span]
    assert found("--before", "2025-07-02T00:00:00+02:00") == [span]
    assert len(found("--session", "s")) == 1
    assert found("--distinct-id", "nobody") == []


def test_one_event_is_shown_with_its_properties_and_blobs(project):
    uuid = project.store(
        '{"$ai_model":"m","price":1.10,"said":"a\\nb"}', blobs={"$b": ("text/plain", b"prompt")}
    )
    shown = run(project, "events", "show", uuid).stdout
    assert "1.10" in shown
    assert r"a\nb" in shown
    assert "file://nilometer/" in shown
    hydrated = run(project, "events", "show", uuid, "--hydrate", "--json").stdout
    assert json.loads(hydrated)["properties"]["$b"] == "prompt"
    assert '"price":1.10' in hydrated


def test_a_large_value_is_shown_where_it_was_sent_and_told_of_when_it_cannot_be(project):
    sent, expired = ({"$ai_model": "m", "$ai_input": f"{n} cubits " * 5000} for n in (16, 17))
    uuid = project.store(sent)
    assert "16 cubits" in run(project, "events", "show", uuid).stdout
    shown = json.loads(run(project, "events", "show", uuid, "--json").stdout)
    assert shown["properties"] == sent
    uuid = project.store(expired, days_ago=40)
    told = run(project, "events", "show", uuid).stdout
    assert "file://nilometer/" in told
    [line] = [line for line in told.splitlines() if "expired" in line]
    assert "$ai_input" in line
    listed = json.loads(run(project, "events", "--json").stdout)["results"]
    assert sent in [event["properties"] for event in listed]


def test_a_long_value_is_cut_for_people_only(project):
    uuid = project.store({"long": "x" * 9000})
    assert "… and 7,000 characters more" in run(project, "events", "show", uuid).stdout
    assert "x" * 9000 in run(project, "events", "show", uuid, "--json").stdout


def test_what_clients_sent_cannot_drive_the_terminal(project):
    properties = {
        "$ai_model": HOSTILE,
        "$ai_trace_id": HOSTILE,
        "$ai_span_name": HOSTILE,
        "$ai_error": HOSTILE,
        "$ai_is_error": True,
        HOSTILE: HOSTILE,
        "[red]markup[/]": "[blink]markup[/]",
    }
    uuid = project.store(properties, event="$ai_generation")
    for arguments in (
        ("events",),
        ("events", "--json"),
        ("events", "show", uuid),
        ("events", "show", uuid, "--json"),
        ("traces",),
        ("traces", "--json"),
        ("trace", HOSTILE),
        ("trace", HOSTILE, "--json"),
    ):
        output = run(project, *arguments).stdout
        assert not UNSAFE & set(output), arguments
    assert "[blink]markup[/]" in run(project, "events", "show", uuid).stdout


def test_json_keeps_every_character_though_it_escapes_some(project):
    uuid = project.store({"said": HOSTILE})
    shown = json.loads(run(project, "events", "show", uuid, "--json").stdout)
    assert shown["properties"]["said"] == HOSTILE


def send_trace(project):
    def send(event, name, parent, **more):
        properties = {"$ai_trace_id": "support/7", "$ai_span_id": name, "$ai_parent_id": parent}
        project.send(properties | {"$ai_span_name": name} | more, event=event)

    send("$ai_trace", "answer question", None, **{"$ai_latency": 2.5})
    send("$ai_span", "retrieve", "answer question")
    send(
        "$ai_generation",
        "write",
        "retrieve",
        **{"$ai_model": "gpt-x", "$ai_input_tokens": 1234, "$ai_output_tokens": 7},
    )
    send(
        "$ai_generation",
        "retry",
        "never sent",
        **{"$ai_is_error": True, "$ai_error": "rate limit", "$ai_http_status": 429},
    )
    project.world.settle()


def test_a_trace_is_drawn_as_a_tree(project):
    send_trace(project)
    drawn = run(project, "trace", "support/7").stdout
    lines = drawn.splitlines()
    assert lines[0].startswith("answer question  2.50 s · 4 events · 1 error · 1,234 → 7 tokens")
    depth = {
        word: next(line.index(word) for line in lines[1:] if word in line)
        for word in ("answer question", "retrieve", "write", "retry")
    }
    assert depth["answer question"] < depth["retrieve"] < depth["write"]
    assert depth["retry"] == depth["retrieve"]
    assert "generation · gpt-x · 1,234 → 7 tokens" in drawn
    assert "error 429 rate limit  (orphan: parent never sent)" in drawn
    assert "\x1b" not in drawn


def test_errors_are_red_on_a_terminal(project):
    send_trace(project)
    trace = json.loads(run(project, "trace", "support/7", "--json").stdout)
    terminal = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=200)
    terminal.print(trace_tree(trace))
    assert "\x1b[31m  error 429 rate limit" in terminal.file.getvalue()


def test_traces_are_listed(project):
    send_trace(project)
    (line,) = [each for each in run(project, "traces").stdout.splitlines() if "support/7" in each]
    assert "answer question" in line
    assert run(project, "traces", "--errors", "--json").stdout.count('"trace_id"') == 1
    assert json.loads(run(project, "traces", "--session", "none", "--json").stdout) == {
        "results": []
    }


def test_the_lag_of_the_log_is_shown(project):
    project.world.settle()
    shown = run(project, "log", "lag").stdout
    assert "store" in shown
    assert "pipeline" in shown
    assert (
        json.loads(run(project, "log", "lag", "--json").stdout)["groups"]["store"]["records"] == 0
    )
    assert "pipeline" in run(project, "log", "resume").stdout
    assert "No partition is behind." in run(project, "log", "lag", "--partitions").stdout


def test_partitions_that_are_behind_are_shown_where_the_log_has_such(project, monkeypatch):
    lag = Lag(10, None, {11: 3, 2: 7})
    state = LogState(ready=True, reason="", depth=10, size=None, groups={"store": lag})
    monkeypatch.setattr(SqliteLog, "state", lambda _: state)
    rows = [line.split() for line in run(project, "log", "lag", "--partitions").stdout.splitlines()]
    assert ["store", "2", "7"] in rows
    assert ["store", "11", "3"] in rows
    answer = json.loads(run(project, "log", "lag", "--json").stdout)
    assert answer["groups"]["store"]["partitions"] == {"2": 7, "11": 3}


def test_an_age_that_is_not_known_is_not_shown_as_0(project, monkeypatch):
    groups = {"store": Lag(10, None), "idle": Lag(0, None)}
    state = LogState(ready=True, reason="", depth=10, size=None, groups=groups)
    monkeypatch.setattr(SqliteLog, "state", lambda _: state)
    rows = [line.split() for line in run(project, "log", "lag").stdout.splitlines()]
    assert ["store", "10", "unknown"] in rows
    assert ["idle", "0", "0.0"] in rows
    answer = json.loads(run(project, "log", "lag", "--json").stdout)["groups"]
    assert (answer["store"]["seconds"], answer["idle"]["seconds"]) == (None, 0.0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["events", "show", "none"], "No such event in this project"),
        (["trace", ".."], "No such trace in this project"),
        (["events", "--after", "yesterday"], "after is not a time"),
        (["events", "--key", "wrong"], "Personal API key found in request Authorization header"),
        (["events", "--key", ""], "give a personal key"),
        (["events", "--key", "é"], "cannot be used as it is"),
        (["events", "--url", "http://127.0.0.1:1"], "is `nilometer serve` running there?"),
        (["events", "--url", "nonsense"], "does not answer"),
        (["events", "--url", "http://[bad"], "does not answer"),
        (["events", "--url", "http://\x07"], "cannot be used as it is"),
    ],
)
def test_a_failure_is_one_sentence_and_exit_code_1(project, arguments, sentence):
    result = run(project, *arguments, code=1)
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_server_that_is_something_else_is_one_sentence_too(project, monkeypatch):
    result = run(project, "events", "--url", project.world.url + "/nothing", code=1)
    assert "HTTP 404" in result.stderr


def test_wrong_usage_is_exit_code_2(project):
    run(project, "events", "--limit", "0", code=2)
    run(project, "trace", code=2)
