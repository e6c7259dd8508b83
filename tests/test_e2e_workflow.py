"""From trace files on a disk to sessions, cost, dead letters and Parquet: whole, by the command."""

import json
import os
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.trace_records import BAD, REPOSITORIES, write_mixture, write_month
from nilometer.cli.app import app
from nilometer.importers.store import TraceStore
from tests.running import KEY, running, wait_until

RECORDS = int(os.environ.get("NILOMETER_TRACES_RECORDS", "8000"))

# The three records of the original's end-to-end test, as its LiteLLM logs had them.
SEED = [
    {
        "timestamp": "2025-10-12T10:00:00Z",
        "usage": {"input_tokens": 250, "output_tokens": 150, "total_tokens": 400},
        "attributes": {
            "llm.model_name": "anthropic/claude-3-5-sonnet-20241022",
            "latency_ms": 1234.5,
            "status_code": 200,
        },
        "metadata": {
            "user_id": "user_dev_account_1_session_abc123",
            "developer_id": "dev@example.com",
            "repo": "acme/river",
        },
    },
    {
        "timestamp": "2025-10-12T10:01:00Z",
        "usage": {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150},
        "attributes": {
            "llm.model_name": "anthropic/claude-3-5-haiku-latest",
            "latency_ms": 567.8,
            "status_code": 200,
            "prod_lens.accepted": True,
        },
        "metadata": json.dumps({"session_id": "session_abc124", "developer_id": "dev@example.com"}),
    },
    {
        "timestamp": 1760263320,
        "usage": {"input_tokens": 500, "output_tokens": 300, "total_tokens": 800},
        "attributes": {
            "llm.model_name": "anthropic/claude-3-opus-20240229",
            "duration_ms": 2345.6,
            "http.status_code": 200,
            "accepted": False,
            "diff_ratio": 0.75,
            "accepted_lines": 12,
        },
        "metadata": {"session_id": "xyz789", "developer_id": "alice@example.com"},
    },
]
COLUMNS = (
    *("session_id", "developer_id", "timestamp", "event_date", "model", "tokens_in", "tokens_out"),
    *("total_tokens", "latency_ms", "status_code", "accepted_flag", "repo_slug", "diff_ratio"),
    *("accepted_lines", "cost_usd"),
)


def run(*arguments, code=0, stdin=None):
    done = CliRunner().invoke(app, ["traces", *map(str, arguments)], input=stdin)
    assert done.exit_code == code, done.output
    return done.stdout


def ingest(database, *arguments):
    return json.loads(run("ingest", *arguments, "--db", database, "--json"))


def asked(database, sql):
    with TraceStore(database, create=False) as store:
        return store.database.execute(sql).fetchall()


@pytest.fixture
def database(tmp_path):
    return tmp_path / "traces.db"


@pytest.fixture
def seed(tmp_path):
    file = tmp_path / "litellm-traces.jsonl"
    file.write_text("".join(f"{json.dumps(each)}\n" for each in SEED))
    return file


def test_the_three_records_of_the_seed_have_every_column_and_the_right_cost(database, seed):
    done = ingest(database, seed)
    assert (done["inserted"], done["rejected"], done["unpriced"]) == (3, 0, 0)
    assert asked(database, f"SELECT {', '.join(COLUMNS)} FROM sessions ORDER BY timestamp") == [
        (
            *("abc123", "dev@example.com", "2025-10-12T10:00:00.000000+00:00", "2025-10-12"),
            *("anthropic/claude-3-5-sonnet-20241022", 250, 150, 400, 1234.5, 200, None),
            *("acme/river", None, None, "0.003"),
        ),
        (
            *("abc124", "dev@example.com", "2025-10-12T10:01:00.000000+00:00", "2025-10-12"),
            *("anthropic/claude-3-5-haiku-latest", 100, 50, 150, 567.8, 200, 1),
            *(None, None, None, "0.00028"),
        ),
        (
            *("xyz789", "alice@example.com", "2025-10-12T10:02:00.000000+00:00", "2025-10-12"),
            *("anthropic/claude-3-opus-20240229", 500, 300, 800, 2345.6, 200, 0),
            *(None, 0.75, 12, "0.03"),
        ),
    ]
    assert asked(database, "SELECT count(*) FROM dead_letters") == [(0,)]
    assert run("verify", "--db", database).startswith("3 calls")


