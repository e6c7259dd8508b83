"""`nilometer traces ingest --follow`, as it is run: until it is interrupted."""

import gzip
import json
import os
import signal
import sqlite3
import threading
from contextlib import closing

import pytest
from typer.testing import CliRunner

from nilometer.cli import traces_ingest
from nilometer.cli.app import app
from tests.clients.upstream import Upstream, serving
from tests.importers.test_sending import part, quiet
from tests.running import wait_until


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch, tmp_path):
    monkeypatch.setattr(traces_ingest, "_LOOK_AGAIN_SECONDS", 0.01)
    monkeypatch.setenv("NILOMETER_SPOOL_DIR", str(tmp_path / "spool"))


def followed(path, *arguments, meanwhile):
    """What the command says when `meanwhile`, in another thread, is done and interrupts it."""
    failures = []

    def run():
        try:
            meanwhile()
        except BaseException as error:  # shown by the test, which would wait for ever
            failures.append(error)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=run)
    # What an interrupt does before the command takes it over, or after.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        thread.start()
        command = ["traces", "ingest", str(path), "--follow", "--json", *map(str, arguments)]
        done = CliRunner().invoke(app, command)
    finally:
        thread.join(90)
        signal.signal(signal.SIGINT, before)
    assert not failures
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_lines_are_kept_as_they_come_until_an_interrupt(tmp_path):
    path, database = tmp_path / "t.jsonl", tmp_path / "traces.db"
    path.write_text(part("one", 5))

    def outputs():
        if not database.exists():
            return []
        with closing(sqlite3.connect(database)) as reader:
            try:
                rows = reader.execute("SELECT tokens_out FROM sessions ORDER BY id").fetchall()
            except sqlite3.OperationalError:  # its tables are not made yet
                return []
        return [row[0] for row in rows]

    def meanwhile():
        wait_until(lambda: outputs() == [5], seconds=20)
        with path.open("a") as file:
            file.write(part("one", 25, 3) + part("two", 7, 9)[:40])
        wait_until(lambda: outputs() == [25], seconds=20)
        with path.open("a") as file:
            file.write(part("two", 7, 9)[40:])
        wait_until(lambda: outputs() == [25, 7], seconds=20)

    done = followed(path, "--db", database, meanwhile=meanwhile)
    assert (done["inserted"], done["updated"], done["rejected"], done["held"]) == (2, 1, 0, 0)


def test_a_server_gets_the_last_answer_when_the_file_is_quiet(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(part("one", 5))
    got = []

    class Handler(Upstream):
        def do_POST(self):  # noqa: N802
            body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
            got.extend(json.loads(body)["batch"])
            self.answer_json(200, {})

    def outputs():
        return [event["properties"]["$ai_output_tokens"] for event in got]

    def meanwhile():
        with path.open("a") as file:
            file.write(part("one", 25, 3) + part("two", 7, 9))
        wait_until(lambda: outputs() == [25], seconds=20)
        quiet(path)
        wait_until(lambda: outputs() == [25, 7], seconds=20)

    with serving(Handler) as url:
        arguments = ("--server", url, "--key", "key", "--db", tmp_path / "traces.db")
        done = followed(path, *arguments, meanwhile=meanwhile)
    assert (done["inserted"], done["held"]) == (2, 0)
