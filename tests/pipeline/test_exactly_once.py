"""Telemetry commutes: order, repetition, batches and crashes change no row."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nilometer import failpoints
from nilometer.blobs.store import BlobStore
from nilometer.blobs.types import BlobsUnavailable
from nilometer.clickhouse.store import Store, StoreUnavailable
from nilometer.failpoints import Fault
from nilometer.log.envelope import Envelope
from nilometer.pipeline import writer
from nilometer.pipeline.mapping import excerpt
from nilometer.pipeline.packing import Packer
from nilometer.pipeline.pipeline import Pipeline
from tests.pipeline import rows
from tests.pipeline.records import ACCEPTED_AT, MemoryLog, batch_envelope, envelope, mapped

MakePipeline = Callable[..., Pipeline]
UUIDS = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(6)]
RECORD = "01980000-0000-7000-8000-000000000000"
LARGE = [
    {"$ai_input": "How high is the river? " * 100},
    {"$ai_input": "short"},
    {"$ai_input": ["é" * 600], "$ai_output": {"a": [1.5] * 400}},
]
_projects = count(1_000_000)

# An event is one of six uuids with one of three contents: the same uuid comes with other content,
# time and call, and the same record comes again.
events = st.builds(lambda uuid, content: (uuid, content), st.sampled_from(UUIDS), st.integers(0, 2))
steps = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.sampled_from(
            ["", "", "after_pack_put", "after_insert", "before_commit", "store", "blobs"]
        ),
    ),
    max_size=8,
)


def record(project_id: int, uuid: str, content: int) -> Envelope:
    day = 24 * 3600 * 1_000_000
    return envelope(
        project_id,
        uuid,
        name=["$ai_generation", "$ai_embedding", "$ai_span"][content],
        accepted_at=ACCEPTED_AT + content * 20 * day,  # into the next month
        event={"timestamp": f"2025-06-0{content + 1}T00:00:00.000001Z"},
        properties={
            "$ai_model": f"model-{content}",
            "$ai_response_id": f"chatcmpl-0123456789-{content}",
            "$ai_total_cost_usd": "0.000000001",
            **LARGE[content],
        },
    )


def run(make: MakePipeline, log: MemoryLog, faults: list[str], packer: Packer) -> None:
    """Drive the log to its end; each fault ends one process, and the next begins anew."""
    pipeline = make(log, pack=packer.lines)
    while log.committed < len(log.records):
        failpoints.configure(f"{faults.pop(0)}=error" if faults and faults[0] else "")
        try:
            pipeline.run_once(1)
        except (Fault, StoreUnavailable, BlobsUnavailable):
            pipeline.stop(1)
            pipeline = make(log, pack=packer.lines)
        else:
            faults[:1] = []
    pipeline.stop(1)


# A record is one event of the ai door, or a batch whose events have different uuids.
specs = st.lists(events, min_size=1, max_size=4, unique_by=lambda event: event[0])


def record_of(project_id: int, number: int, spec: list[tuple[str, int]]) -> Envelope:
    """The `number`-th record, accepted at a time of its own."""
    accepted_at = ACCEPTED_AT + number * (5 * 24 * 3600 * 1_000_000 + 1)
    if len(spec) == 1:
        return replace(record(project_id, *spec[0]), accepted_at=accepted_at)
    items = [
        (
            uuid,
            {
                "event": ["$ai_generation", "$ai_embedding", "$ai_span"][content],
                "distinct_id": "d",
                "timestamp": f"2025-06-0{content + 1}T00:00:00.000001Z",
                "properties": {
                    "$ai_model": f"model-{content}",
                    "$ai_response_id": f"chatcmpl-0123456789-{content}",
                    "$ai_total_cost_usd": "0.000000001",
                    **LARGE[content],
                },
            },
        )
        for uuid, content in spec
    ]
    return batch_envelope(project_id, RECORD, items, accepted_at=accepted_at)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pool=st.lists(specs, min_size=1, max_size=6),
    order=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    plan=steps,
)
def test_any_order_repetition_batches_and_crashes_give_the_rows_of_the_first_of_each(
    store: Store,
    make_pipeline: MakePipeline,
    packer: Packer,
    unexpired: BlobStore,
    pool,
    order: list[int],
    plan,
):
    tried, clean = next(_projects), next(_projects)
    numbers = [number % len(pool) for number in order]
    log = MemoryLog(
        [record_of(tried, number, pool[number]) for number in numbers], [size for size, _ in plan]
    )
    run(make_pipeline, log, [fault for _, fault in plan], packer)

    firsts: dict[str, Envelope] = {}
    for number in numbers:
        whole = record_of(clean, number, pool[number])
        for index, (uuid, _) in enumerate(pool[number]):
            firsts.setdefault(uuid, excerpt(whole, index))
    once = MemoryLog([firsts[uuid] for uuid in sorted(firsts)])
    run(make_pipeline, once, [], packer)

    assert rows.uuids(store, tried) == sorted(firsts)
    found, expected = (rows.put_back(store, each, unexpired) for each in (tried, clean))
    assert _without_project(found) == _without_project(expected)
    sent = [orjson.loads(mapped(firsts[uuid]).event)["properties"] for uuid in sorted(firsts)]
    assert [row["properties"] for row in found["events"]] == sent


def _without_project(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {
        table: [
            {name: value for name, value in row.items() if name != "project_id"} for row in each
        ]
        for table, each in found.items()
    }


def test_a_redelivered_record_maps_to_the_same_bytes(project_id: int):
    one = record(project_id, UUIDS[0], 0)
    assert mapped(one) == mapped(replace(one))


def test_equal_rows_collapse_even_when_the_look_up_found_nothing(
    store: Store, project_id: int, monkeypatch: pytest.MonkeyPatch
):
    """The second fence: two processes that hold one batch at the same time."""
    batch = [mapped(record(project_id, uuid, 0)) for uuid in UUIDS]
    monkeypatch.setattr(writer, "_look_up", lambda store, batch: {})
    writer.write(store, batch)
    writer.write(store, batch)
    assert rows.uuids(store, project_id) == UUIDS
    assert len(rows.final(store, "calls", project_id)) == len(UUIDS)


def test_an_event_that_another_release_left_half_written_is_not_written_again(
    store: Store, project_id: int, make_pipeline: MakePipeline
):
    """Its rows would differ: only the look-up, not FINAL, keeps it single."""
    old = mapped(record(project_id, UUIDS[0], 0))
    store.insert_lines("events", [old.event.replace(b"2025-06-01", b"2025-05-31")])
    log = MemoryLog([record(project_id, UUIDS[0], 0)])
    make_pipeline(log).run_once(1)
    assert rows.uuids(store, project_id) == [UUIDS[0]]
    assert len(rows.final(store, "calls", project_id)) == 1


@pytest.mark.parametrize("lost", [["events"], ["calls"], ["event_ids"], ["events", "calls"]])
def test_a_row_that_a_loss_of_power_took_comes_back_with_its_record(
    store: Store, project_id: int, make_pipeline: MakePipeline, lost: list[str]
):
    """What the rewind after an unclean stop is for: an id alone proves nothing."""
    envelopes = [record(project_id, uuid, number % 3) for number, uuid in enumerate(UUIDS)]
    make_pipeline(MemoryLog(envelopes)).run_once(1)
    before = rows.everything(store, project_id)
    for table in lost:
        store.command(f"DELETE FROM {table} WHERE project_id = {project_id}")
        assert rows.final(store, table, project_id) == []
    for _ in range(2):
        make_pipeline(MemoryLog(envelopes, [4, 2])).run_once(1)
        make_pipeline(MemoryLog(envelopes)).run_once(1)
    assert rows.everything(store, project_id) == before
    for table, present in before.items():
        assert _written(store, table, project_id) == len(present), "written once, not collapsed"


def test_a_lost_row_of_the_stored_record_comes_back_behind_a_repeat_of_it(
    store: Store, project_id: int, make_pipeline: MakePipeline
):
    """The repeat is the first of the batch, because the stored record was replayed behind it."""
    stored, repeat = record(project_id, UUIDS[0], 0), record(project_id, UUIDS[0], 1)
    make_pipeline(MemoryLog([stored])).run_once(1)
    before = rows.everything(store, project_id)
    store.command(f"DELETE FROM events WHERE project_id = {project_id}")
    make_pipeline(MemoryLog([repeat, stored])).run_once(1)
    assert rows.everything(store, project_id) == before


def test_a_repeat_with_other_content_is_not_stored_even_where_a_row_was_lost(
    store: Store, project_id: int, make_pipeline: MakePipeline
):
    make_pipeline(MemoryLog([record(project_id, UUIDS[0], 0)])).run_once(1)
    store.command(f"DELETE FROM events WHERE project_id = {project_id}")
    make_pipeline(MemoryLog([record(project_id, UUIDS[0], 1)])).run_once(1)
    assert rows.final(store, "events", project_id) == []
    assert len(rows.final(store, "calls", project_id)) == 1


def test_a_redelivered_call_that_another_release_named_otherwise_is_not_written_again(
    store: Store, project_id: int, make_pipeline: MakePipeline
):
    one = record(project_id, UUIDS[0], 0)
    old = mapped(one)
    assert old.call
    renamed = old.call.replace(old.call_id.encode(), b"another name")
    writer.write(store, [replace(old, call=renamed, call_id="another name")])
    make_pipeline(MemoryLog([one])).run_once(1)
    assert [row["call_id"] for row in rows.final(store, "calls", project_id)] == ["another name"]


def test_the_same_uuid_in_two_projects_is_two_events(store: Store, make_pipeline: MakePipeline):
    one, other = next(_projects), next(_projects)
    log = MemoryLog([record(one, UUIDS[0], 0), record(other, UUIDS[0], 1)])
    make_pipeline(log).run_once(1)
    assert rows.uuids(store, one) == rows.uuids(store, other) == [UUIDS[0]]
    assert rows.final(store, "events", other)[0]["model"] == "model-1"


@pytest.mark.parametrize("point", ["after_pack_put", "after_insert", "before_commit"])
def test_a_kill_in_the_middle_of_a_batch_loses_and_repeats_nothing(tmp_path: Path, point: str):
    killed = _carry(tmp_path, f"{point}=kill@2")
    assert killed.returncode == -9, killed.stderr
    finished = _carry(tmp_path, "")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "events 60 60, event_ids 60 60, calls 60 60, put back 15 of 15\n"


def _written(store: Store, table: str, project_id: int) -> int:
    """Rows as they lie there, equal ones each."""
    sql = f"SELECT count() FROM {table} WHERE project_id = {{project:Int64}}"
    return store.query(sql, {"project": project_id}).rows[0][0]


def _carry(directory: Path, points: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.pipeline.carrying", str(directory), points]
    return subprocess.run(
        command, check=False, env=dict(os.environ), capture_output=True, text=True, timeout=60
    )
