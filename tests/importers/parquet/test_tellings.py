"""Files and database say the same of each call, however it was told and whenever exported."""

import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.importers.parquet.export import export
from nilometer.importers.parquet.tables import tables
from nilometer.importers.store import TraceStore
from nilometer.importers.store.columns import SELECTED
from nilometer.importers.verifying import verify
from tests.importers.rows import row

told = st.builds(
    lambda name, completeness, hour, session, repo, tools, cost: row(
        name,
        completeness=completeness,
        timestamp=f"2026-11-0{2 + hour // 24}T{hour % 24:02d}:00:00.000000+00:00",
        session_id=session,
        repo_slug=repo,
        cost_usd=cost,
        details={"tools": tools} if tools else {},
        price={"source": "x", "components": {"x": cost}} if cost else {"reason": "unknown_model"},
        tokens_in=None,
        tokens_out=None,
        total_tokens=None,
    ),
    st.sampled_from("ab"),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2, 30]),
    st.sampled_from(["sa", "sb"]),
    st.sampled_from([None, "acme/river", "Acme/River", "solo"]),
    st.lists(st.sampled_from(["Read", "Bash"]), unique=True),
    st.sampled_from([None, "0.5", "0.7"]),
)
EXPORT = "export"
steps = st.lists(st.one_of(st.tuples(st.booleans(), st.lists(told, max_size=3)), st.just(EXPORT)))


def both(store, root):
    """The calls of the files, and those of the database."""
    files = [pq.ParquetFile(path).read() for path in sorted(root.rglob("*.parquet"))]
    rows = store.database.execute(f"SELECT {SELECTED} FROM sessions ORDER BY trace_hash")
    return [
        sorted((each for table in found for each in table.to_pylist()), key=str)
        for found in (files, tables(rows))
    ]


@settings(max_examples=40, deadline=None)
@given(steps)
def test_after_any_tellings_and_exports_the_files_are_the_table(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("told")
    root = folder / "out"
    with TraceStore(folder / "t.db") as store:
        for step in (*steps, EXPORT):
            if step == EXPORT:
                export(store, root)
                continue
            reprices, rows = step
            with store.run(reprices=reprices) as run:
                run.keep(rows)
        in_files, in_table = both(store, root)
        assert in_files == in_table
        assert verify(store, root).counts == {}
