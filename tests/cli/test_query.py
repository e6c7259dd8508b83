"""`nilometer query`: scripts, the prompt, values and files."""

import json
import os
import pty
import re
import signal
import stat
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import pytest
from typer.testing import CliRunner

from nilometer.access.types import Scope
from nilometer.cli import sql_text
from nilometer.cli.app import app
from nilometer.query.sql.queries import ExportFormat, SqlQueries
from tests.running import wait_until


@pytest.fixture
def project(world, monkeypatch):
    project = world.project()
    monkeypatch.setenv("NILOMETER_URL", world.url)
    monkeypatch.setenv("NILOMETER_API_KEY", project.key(Scope.READ))
    return project


def run(project, *arguments, code=0, **named):
    words = ["query", "--project", str(project.id), *arguments]
    result = CliRunner().invoke(app, words, **named)
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.mark.parametrize(
    ("text", "statements", "rest"),
    [
        ("SELECT 1; SELECT 2;", ["SELECT 1", "SELECT 2"], ""),
        ("SELECT 1;\nSELECT", ["SELECT 1"], "\nSELECT"),
        ("SELECT ';', 'it''s;', 'a\\';b';", ["SELECT ';', 'it''s;', 'a\\';b'"], ""),
        ('SELECT "a;b", `c;d`;', ['SELECT "a;b", `c;d`'], ""),
        ("SELECT 1 -- not; yet\n;", ["SELECT 1 -- not; yet"], ""),
        ("SELECT /* ; */ 1;", ["SELECT /* ; */ 1"], ""),
        ("SELECT $a$;$a$, $$;$$;", ["SELECT $a$;$a$, $$;$$"], ""),
        (
            "SELECT properties.$ai_a, properties.$ai_a;",
            ["SELECT properties.$ai_a, properties.$ai_a"],
            "",
        ),
        (";; -- nothing\n;", [], ""),
        ("SELECT 'open;", [], "SELECT 'open;"),
        ("SELECT 'open;\\", [], "SELECT 'open;\\"),
        ("SELECT /* open;", [], "SELECT /* open;"),
    ],
)
def test_a_semicolon_ends_a_statement_unless_it_is_quoted(text, statements, rest):
    assert sql_text.split(text) == (statements, rest)


def test_a_script_needs_no_last_semicolon():
    assert sql_text.script("SELECT 1;\nSELECT 2 -- two\n") == ["SELECT 1", "SELECT 2 -- two"]
    assert sql_text.script(" \n") == []
    (unclosed,) = sql_text.script("SELECT 'a")
    assert unclosed.startswith("SELECT 'a")


def test_a_query_that_is_piped_in_ends_at_the_first_that_fails(project):
    done = run(project, input="SELECT 40 +\n2 AS answer;\nSELECT 'a;b' AS text")
    assert "42" in done.stdout
    assert "a;b" in done.stdout
    failed = run(project, input="SELECT 41; SELECT nothing FROM events; SELECT 43;", code=1)
    assert "41" in failed.stdout
    assert "43" not in failed.stdout
    assert "no such column" in failed.stderr


def test_options_hold_for_all_queries_that_are_piped_in(project):
    script = "SELECT {n:Int8} AS n; SELECT {n:Int8} + 1 AS n;"
    lines = run(project, "--format", "jsonl", "--value", "n=1", input=script).stdout
    assert lines == '{"n":1}\n{"n":2}\n'
    documents = run(project, "--json", "--value", "n=1", input=script).stdout.splitlines()
    assert [json.loads(each)["results"] for each in documents] == [[[1]], [[2]]]