def test_costs_say_where_their_price_is_from(database, seed):
    ingest(database, seed)
    for source, version, model, components, cost in asked(
        database,
        "SELECT price_source, price_version, priced_model, cost_components, cost_usd FROM sessions",
    ):
        assert source == "genai-prices"
        assert version.startswith("genai-prices ")
        assert model.startswith("claude-3")
        assert sum(map(Decimal, json.loads(components).values())) == Decimal(cost)


def test_every_line_of_a_mixture_is_counted_and_every_bad_one_explained(database, tmp_path):
    """`make large` is the whole of what was asked for."""
    file = tmp_path / "mixture.jsonl"
    told = write_mixture(file, RECORDS)
    done = ingest(database, file)
    assert done["records"] == told.lines == RECORDS
    assert done["rejected_by_reason"] == {str(name): n for name, n in told.reasons.items()}
    assert done["passed"] == told.passed
    assert done["inserted"] + done["joined"] == sum(told.calls.values())
    assert {*told.bad} == {*BAD}
    by_source = dict(asked(database, "SELECT source, count(*) FROM sessions GROUP BY source"))
    assert by_source == told.calls
    letters = asked(database, "SELECT reason, line, byte_offset, raw FROM dead_letters ORDER BY 3")
    assert Counter(reason for reason, *_ in letters) == Counter(map(str, told.reasons.elements()))
    with file.open("rb") as lines:
        number = 1
        for _, line, offset, raw in letters:
            number += lines.read(offset - lines.tell()).count(b"\n")
            assert (lines.read(len(raw)), number) == (raw, line)
    assert run("verify", "--db", database).startswith(f"{done['inserted']:,} calls")
    again = ingest(database, file)
    assert (again["records"], again["inserted"]) == (0, 0)
    anew = ingest(database, file, "--again")
    assert (anew["inserted"], anew["updated"], anew["rejected"]) == (0, 0, done["rejected"])
    assert anew["duplicate"] == done["inserted"]
    assert asked(database, "SELECT count(*) FROM dead_letters") == [(len(letters),)]


def test_workers_find_what_one_process_does(database, tmp_path):
    file = tmp_path / "mixture.jsonl"
    write_mixture(file, 3000)
    with_workers = tmp_path / "workers.db"
    one = ingest(database, file, "--workers", 0)
    two = ingest(with_workers, file, "--workers", 2)
    counted = ("inserted", "rejected_by_reason", "records", "passed", "unpriced")
    assert [one[name] for name in counted] == [two[name] for name in counted]
    rows = "SELECT trace_hash, cost_usd, details FROM sessions ORDER BY 1"
    assert asked(database, rows) == asked(with_workers, rows)


def test_reading_goes_on_where_it_ended(database, seed):
    ingest(database, seed)
    with seed.open("a") as file:
        file.write(json.dumps(SEED[0] | {"timestamp": "2025-10-12T11:00:00Z"}) + "\n")
    done = ingest(database, seed)
    assert (done["records"], done["inserted"]) == (1, 1)
    seed.write_text(json.dumps(SEED[1]) + "\n")  # rotated
    done = ingest(database, seed)
    assert (done["records"], done["duplicate"]) == (1, 1)


def test_a_dry_run_keeps_nothing(database, seed):
    done = ingest(database, seed, "--dry-run")
    assert done["inserted"] == 3
    assert not database.exists()


def test_the_summary_the_rates_and_prometheus(database, seed, tmp_path):
    with seed.open("a") as file:
        file.write("no json\n")
    text = run("ingest", seed, "--db", database, "--stats", "--prometheus", tmp_path / "metrics")
    for told in ("inserted", "updated", "duplicate", "rejected", "not_json", "records/s", "p99"):
        assert told in text
    lines = (tmp_path / "metrics").read_text().splitlines()
    assert 'nilometer_traces_records{outcome="inserted"} 3' in lines
    assert 'nilometer_traces_rejected{reason="not_json"} 1' in lines
    assert any(line.startswith('nilometer_traces_stage_seconds{stage="parse",') for line in lines)


