"""Parquet files of a store: whole for who reads, with each call once, in one layout."""

import threading
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

from nilometer.errors import InvalidInput
from nilometer.importers.parquet.export import export
from nilometer.importers.parquet.partition import Partition, add
from nilometer.importers.store import TraceStore
from nilometer.importers.store.columns import NAMES
from nilometer.importers.verifying import verify
from tests.importers.rows import row, rows_of


@pytest.fixture
def store(tmp_path):
    with TraceStore(tmp_path / "traces.db") as store:
        yield store


def keep(store, rows):
    with store.run() as run:
        run.keep(rows)


def hashes(root):
    files = sorted(root.rglob("*.parquet"))
    return sorted(
        h for file in files for h in pq.ParquetFile(file).read(["trace_hash"])[0].to_pylist()
    )


MIXED = [
    row("a"),
    row("b", repo_slug="Acme/River", timestamp="2026-11-03T00:00:00.000000+00:00"),
    row("c", repo_slug=None, cost_usd=None, accepted_flag=1, price={"reason": "unknown_model"}),
    row("d", repo_slug="solo"),
]


def test_duckdb_and_polars_read_the_folder(store, tmp_path):
    keep(store, MIXED)
    done = export(store, tmp_path / "out")
    assert (done.files, done.calls) == (4, 4)
    found = duckdb.sql(
        "SELECT repo, day::VARCHAR, trace_hash, cost_usd, accepted_flag, uncached_input"
        f" FROM read_parquet('{tmp_path}/out/**/*.parquet', hive_partitioning = true)"
        " ORDER BY trace_hash"
    ).fetchall()
    cost = Decimal("0.00105")
    assert found == [
        ("acme/river", "2026-11-02", "prodlens:a", cost, None, 100),
        ("acme/river", "2026-11-03", "prodlens:b", cost, None, 100),
        (None, "2026-11-02", "prodlens:c", None, True, 100),
        ("solo", "2026-11-02", "prodlens:d", cost, None, 100),
    ]
    frame = pl.scan_parquet(f"{tmp_path}/out/**/*.parquet", hive_partitioning=True)
    by_repo = frame.group_by("repo").agg(pl.col("cost_usd").sum()).collect()
    assert dict(by_repo.rows())["acme/river"] == 2 * cost
    assert verify(store, tmp_path / "out").counts == {}


def test_an_export_twice_is_the_same_bytes(store, tmp_path):
    keep(store, rows_of(50))
    root = tmp_path / "out"
    export(store, root)
    before = {path: path.read_bytes() for path in root.rglob("*.parquet")}
    export(store, root, everything=True)
    assert {path: path.read_bytes() for path in root.rglob("*.parquet")} == before


def test_only_what_runs_changed_is_written_again(store, tmp_path):
    root = tmp_path / "out"
    keep(store, [row("a")])
    export(store, root)
    keep(store, [row("b", repo_slug="acme/other")])
    assert export(store, root).files == 1
    assert export(store, root).files == 0
    assert hashes(root) == ["prodlens:a", "prodlens:b"]


def test_a_call_that_moved_is_in_one_file_only(store, tmp_path):
    root = tmp_path / "out"
    keep(store, [row("a", repo_slug=None), row("b", repo_slug=None)])
    export(store, root)
    keep(store, [row("a", repo_slug="acme/river", completeness=2)])
    export(store, root)
    assert hashes(root) == ["prodlens:a", "prodlens:b"]
    assert verify(store, root).counts == {}


def test_a_folder_that_two_stores_write_has_the_calls_of_both(store, tmp_path):
    root = tmp_path / "out"
    with TraceStore(tmp_path / "other.db") as other:
        keep(other, [row("a"), row("both", completeness=5, tokens_out=60)])
        export(other, root)
    keep(store, [row("b"), row("both")])
    export(store, root)
    assert hashes(root) == ["prodlens:a", "prodlens:b", "prodlens:both"]
    file = root / Partition("acme/river", "2026-11-02").path
    assert 60 in pq.ParquetFile(file).read(["tokens_out"])[0].to_pylist()


@pytest.fixture
def calls(store):
    keep(store, rows_of(30))
    return store.database.execute(
        f"SELECT {', '.join(NAMES)} FROM sessions ORDER BY trace_hash"
    ).fetchall()


PLACE = Partition("acme/river", "2026-11-02")


def test_a_file_that_is_not_ours_is_left_as_it_is(tmp_path, calls):
    file = tmp_path / PLACE.path
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PAR1 not quite PAR1")
    with pytest.raises(InvalidInput, match="left as it is"):
        add(tmp_path, PLACE, calls, frozenset())
    assert file.read_bytes() == b"PAR1 not quite PAR1"
    assert [each.name for each in file.parent.iterdir()] == ["calls.parquet"]


def test_what_a_killed_writer_left_is_swept_away(tmp_path, calls):
    folder = (tmp_path / PLACE.path).parent
    folder.mkdir(parents=True)
    (folder / ".calls.parquet.0011223344556677.tmp").write_bytes(b"half")
    add(tmp_path, PLACE, calls, frozenset())
    assert [each.name for each in folder.iterdir()] == ["calls.parquet"]


def test_a_reader_never_sees_a_part(tmp_path, calls):
    file = tmp_path / PLACE.path
    add(tmp_path, PLACE, calls[:1], frozenset())
    ended, sizes, faults = threading.Event(), set(), []

    def read():
        while not ended.is_set():
            try:
                sizes.add(pq.ParquetFile(file).metadata.num_rows)
            except Exception as error:
                faults.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for count in range(2, 30):
        add(tmp_path, PLACE, calls[:count], frozenset())
    ended.set()
    reader.join(10)
    assert faults == []
    assert sizes <= set(range(1, 30))


def test_streams_of_many_batches_are_merged_in_order(tmp_path, calls, monkeypatch):
    monkeypatch.setattr("nilometer.importers.parquet.tables.BATCH_ROWS", 4)
    monkeypatch.setattr("nilometer.importers.parquet.partition.BATCH_ROWS", 3)
    add(tmp_path, PLACE, calls[::2], frozenset())
    add(tmp_path, PLACE, calls[::3], frozenset())
    assert add(tmp_path, PLACE, calls[1::2], frozenset({calls[0][0]})) == 29
    found = pq.ParquetFile(tmp_path / PLACE.path).read(["trace_hash"])[0].to_pylist()
    assert found == sorted(call[0] for call in calls[1:])
    assert Path(tmp_path / PLACE.path).stat().st_mode & 0o777 == 0o600
