"""The standalone store: each call once, whatever comes, from however many processes."""

import multiprocessing
import sqlite3
import stat
from dataclasses import astuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.errors import InvalidInput, NotFound
from nilometer.importers.store import TraceStore
from nilometer.importers.store.columns import STORED_NAMES
from nilometer.importers.store.letters import NewLetter
from nilometer.importers.store.tellings import standing
from tests.importers.rows import row, rows_of

SELECT = f"SELECT {', '.join(STORED_NAMES)} FROM sessions ORDER BY trace_hash"


@pytest.fixture
def store(tmp_path):
    with TraceStore(tmp_path / "traces.db") as store:
        yield store


def kept(store):
    return store.database.execute(SELECT).fetchall()


def keep(store, rows, **others):
    with store.run() as run:
        return astuple(run.keep(rows, **others))


def letter(**values):
    told = {
        "reason": "not_json",
        "detail": "line 3 is no JSON",
        "source": "a.jsonl",
        "source_hash": "ff",
        "line": 3,
        "offset": 120,
        "raw": b"{",
        "raw_bytes": 1,
    }
    return NewLetter(**told | values)


def test_what_is_inserted_updated_and_duplicate_is_told_apart(store):
    assert keep(store, rows_of(3)) == (3, 0, 0, 0)
    assert keep(store, rows_of(4)) == (1, 0, 3, 0)
    fuller = row("call-0", completeness=2, tokens_out=60)
    assert keep(store, [fuller, *rows_of(2)]) == (0, 1, 2, 0)
    assert fuller in kept(store)


def test_a_call_that_comes_twice_at_once_is_one(store):
    assert keep(store, [row("a"), row("a", completeness=2), row("a")]) == (1, 1, 1, 0)


@settings(max_examples=20, deadline=None)
@given(st.permutations([("a", 1, "x"), ("a", 2, "y"), ("a", 2, "x"), ("b", 1, ""), ("b", 1, "")]))
def test_the_order_of_tellings_changes_nothing(tmp_path_factory, order):
    with TraceStore(tmp_path_factory.mktemp("store") / "t.db") as store:
        for name, completeness, content in order:
            keep(store, [row(name, completeness=completeness, developer_id=content)])
        expected = [
            row("a", completeness=2, developer_id=max("xy", key=content_of)),
            row("b", completeness=1, developer_id=""),
        ]
        assert sorted(kept(store)) == sorted(expected)


def content_of(developer):
    """By which one of two that are as full stands."""
    return standing(*row("a", completeness=2, developer_id=developer))


def test_a_batch_is_kept_whole_or_not_at_all(store):
    broken = tuple(
        None if name == "status" else value
        for name, value in zip(STORED_NAMES, row("b"), strict=True)
    )
    with pytest.raises(InvalidInput):
        keep(store, [row("a"), broken], letters=[letter()], checkpoint=("a.jsonl", "{}"))
    assert not kept(store)
    assert store.checkpoint("a.jsonl") is None
    assert store.letters.count() == {}


def test_a_checkpoint_goes_with_what_was_read(store):
    keep(store, [row("a")], checkpoint=("a.jsonl", '{"offset": 10}'))
    keep(store, [row("b")], checkpoint=("a.jsonl", '{"offset": 20}'))
    assert store.checkpoint("a.jsonl") == '{"offset": 20}'
    assert store.checkpoint("b.jsonl") is None


def test_a_query_of_prodlens_finds_its_columns(store):
    keep(
        store,
        [
            row(
                "a",
                accepted_flag=1,
                details={"diff_ratio": 0.8, "accepted_lines": 12},
                status_code=200,
            )
        ],
    )
    found = store.database.execute(
        "SELECT id, session_id, developer_id, timestamp, model, tokens_in, tokens_out, latency_ms,"
        " status_code, accepted_flag, repo_slug, event_date, total_tokens, cost_usd, diff_ratio,"
        " accepted_lines FROM sessions"
    ).fetchone()
    assert found == (
        *(1, "s-1", "ada", "2026-11-02T10:00:00.000000+00:00", "claude-sonnet-4-5", 100, 50),
        *(1234.5, 200, 1, "acme/river", "2026-11-02", 150, "0.00105", 0.8, 12),
    )


def test_the_file_is_its_owners_alone_and_in_wal_mode(store):
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert store.database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE sessions (id)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="another program's"):
        TraceStore(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no database " * 100)
    with pytest.raises(InvalidInput, match="no database of traces"):
        TraceStore(path)


def test_a_store_that_is_not_there_is_not_made_to_be_read(tmp_path):
    with pytest.raises(NotFound, match="traces ingest"):
        TraceStore(tmp_path / "none.db", create=False)
    assert not (tmp_path / "none.db").exists()


def test_a_file_of_a_later_release_is_left_alone(store):
    store.database.execute("PRAGMA user_version = 999")
    with pytest.raises(InvalidInput, match="later release"):
        TraceStore(store.path)


def write(path, worker, barrier, counts):
    barrier.wait(30)
    with TraceStore(path) as store, store.run() as run:
        for batch in range(10):
            rows = [row(f"shared-{batch}-{number}") for number in range(20)]
            rows += [row(f"{worker}-{batch}-{number}") for number in range(20)]
            run.keep(rows, [letter(offset=batch)])
        counts.put((run.counts.inserted, run.counts.duplicate))


def test_processes_write_one_file_at_once(tmp_path):
    spawned = multiprocessing.get_context("spawn")
    barrier, counts = spawned.Barrier(4), spawned.Queue()
    path = tmp_path / "traces.db"
    workers = [
        spawned.Process(target=write, args=(path, number, barrier, counts)) for number in range(4)
    ]
    for each in workers:
        each.start()
    told = [counts.get(timeout=60) for _ in workers]
    for each in workers:
        each.join(90)
        assert each.exitcode == 0
    assert sum(inserted for inserted, _ in told) == 200 + 4 * 200
    assert sum(duplicate for _, duplicate in told) == 3 * 200
    with TraceStore(path) as store:
        assert len(kept(store)) == 1000
        assert store.letters.count() == {"not_json": 10}


def test_dead_letters_are_kept_once_listed_tried_and_purged(store):
    letters = [
        letter(offset=n, line=n, reason="not_json" if n % 2 else "no_usage") for n in range(6)
    ]
    keep(store, [], letters=letters)
    assert keep(store, [], letters=letters) == (0, 0, 0, 6)
    assert store.letters.count() == {"no_usage": 3, "not_json": 3}
    first, *_ = found = list(store.letters.list(reason="no_usage"))
    assert [each.offset for each in found] == [0, 2, 4]
    assert len(list(store.letters.list(limit=4))) == 4
    assert (first.raw, first.line, first.source_hash, first.whole) == (b"{", 0, "ff", True)
    store.letters.tried_again(first.id, "no_timestamp", "still")
    assert store.letters.get(first.id).attempts == 2
    assert store.letters.remove([first.id]) == 1
    with pytest.raises(NotFound):
        store.letters.get(first.id)
    assert store.letters.purge(reason="not_json") == 3
    assert store.letters.purge() == 2


def test_a_record_in_two_places_is_two_letters(store):
    keep(store, [], letters=[letter(), letter(offset=500, line=9), letter(source_hash="aa")])
    assert store.letters.count() == {"not_json": 3}
