"""However a call is told, in pieces, in any order and again: the same is known of it."""

import random
from functools import reduce

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.trace_records import write_month
from nilometer.importers import ingestion, reading, report, telling
from nilometer.importers.chunk import Limits, Options
from nilometer.importers.ingestion import Work
from nilometer.importers.keepers import StoreKeeper
from nilometer.importers.parquet.export import export
from nilometer.importers.priced import Pricer
from nilometer.importers.store import TraceStore
from nilometer.importers.store.columns import STORED_NAMES
from nilometer.importers.store.tellings import merged, standing
from nilometer.importers.trace_call import BUCKETS, TraceCall

NIGHT = 1_790_812_790_000_000
TOOLS = ("Read", "Bash", "Edit")
PRICER = Pricer()
SHORT, LONG = ((9, *[0] * (len(BUCKETS) - 2), output) for output in (5, 50))

tellings = st.lists(
    st.fixed_dictionaries(
        {
            "source": st.just("claude_code"),
            "key": st.just("msg_1/req_1"),
            "is_identified": st.just(True),
            "line": st.just(1),
            "offset": st.just(0),
            "started_at": st.sampled_from([NIGHT, NIGHT + 2, NIGHT + 20_000_000]),
            "is_time_assumed": st.booleans(),
            "session": st.sampled_from([None, "a", "b"]),
            "provider": st.just("anthropic"),
            "model": st.sampled_from(["claude-sonnet-4-5", "no-such-model"]),
            "tools": st.lists(st.sampled_from(TOOLS), unique=True).map(tuple),
            "latency_ms": st.sampled_from([None, 5, 5.5]),
            "tokens": st.sampled_from([None, SHORT, LONG]),
        }
    ).map(lambda members: TraceCall(**members)),
    min_size=1,
    max_size=5,
)


def rows(calls):
    return PRICER.rows(calls).rows


@settings(max_examples=80, deadline=None)
@given(tellings, st.integers(0, 10**9))
def test_pieces_order_and_repeats_change_nothing(calls, seed):
    chance = random.Random(seed)
    (whole,) = rows(telling.joined(calls))
    shuffled = [*calls, *chance.sample(calls, chance.randrange(len(calls) + 1))]
    chance.shuffle(shuffled)
    cut = chance.randrange(len(shuffled))
    pieces = [rows(telling.joined(each)) for each in (shuffled[:cut], shuffled[cut:])]
    assert reduce(merged, [row for piece in pieces for row in piece]) == whole
    assert reduce(merged, rows(shuffled)) == whole
    assert merged(whole, rows(calls[:1])[0]) == whole
    assert standing(*whole) >= max(standing(*row) for row in rows(calls))


@settings(max_examples=80, deadline=None)
@given(tellings)
def test_what_is_known_stands_higher_each_time_that_it_changes(calls):
    known, *others = rows(calls)
    for row in others:
        more = merged(known, row)
        assert (standing(*more) > standing(*known)) is (more != known)
        known = more


def ingest(path, folder, chunk=1 << 20):
    with TraceStore(path) as store, store.run() as run:
        return ingestion.ingest(
            reading.sources([str(folder)]),
            StoreKeeper(run),
            Work(Options()),
            limits=Limits(chunk=chunk),
            workers=0,
        )


def kept(path, root):
    """The rows, the report and the Parquet files of a database."""
    asked = report.Asked((("day",), ("session", "model"), ("repository",)))
    with TraceStore(path) as store:
        found = store.database.execute(
            f"SELECT {', '.join(STORED_NAMES)} FROM sessions ORDER BY trace_hash"
        ).fetchall()
        made = report.make(store, asked)
        export(store, root)
    return found, made.tables, {
        each.relative_to(root): each.read_bytes() for each in root.rglob("*.parquet")
    }  # fmt: skip


@pytest.fixture(scope="module")
def month(tmp_path_factory):
    """Days of transcripts with a tool on each line of an answer, one of them over midnight; the
    bytes by file."""
    folder = tmp_path_factory.mktemp("month")
    write_month(folder / "as written", seed=8, days=4)
    found = {}
    for path in sorted((folder / "as written").rglob("*.jsonl")):
        lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        for number, line in enumerate(lines):
            if line["type"] == "assistant" and not line.get("isApiErrorMessage"):
                tool = {"type": "tool_use", "name": f"{TOOLS[number % 3]}{number % 7}"}
                line["message"]["content"] = [tool]
                if line["message"]["id"] == "msg_00000002":
                    line["timestamp"] = f"2026-10-{1 + number % 2:02d}T23:59:59.{number:03d}Z"
        name = path.relative_to(folder / "as written")
        found[name] = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    return found


def write(folder, month, upto):
    for name, data in month.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[: upto(name, data)])


def test_a_month_read_with_pauses_is_the_month_read_whole(month, tmp_path):
    write(tmp_path / "whole", month, lambda _, data: len(data))
    ingest(tmp_path / "whole.db", tmp_path / "whole")
    expected = kept(tmp_path / "whole.db", tmp_path / "files")
    assert any(len(orjson.loads(row[-2]).get("tools", [])) > 1 for row in expected[0])
    for seed in range(3):
        chance, folder = random.Random(seed), tmp_path / f"{seed}"
        cuts = {
            name: sorted(chance.randrange(len(data)) for _ in range(4))
            for name, data in month.items()
        }
        for pause in range(4):
            write(folder, month, lambda name, _, at=pause, cut=cuts: cut[name][at])
            ingest(tmp_path / f"{seed}.db", folder, chunk=chance.randrange(300, 9000))
        write(folder, month, lambda _, data: len(data))
        ingest(tmp_path / f"{seed}.db", folder)
        assert kept(tmp_path / f"{seed}.db", tmp_path / f"files {seed}") == expected
