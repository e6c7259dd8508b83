"""Parquet files of a store: whole for who reads, with each call once, in one layout."""

import threading
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nilometer.errors import InvalidInput
from nilometer.importers.parquet.export import export
from nilometer.importers.parquet.partition import Partition, add
from nilometer.importers.store import TraceStore
from nilometer.importers.store.columns import SELECTED
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


def changed(file, name, value):
    table = pq.ParquetFile(file).read()
    place = table.schema.get_field_index(name)
    column = pa.array([value] * len(table), table.schema.field(name).type)
    pq.write_table(table.set_column(place, table.schema.field(name), column), file)


def test_verifying_sees_what_is_not_the_same_in_a_file(store, tmp_path):
    root = tmp_path / "out"
    keep(store, MIXED)
    export(store, root)
    paths = [Partition("acme/river", f"2026-11-0{day}").path for day in (2, 3)]
    changed(root / paths[0], "cost_usd", Decimal(999))
    changed(root / paths[1], "tools", "[]")
    found = verify(store, root)
    assert found.counts == {"not the same in Parquet": 2}
    assert found.examples == {"not the same in Parquet": f"{paths[0]}: prodlens:a"}


def test_verifying_sees_which_file_is_damaged_wherever_it_is(store, tmp_path):
    root = tmp_path / "out"
    keep(store, MIXED)
    export(store, root)
    ours, ghost = Partition("solo", "2026-11-02").path, Partition("ghost/x", "2026-11-02").path
    (root / ghost).parent.mkdir(parents=True)
    for path in (ours, ghost):
        (root / path).write_bytes(b"PAR1 garbage")
        found = verify(store, root)
        assert found.counts.pop("a file that cannot be read") == 1 + (path == ghost)
        assert found.counts == {}
        assert found.examples["a file that cannot be read"].startswith(f"{ours}: ")
    (root / ours).unlink()
    assert verify(store, root).examples["missing in Parquet"] == f"{ours}: prodlens:d"
    assert verify(store, root).examples["a file that cannot be read"].startswith(ghost)


def test_verifying_sees_a_call_that_is_in_two_files_or_twice_in_one(store, tmp_path):
    root = tmp_path / "out"
    keep(store, MIXED)
    export(store, root)
    table = pq.ParquetFile(root / Partition("acme/river", "2026-11-02").path).read()
    other, solo = Partition("ghost/x", "2026-11-02").path, Partition("solo", "2026-11-02").path
    (root / other).parent.mkdir(parents=True)
    pq.write_table(table, root / other)
    rows = pq.ParquetFile(root / solo).read()
    pq.write_table(pa.concat_tables([rows, rows]), root / solo)
    found = verify(store, root)
    assert found.examples == {
        "in a file of another repository or day": f"{other}: prodlens:a",
        "twice in Parquet": solo,
    }


def test_verifying_follows_no_link(store, tmp_path):
    root = tmp_path / "out"
    keep(store, [row("a")])
    export(store, root)
    file = root / PLACE.path
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert list(verify(store, root).counts) == ["a file that cannot be read"]


def test_verifying_lets_a_fuller_telling_of_another_database_stand(store, tmp_path):
    root = tmp_path / "out"
    keep(store, [row("a"), row("both")])
    export(store, root)
    with TraceStore(tmp_path / "other.db") as other:
        keep(other, [row("both", completeness=5, tokens_out=60), row("more")])
        export(other, root)
    assert verify(store, root).counts == {}


@pytest.fixture
def calls(store):
    keep(store, rows_of(30))
    return store.database.execute(f"SELECT {SELECTED} FROM sessions ORDER BY trace_hash").fetchall()


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
    reader.join(90)
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


def test_a_folder_that_cannot_be_is_said_in_a_sentence(store, tmp_path):
    keep(store, [row("a")])
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "link", tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InvalidInput, match="there can be no folder"):
            export(store, root)