def test_a_dead_letter_that_can_be_read_now_becomes_a_call(database, tmp_path):
    bad = SEED[0] | {"metadata": {"repo": "../../etc"}}
    file = tmp_path / "log.jsonl"
    file.write_text(f"{json.dumps(bad)}\n{{broken\n")
    folder = tmp_path / "letters"
    ingest(database, file, "--dead-letter-dir", folder)
    (written,) = folder.iterdir()
    first, second = map(json.loads, written.read_text().splitlines())
    assert (first["reason"], first["line"], first["byte_offset"]) == ("bad_repository", 1, 0)
    assert (second["reason"], second["raw"]) == ("not_json", "{broken")
    with TraceStore(database) as store, store.transaction():
        mended = json.dumps(SEED[0]).encode()
        store.database.execute(
            "UPDATE dead_letters SET raw = ?, raw_bytes = ? WHERE id = 1", (mended, len(mended))
        )
    assert "1 dead letters were read, 1 are left" in run(
        "dead-letters", "replay", "--all", "--db", database
    )
    assert asked(database, "SELECT id, attempts FROM dead_letters") == [(2, 2)]
    assert asked(database, "SELECT session_id FROM sessions") == [("abc123",)]
    assert "Purged 1 dead letter." in run("dead-letters", "purge", "2", "--db", database)


@pytest.fixture(scope="module")
def month(tmp_path_factory):
    """A month of transcripts, and the databases of two runs."""
    folder = tmp_path_factory.mktemp("month")
    told = write_month(folder / "projects")
    databases = [folder / f"{name}.db" for name in ("first", "second")]
    for each in databases:
        ingest(each, folder / "projects", "--parquet-dir", folder / each.stem)
    return told, databases, folder


def test_a_month_of_transcripts_has_its_calls_and_tokens_by_repository(month):
    told, (database, _), _ = month
    rows = asked(
        database, "SELECT repo_slug, count(*), sum(total_tokens) FROM sessions GROUP BY repo_slug"
    )
    assert {row[0] for row in rows} <= {*REPOSITORIES, *(r.partition("/")[2] for r in REPOSITORIES)}
    assert sum(row[1] for row in rows) == told.calls
    assert sum(row[2] or 0 for row in rows) == sum(told.tokens.values())


def test_a_month_of_transcripts_costs_something_in_each_repository(month):
    _, (database, _), _ = month
    made = json.loads(run("report", "--db", database, "--by", "repo", "--format", "json"))
    lines = made["tables"][0]["lines"]
    assert len(lines) == len(REPOSITORIES)
    assert all(Decimal(line["cost_usd"]) > 0 for line in lines)
    assert made["total"]["unpriced"] == 0
    known = asked(database, "SELECT cost_usd FROM sessions WHERE cost_usd IS NOT NULL")
    assert Decimal(made["total"]["cost_usd"]) == sum(Decimal(cost) for (cost,) in known)


def test_the_pages_and_files_of_a_month_are_the_same_bytes_again(month):
    _, databases, folder = month
    sessions = [row[0] for row in asked(databases[0], "SELECT DISTINCT session_id FROM sessions")]
    assert len(sessions) > 30
    for session in sessions[:10]:
        pages = [run("show", session, "--db", each) for each in databases]
        assert pages[0] == pages[1]
        assert f"# Session {session}" in pages[0].replace("\\", "")
    files = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*.parquet")}
        for root in (folder / "first", folder / "second")
    ]
    assert len(files[0]) > 30
    assert files[0] == files[1]
    assert "and all is as it should be" in run(
        "verify", "--db", databases[0], "--parquet", folder / "first"
    )


def test_calls_are_sent_to_a_server_once(database, seed, tmp_path):
    with running(tmp_path / "data") as server:
        environment = {
            **os.environ,
            "NILOMETER_URL": server.url,
            "NILOMETER_API_KEY": KEY,
            "NILOMETER_SPOOL_DIR": str(tmp_path / "spool"),
        }

        def nilometer(*arguments):
            return subprocess.run(
                [sys.executable, "-m", "nilometer", *map(str, arguments)],
                check=True,
                capture_output=True,
                text=True,
                timeout=60,
                env=environment,
            ).stdout

        sending = ["traces", "ingest", seed, "--server", server.url, "--db", database, "--json"]
        for arguments in ([], ["--again"]):
            assert json.loads(nilometer(*sending, *arguments))["inserted"] == 3
        day = ["--from", "2025-10-12", "--to", "2025-10-12"]
        asking = ["report", *day, "--format", "json", "--no-savings", "--group-by", "developer"]

        def told():
            found = json.loads(nilometer(*asking))
            return found if found["total"]["calls"] >= 3 else None

        found = wait_until(told, seconds=60)
        assert found["total"]["calls"] == 3
        assert found["total"]["cost_usd"] == "0.03328"
        developers = {line["developer"]: line["calls"] for line in found["tables"][0]["lines"]}
        assert developers == {"dev@example.com": 2, "alice@example.com": 1}
    assert asked(database, "SELECT count(*) FROM sessions") == [(0,)]
    assert Path(tmp_path / "data").is_dir()
