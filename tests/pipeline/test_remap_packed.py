"""Events whose large values are in packs are mapped again from what was sent."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nilometer import failpoints
from nilometer.blobs.store import BlobStore
from nilometer.clickhouse.store import Store
from nilometer.domain import clock
from nilometer.pipeline.rewriting.jobs import Kind, Rewrite, State
from nilometer.pipeline.rewriting.remap import NOT_READABLE
from tests.pipeline import rows, test_map_litellm, test_map_otlp
from tests.pipeline.records import MemoryLog, envelope

UUID = "00000000-0000-4000-8000-000000000001"
LARGE = "How high is the river? " * 100
NOW = clock.to_micros(clock.now())
PROPERTIES = f'{{"$ai_model":"gpt-4o" ,"$ai_input":[ "{LARGE}",1.10],"$ai_input_tokens":7}}'


@pytest.fixture
def send(project: int, make_pipeline: Any, packer: Any) -> Callable[[], None]:
    """An event of each kind: one kept as it was sent, and two that were converted."""
    payload = test_map_litellm.payload() | {"messages": [{"role": "user", "content": LARGE}]}
    sent = [
        envelope(1, UUID, properties=PROPERTIES),
        test_map_litellm.record_of(payload),
        test_map_otlp.record(
            {**test_map_otlp.CHAT, "gen_ai.prompt": LARGE}, start_time_unix_nano=NOW * 1000
        ),
    ]
    mine = [replace(each, project_id=project, accepted_at=NOW) for each in sent]
    return lambda: make_pipeline(MemoryLog(mine), pack=packer.lines).run_once(1) and None


@pytest.fixture
def remap(project: int, rewrites: Any, worker: Any) -> Callable[..., Rewrite]:
    def remap(*, dry_run: bool = False) -> Rewrite:
        asked = rewrites.add(
            project,
            Kind.REMAP,
            since=datetime.fromisoformat("2020-01-01T00:00:00Z"),
            until=clock.now() + timedelta(days=1),
            dry_run=dry_run,
        )
        worker(2).run_once()
        return rewrites.get(project, asked.id)

    return remap


def age(store: Store, project: int) -> None:
    """Make the rows what an older mapping would have made of them."""
    made = [
        {
            name: str(value) if name == "total_cost_usd" and value else value
            for name, value in row.items()
        }
        | {"project_id": project, "span_name": "wrong", "mapping_version": 1}
        for row in rows.final(store, "events", project)
    ]
    store.insert("events", made)


def test_what_was_stored_today_is_mapped_to_itself(store, project, send, remap, blobs):
    send()
    before = rows.everything(store, project)
    assert {row["packed"] != "[]" for row in before["events"]} == {True}
    done = remap()
    assert (done.state, done.seen, done.changed, done.skipped) == (State.DONE, 3, 0, 0)
    assert rows.everything(store, project) == before


def test_a_changed_row_is_packed_anew_and_reads_the_same(
    store: Store, project: int, send, remap, blobs: BlobStore, tmp_path: Path
):
    send()
    fresh = rows.put_back(store, project, blobs)["events"]
    age(store, project)
    dry = remap(dry_run=True)
    assert (dry.changed, len(list(tmp_path.rglob("*.pack")))) == (3, 2)
    named = {row["packed"] for row in rows.final(store, "events", project)}
    done = remap()
    assert (done.changed, done.skipped) == (3, 0)
    now_named = {row["packed"] for row in rows.final(store, "events", project)}
    assert not named & now_named, "a sweep may take the old packs at any instant"
    assert rows.put_back(store, project, blobs)["events"] == fresh
    assert all(row["packed"] != "[]" for row in rows.final(store, "events", project))
    assert remap().changed == 0


def test_an_event_whose_values_are_gone_is_left_as_it_is_and_counted(
    store: Store, project: int, send, remap, tmp_path: Path
):
    send()
    age(store, project)
    before = rows.everything(store, project)
    for pack in tmp_path.rglob("*.pack"):
        pack.unlink()
    done = remap()
    assert (done.state, done.seen, done.changed, done.skipped) == (State.DONE, 3, 0, 3)
    assert dict(done.findings.items()) == {("events", NOT_READABLE): {"rows": 3}}
    assert rows.everything(store, project) == before


def test_a_pass_waits_for_a_blob_storage_that_is_down(
    store: Store, project: int, send, remap, rewrites, worker, tmp_path: Path
):
    send()
    age(store, project)
    pack, _ = tmp_path.rglob("*.pack")  # the span's retention is another
    away = pack.rename(tmp_path / "away")
    pack.mkdir()
    waiting = remap()
    assert (waiting.state, waiting.seen) == (State.RUNNING, 0)
    pack.rmdir()
    away.rename(pack)
    worker(2).run_once()
    done = rewrites.get(project, waiting.id)
    assert (done.state, done.changed, done.skipped) == (State.DONE, 3, 0)


@pytest.mark.parametrize("point", ["after_pack_put", "rewrite_written"])
def test_a_pass_that_is_cut_off_goes_on_and_ends_the_same(
    store: Store, project: int, send, remap, rewrites, worker, blobs: BlobStore, point: str
):
    send()
    fresh = rows.put_back(store, project, blobs)["events"]
    age(store, project)
    failpoints.configure(f"{point}=error")
    cut = remap()
    assert cut.state is State.FAILED
    failpoints.configure("")
    remap()
    assert rows.put_back(store, project, blobs)["events"] == fresh
