"""`nilometer report` and `nilometer usage`, on a file of the client library."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from datetime import timedelta
from decimal import Decimal

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from nilometer.cli.app import app
from nilometer.domain import clock
from nilometer.sdk.sinks.jsonl import JsonlSink
from tests.running import wait_until
from tests.usage.metrics import metric


def run(*arguments, **environment):
    return CliRunner().invoke(app, [*arguments], env=environment)


def shown(*arguments):
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def file(tmp_path):
    """Today 1.5 dollars of the job nightly and 0.25 of none, and a dollar 40 days ago."""
    path, now = tmp_path / "usage.jsonl", clock.now()
    JsonlSink(path).store(
        [
            metric(timestamp=now, job_id="nightly\x1b[2J", cost_usd=Decimal("1.5"), user_id="ada"),
            metric(timestamp=now, cost_usd=Decimal("0.25"), model="gpt-4o"),
            metric(timestamp=now - timedelta(days=40), cost_usd=Decimal(1)),
        ]
    )
    return path


def test_a_report_in_the_terminal(file):
    text = shown("report", "--source", f"jsonl://{file}")
    assert "$1.75  +$0.75 (+75.0 %) against" in text
    assert re.search(r"nightly\\x1b\[2J +\$1\.5 +85\.7 %", text)
    assert re.search(r"without job +\$0\.25 +14\.3 %", text)
    assert "\x1b" not in text
    narrowed = shown("report", "--source", f"jsonl://{file}", "--where", "model=gpt-4o")
    assert "only model gpt-4o" in narrowed
    assert "$0.25" in narrowed


@pytest.mark.parametrize("form", ["table", "md", "html", "csv", "json", "parquet"])
def test_every_form_goes_to_a_file(file, tmp_path, form):
    out = tmp_path / "report"
    assert (
        shown("report", "--source", f"jsonl://{file}", "--format", form, "--output", str(out)) == ""
    )
    if form == "parquet":
        assert pq.read_table(out).column("cost_usd")[0].as_py() == Decimal("1.75")
    elif form == "json":
        assert json.loads(out.read_bytes())["total"]["cost_usd"] == "1.75"
    else:
        assert "1.75" in out.read_text()


def test_a_report_is_made_of_a_piped_form_too(file):
    document = json.loads(shown("report", "--source", f"jsonl://{file}", "--format", "json",
                                "--group-by", "user,model", "--compare", "none"))  # fmt: skip
    assert [table["levels"] for table in document["tables"]] == [["user", "model"]]
    assert document["savings"]["batch"]["calls"] == 0
    unasked = shown("report", "--source", f"jsonl://{file}", "--format", "json", "--no-savings")
    assert json.loads(unasked)["savings"] is None
    assert document["previous"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "2026-13-01"], "takes a date"),
        (["--from", "today", "--to", "yesterday"], "is after"),
        (["--from", "2020-01-01"], "1 to 366 days"),
        (["--group-by", "weather"], "a table is by"),
        (["--where", "job"], "LEVEL=VALUE"),
        (["--where", "status=maybe"], "status is success or error"),
        (["--source", "ftp://x"], "is no source"),
        (["--source", "jsonl://"], "names no file"),
        (["--source", "jsonl:///nowhere/usage.jsonl"], "is not there"),
        (["--source", "dynamodb://t?colour=red"], "region and endpoint_url"),
        (["--source", "http://127.0.0.1:9"], "give a personal key"),
        (["--source", "http://127.0.0.1:9", "--key", "k"], "does not answer"),
    ],
)
def test_what_cannot_be_reported_is_one_sentence(file, arguments, said, monkeypatch):
    monkeypatch.delenv("NILOMETER_API_KEY", raising=False)
    where = [] if "--source" in arguments else ["--source", f"jsonl://{file}"]
    done = run("report", *arguments, *where)
    assert done.exit_code in (1, 2)
    assert said in re.sub(r"[\s│]+", " ", done.stderr)
    assert "Traceback" not in done.stderr


def test_usage_is_shown_once_where_no_terminal_is(file):
    for command in (["usage"], ["usage", "live"]):
        text = shown(*command, "--source", f"jsonl://{file}", "--by", "model")
        assert "$1.75" in text
        assert re.search(r"gpt-4o-mini +\$1\.5 ", text)
    document = json.loads(shown("usage", "--source", f"jsonl://{file}", "--by", "job", "--json"))
    assert document["total"]["cost_usd"] == "1.75"
    assert [line["cost_usd"] for line in document["lines"]] == ["1.5"]
    assert document["without"]["cost_usd"] == "0.25"


class Terminal:
    """What a command shows in a terminal."""

    def __init__(self, *arguments):
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (40, 120))
        environment = os.environ | {"TERM": "xterm", "NO_COLOR": "1"}
        # What starts the tests may ignore Ctrl-C, and programs inherit that; a terminal's do not.
        command = ["env", "--default-signal=INT", sys.executable, "-m", "nilometer", *arguments]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.text = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        try:
            while data := os.read(self._ours, 4096):
                self.text += data.decode(errors="replace")
        except OSError:  # the other side is closed
            pass

    def end(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(30)
        self._reader.join(90)
        os.close(self._ours)
        return code


def test_usage_in_a_terminal_follows_what_is_spent(file):
    terminal = Terminal("usage", "--source", f"jsonl://{file}", "--interval", "0.2")
    try:
        wait_until(lambda: "$1.75" in terminal.text, what="the first sum")
        JsonlSink(file).store([metric(timestamp=clock.now(), cost_usd=Decimal("0.5"))])
        wait_until(lambda: "$2.25" in terminal.text, what="the second sum")
        # A line below it, which may be read later.
        wait_until(lambda: "since you look: $0.50" in terminal.text, what="what came since")
    finally:
        code = terminal.end()
    assert code == 0, terminal.text
    assert "Traceback" not in terminal.text