@pytest.mark.parametrize(
    "options",
    [["--output", "f"], ["--output", "f", "--format", "csv"], ["--json", "--format", "csv"]],
)
def test_options_that_have_no_meaning_are_refused(project, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = run(project, *options, input="SELECT 1", code=1)
    assert refused.stdout == ""
    assert "--" in refused.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "typed", "shown"),
    [
        ("String", "0012", "0012"),
        ("String", "1.10", "1.10"),
        ("String", '"quoted"', '"quoted"'),
        ("Nullable(String)", "null", "null"),
        ("LowCardinality(Nullable(String))", "[1]", "[1]"),
        ("Decimal(38, 18)", "0.100000000000000001", "0.100000000000000001"),
        ("Float64", "0.25", "0.25"),
        ("Int8", "42", "42"),
        ("Nullable(Int8)", "null", "NULL"),
        ("Array(String)", '["a", "b"]', '["a", "b"]'),
    ],
)
def test_a_value_is_read_as_its_parameters_type_says(project, kind, typed, shown):
    table = run(project, f"SELECT {{v:{kind}}} AS v", "--value", f"v={typed}").stdout
    assert table.split("\n")[3].strip() == shown


def test_a_file_keeps_what_it_had_when_the_query_fails(project, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("before")
    file.chmod(0o640)
    wrong = ["SELECT modle FROM events", "--format", "csv", "--output", str(file)]
    assert "Did you mean model?" in run(project, *wrong, code=1).stderr
    assert file.read_text() == "before"
    run(project, "SELECT 1 AS n", "--format", "csv", "--output", str(file))
    assert file.read_text() == '"n"\n1\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_keeps_what_it_had_when_the_answer_is_cut(project, tmp_path, monkeypatch):
    def cut(*_, **__):
        yield b'{"n":1}\n'
        raise RuntimeError

    monkeypatch.setattr(SqlQueries, "export", cut)
    file = tmp_path / "rows.jsonl"
    file.write_text("before")
    options = ["--format", ExportFormat.JSONL.value, "--output", str(file)]
    assert "whole answer" in run(project, "SELECT 1", *options, code=1).stderr
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_written_is_said(project, tmp_path):
    missing = tmp_path / "nowhere" / "rows.csv"
    failed = run(project, "SELECT 1", "--format", "csv", "--output", str(missing), code=1)
    assert "cannot be written: No such file" in failed.stderr


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, project, *options):
        self._ours, theirs = pty.openpty()
        words = [sys.executable, "-m", "nilometer", "query", "--project", str(project.id)]
        environment = os.environ | {"TERM": "dumb", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            [*words, *options],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        self._seen = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        try:
            while data := os.read(self._ours, 4096):
                self._seen += data
        except OSError:  # the other side has closed
            return

    def type(self, text):
        os.write(self._ours, text.encode())

    def shows(self, pattern):
        wait_until(lambda: re.search(pattern.encode(), self._seen), what=f"{pattern}: {self._seen}")

    def close(self):
        self.process.kill()
        self.process.wait(30)
        self._reader.join(30)
        os.close(self._ours)


def test_a_prompt_takes_query_after_query_as_the_options_say(project):
    with closing(Terminal(project, "--format", "csv", "--value", "n=41")) as terminal:
        terminal.shows("query> ")
        terminal.type("SELECT nothing FROM events;\n")
        terminal.shows("no such column")
        terminal.type("SELECT ';' AS text,\n")
        terminal.shows(r"\.\.\.> ")
        terminal.type("{n:Int8} + 1 AS answer;\n")
        terminal.shows('";",42')
        terminal.type("\x04")
        assert terminal.process.wait(30) == 0


@contextmanager
def held(monkeypatch):
    """Queries do not end within the block; what was begun."""
    release, begun, query = threading.Event(), [], SqlQueries.run

    def wait(self, project_id, sql, values=None):
        begun.append(sql)
        assert release.wait(30)
        return query(self, project_id, sql, values)

    with monkeypatch.context() as patch:
        patch.setattr(SqlQueries, "run", wait)
        try:
            yield begun
        finally:
            release.set()


def test_ctrl_c_gives_up_the_query_and_not_the_prompt(project, monkeypatch):
    with closing(Terminal(project)) as terminal:
        terminal.shows("query> ")
        with held(monkeypatch) as begun:
            terminal.type("SELECT 'given up';\n")
            wait_until(lambda: begun)
            terminal.process.send_signal(signal.SIGINT)
            terminal.shows(r"(?s)given up.*query> ")
        terminal.type("SELECT 40 + 2;\n")
        terminal.shows(r"\b42\b")
        assert terminal.process.poll() is None
