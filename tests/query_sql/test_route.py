"""`POST …/query/` over HTTP, and `nilometer query` through it."""

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from nilometer.access.types import Scope
from nilometer.cli.app import app
from nilometer.query.sql.completion import completions

HOSTILE = "\x1b[2J\x07"


@pytest.fixture(scope="module")
def project(world):
    project = world.project()
    for number in range(3):
        project.send({"$ai_model": f"m{number}", "$ai_input_tokens": number})
    world.settle()
    return project


def ask(project, sql, /, kind="projects", parameters=None, values=None, **body):
    query = {"kind": "HogQLQuery", "query": sql, "values": values or {}}
    return project.world.ask(
        "POST",
        f"/api/{kind}/{project.id}/query/",
        project.reader,
        json={"query": query, **body},
        params=parameters,
    )


@pytest.mark.parametrize("kind", ["projects", "environments"])
def test_the_answer_has_the_contracts_shape(project, kind):
    sql = "SELECT properties.$ai_model AS model, input_tokens FROM events ORDER BY model LIMIT 2"
    answer = ask(project, sql, kind=kind, refresh="blocking", client_query_id="x", name="n")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    timings = document.pop("timings")
    assert [each["k"] for each in timings] == ["./guard", "./execute"]
    assert all(0 < each["t"] < 10 for each in timings)
    assert document == {
        "columns": ["model", "input_tokens"],
        "results": [["m0", 0], ["m1", 1]],
        "types": [
            ["model", "Nullable(String)"],
            ["input_tokens", "Nullable(Int64)"],
        ],
        "hasMore": True,
        "limit": 2,
        "offset": 0,
        "hogql": "SELECT properties.`$ai_model` AS model, input_tokens FROM events "
        "ORDER BY model ASC LIMIT 2",
        "error": None,
        "is_cached": False,
    }


@pytest.mark.parametrize(
    ("body", "attr"),
    [
        (b"", "query"),
        (b"{", None),
        (b'{"query":"SELECT 1"}', "query"),
        (b'{"query":{"kind":"TrendsQuery","query":"SELECT 1"}}', "query.kind"),
        (b'{"query":{"kind":"HogQLQuery"}}', "query.query"),
        (b'{"query":{"query":"SELECT 1"},"filters_override":{"a":1}}', "filters_override"),
        (b'{"query":{"query":"SELECT 1"},"variables_override":{"a":1}}', "variables_override"),
        (b'{"query":{"query":"SELECT 1 FORM x"}}', "query"),
        (b'{"query":{"query":"SELECT \\ud800"}}', None),
    ],
)
def test_a_wrong_request_is_a_400_that_names_what(project, body, attr):
    path = project.path("query/")
    answer = project.world.ask("POST", path, project.reader, content=body)
    assert (answer.status_code, answer.json()["type"]) == (400, "validation_error")
    assert answer.json()["attr"] == attr
    answer = project.world.ask(
        "POST", f"{path}?fromat=csv", project.reader, json={"query": {"query": "SELECT 1"}}
    )
    assert answer.status_code == 400


def test_an_error_names_the_place(project):
    answer = ask(project, "SELECT modle FROM events")
    assert answer.status_code == 400
    assert answer.json() == {
        "type": "validation_error",
        "code": "unknown_identifier",
        "detail": "Line 1, column 8: There is no such column here: `modle`. Did you mean model?",
        "attr": "query",
    }


@pytest.mark.parametrize("output", ["jsonl", "csv", "arrow", "parquet"])
def test_an_export_is_a_file(project, output):
    sql = "SELECT input_tokens AS n FROM events ORDER BY n"
    answer = ask(project, sql, parameters={"format": output})
    assert answer.status_code == 200
    assert f'filename="query.{output}"' in answer.headers["content-disposition"]
    assert answer.headers["cache-control"] == "no-store"
    if output == "jsonl":
        assert [json.loads(line) for line in answer.text.splitlines()] == [
            {"n": 0},
            {"n": 1},
            {"n": 2},
        ]
    if output == "csv":
        assert list(csv.reader(io.StringIO(answer.text))) == [["n"], ["0"], ["1"], ["2"]]
    wrong = ask(project, "SELECT nothing FROM events", parameters={"format": output})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "unknown_identifier")


def test_a_large_export_arrives_whole_and_frees_its_place(project):
    sql = "SELECT arrayJoin(range(300000)) AS n"
    for _ in range(4):  # more than there are places
        answer = ask(project, sql, parameters={"format": "jsonl"})
        assert answer.text.count("\n") == 300_000


def test_a_client_that_goes_away_frees_its_place(project):
    sql = "SELECT arrayJoin(range(2000000)) AS n, repeat('x', 100) AS s"
    body = {"query": {"query": sql}}
    for _ in range(3):  # more than there are places
        with project.world.http.stream(
            "POST",
            project.path("query/?format=jsonl"),
            headers={"Authorization": f"Bearer {project.reader}"},
            json=body,
        ) as answer:
            assert answer.status_code == 200
            next(answer.iter_bytes())
    answer = ask(project, "SELECT 1 AS n", parameters={"format": "jsonl"})
    assert answer.text == '{"n":1}\n'


def test_another_projects_events_are_not_there(project):
    stranger = project.world.foreign_project()
    answer = ask(stranger, "SELECT count() FROM events")
    assert answer.json()["results"] == [[0]]


@pytest.fixture
def configured(project, monkeypatch):
    monkeypatch.setenv("NILOMETER_URL", project.world.url)
    monkeypatch.setenv("NILOMETER_API_KEY", project.key(Scope.READ))
    return project


def run(project, *arguments, code=0, **named):
    words = ["query", "--project", str(project.id), *arguments]
    result = CliRunner().invoke(app, words, **named)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_the_command_shows_a_table(configured):
    table = run(configured, "SELECT input_tokens AS tokens, [1, 2] FROM events ORDER BY tokens")
    assert "tokens" in table.stdout
    assert "[1, 2]" in table.stdout
    hostile = run(configured, "SELECT {x:String} AS x", "--value", f"x={HOSTILE}").stdout
    assert "\x1b" not in hostile
    assert "\\x1b" in hostile
    assert "the first 1 rows" in run(configured, "SELECT event FROM events LIMIT 1").stderr


def test_the_command_prints_json_and_files(configured, tmp_path):
    text = run(configured, "SELECT {n:Int8} + 1 AS n", "--value", "n=41", "--json").stdout
    assert json.loads(text)["results"] == [[42]]
    assert run(configured, "SELECT 1 AS n", "--format", "csv").stdout == '"n"\n1\n'
    file = tmp_path / "rows.parquet"
    run(configured, "SELECT 1 AS n", "--format", "parquet", "--output", str(file))
    assert file.read_bytes()[:4] == b"PAR1"
    assert run(configured, "-", "--format", "jsonl", input="SELECT 1 AS n").stdout == '{"n":1}\n'


def test_the_command_fails_with_the_servers_sentence(configured):
    for arguments in ([], ["--format", "csv"], ["--json"]):
        wrong = run(configured, "SELECT modle FROM events", *arguments, code=1)
        assert "Did you mean model?" in wrong.stderr


def test_a_word_is_completed():
    assert {"ai_events", "ai"} & set(completions("ai_")) == {"ai_events"}
    assert "toStartOfDay(" in completions("tostartofd")
    assert "model" in completions("mod")
    assert completions("") == []
