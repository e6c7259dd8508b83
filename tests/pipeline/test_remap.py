"""Stored events are mapped again from what their rows keep: as if they had come today."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from nilometer.clickhouse.store import Store, StoreUnavailable
from nilometer.domain.ai_record import BlobReference
from nilometer.log.envelope import Envelope
from nilometer.pipeline.rewriting.jobs import Kind, Rewrite, State
from nilometer.pricing import Override, Overrides
from nilometer.pricing.overrides import BUCKETS
from tests.pipeline import rows, test_map_litellm, test_map_otlp
from tests.pipeline.records import MemoryLog, batch_envelope, envelope

UUID = "00000000-0000-4000-8000-000000000001"
START = datetime(2025, 1, 1, tzinfo=UTC)
END = datetime(2026, 1, 1, tzinfo=UTC)
TOKENS = {
    "$ai_model": "gpt-4o",
    "$ai_provider": "openai",
    "$ai_input_tokens": 1000,
    "$ai_output_tokens": 50,
    "$ai_total_cost_usd": 0.1,
    "$ai_latency": 1.25,
    "$ai_trace_id": "t",
}
BLOB = BlobReference("$ai_output", "file://b/k?range=0-9", "text/plain", None, 10, 10, False)
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 20,
}
SPAN_TIME = {"start_time_unix_nano": 1_751_367_500_000_000_000}


def of_every_door() -> list[Envelope]:
    posted = {"event": "$ai_embedding", "distinct_id": "d", "properties": TOKENS}
    return [
        envelope(1, UUID, properties=TOKENS, blobs=[BLOB]),
        batch_envelope(1, UUID, [(UUID[:-1] + "2", posted)]),
        test_map_litellm.record_of(test_map_litellm.payload()),
        test_map_otlp.record(CHAT, {"http.route": "/"}, **SPAN_TIME),
    ]


@pytest.fixture
def send(project, make_pipeline: Any) -> Callable[..., None]:
    def send(*envelopes: Envelope) -> None:
        mine = [replace(each, project_id=project) for each in envelopes]
        make_pipeline(MemoryLog(mine)).run_once(1)

    return send


@pytest.fixture
def tamper(store: Store, project: int) -> Callable[..., None]:
    """Make the stored rows what an older mapping would have made of them."""

    def tamper(table: str, *, remove: bool = False, **columns: Any) -> None:
        old = [row | {"project_id": project} for row in rows.final(store, table, project)]
        if remove:
            store.command(
                f"ALTER TABLE {table} DELETE WHERE project_id = {project} SETTINGS mutations_sync=1"
            )
        made = [row | {"mapping_version": 3} | columns for row in old]
        store.insert(table, [{k: _text(v) for k, v in row.items()} for row in made])

    return tamper


def _text(value: Any) -> Any:
    return format(value, "f") if isinstance(value, Decimal) else value


@pytest.fixture
def remap(project, rewrites, worker) -> Callable[..., Rewrite]:
    def remap(*, dry_run: bool = False, page_rows: int = 1000) -> Rewrite:
        asked = rewrites.add(project, Kind.REMAP, since=START, until=END, dry_run=dry_run)
        worker(page_rows).run_once()
        return rewrites.get(project, asked.id)

    return remap


def stored(store: Store, project: int) -> dict[str, list[dict[str, Any]]]:
    """Everything, but for how often a call was written."""
    found = rows.everything(store, project)
    found["calls"] = [row | {"revision": 0} for row in found["calls"]]
    return found


def told(rewrite: Rewrite) -> dict[Any, int]:
    return {label: amounts["rows"] for label, amounts in rewrite.findings.items()}


def test_what_every_door_stored_today_is_mapped_to_itself(store, project, send, remap):
    send(*of_every_door())
    before = rows.everything(store, project)
    assert len(before["events"]) == 5
    assert len(before["calls"]) == 4
    done = remap(page_rows=2)
    assert (done.state, done.total, done.seen) == (State.DONE, 5, 5)
    assert (done.changed, done.skipped, told(done)) == (0, 0, {})
    assert rows.everything(store, project) == before


def test_what_an_older_mapping_made_is_what_it_would_be_today(store, project, send, tamper, remap):
    send(*of_every_door())
    fresh = stored(store, project)
    tamper("events", model="wrong", span_name=None, mapping_version=1, converter="litellm/0")
    tamper("events", model="wrong", span_name=None, mapping_version=1)
    # What made a row from a source is on the row.
    store.command(
        "ALTER TABLE events UPDATE converter = multiIf(door = 'litellm', 'litellm/0', "
        f"door = 'otlp', 'spans/0', '') WHERE project_id = {project} SETTINGS mutations_sync = 1"
    )
    tamper("calls", revision=2, vector_input=7, cost_total=Decimal(9), mapping_version=2)
    old = stored(store, project)
    dry = remap(dry_run=True)
    assert stored(store, project) == old
    assert (dry.changed, told(dry)["events", "model"]) == (5, 5)
    assert told(dry)["calls", "vector_input"] == told(dry)["calls", "cost_total"] == 4
    done = remap(page_rows=2)
    assert (done.changed, told(done)) == (5, told(dry))
    assert stored(store, project) == fresh
    store.command("OPTIMIZE TABLE events FINAL")
    assert stored(store, project) == fresh
    assert remap().changed == 0


def test_a_redelivery_does_not_undo_it(store, project, send, tamper, remap):
    records = of_every_door()
    send(*records)
    fresh = stored(store, project)
    tamper("events", model="wrong")
    remap()
    send(*records)
    assert stored(store, project) == fresh


def test_rows_whose_keys_change_leave_nothing_behind(store, project, send, tamper, remap):
    send(test_map_otlp.record(CHAT, **SPAN_TIME))
    fresh = stored(store, project)
    [event] = fresh["events"]
    tamper("events", remove=True, timestamp=event["timestamp"] + timedelta(hours=1))
    [identity] = fresh["event_ids"]
    later = identity["timestamp"] + timedelta(hours=1)
    moved = identity | {"timestamp": later, "project_id": project}
    store.insert("event_ids", [moved])
    tamper("calls", remove=True, call_id="another")
    done = remap()
    assert stored(store, project) == fresh
    assert (done.changed, told(done)) == (
        1,
        {("events", "timestamp"): 1, ("calls", "call_id"): 1},
    )


def test_a_call_that_is_none_goes_and_one_that_is_missing_comes(
    store, project, send, tamper, remap
):
    send(*of_every_door())
    fresh = stored(store, project)
    [span] = [row for row in fresh["events"] if row["event"] == "$ai_trace"]
    [called] = [row for row in fresh["calls"] if row["source_rank"] == 20]
    store.command(
        "ALTER TABLE calls DELETE WHERE project_id = {project:Int64} AND call_id = {id:String} "
        "SETTINGS mutations_sync = 1",
        {"project": project, "id": called["call_id"]},
    )
    none = fresh["calls"][0] | {"event_uuid": span["uuid"], "project_id": project}
    store.insert("calls", [{k: _text(v) for k, v in none.items()}])
    assert stored(store, project) != fresh
    assert remap().changed == 2
    assert stored(store, project) == fresh


def test_a_price_is_kept_while_what_it_follows_from_is_the_same(
    store, project, send, tamper, remap, prices
):
    send(envelope(1, UUID, properties=TOKENS))
    [before] = rows.final(store, "calls", project)
    own = Override(
        "mine", "openai", "gpt-4o", START, per_million_tokens=dict.fromkeys(BUCKETS, Decimal(1))
    )
    prices.now = Overrides([own])
    tamper("calls", revision=2, trace_id="wrong")
    remap()
    [kept] = rows.final(store, "calls", project)
    assert kept | {"revision": 1} == before
    tamper("calls", revision=4, vector_input=7)
    remap()
    [priced] = rows.final(store, "calls", project)
    assert (priced["vector_input"], priced["cost_total"]) == (1000, Decimal("0.00105"))


@pytest.mark.parametrize("failing", ["events", "calls", "event_ids", "delete"])
def test_a_page_that_was_half_written_is_written_again(
    store, project, send, tamper, remap, worker, rewrites, monkeypatch, failing
):
    send(test_map_otlp.record(CHAT, **SPAN_TIME))
    fresh = stored(store, project)
    [event] = fresh["events"]
    tamper("events", remove=True, timestamp=event["timestamp"] + timedelta(hours=1), model="x")
    tamper("calls", remove=True, call_id="another", vector_input=7, cost_total=None)
    insert, command = Store.insert, Store.command

    def broken(self: Store, table: str, *arguments: Any, **more: Any) -> None:
        if table == failing or (failing == "delete" and table.startswith("ALTER")):
            raise StoreUnavailable("away")
        original = command if table.startswith("ALTER") else insert
        original(self, table, *arguments, **more)

    monkeypatch.setattr(Store, "insert", broken)
    monkeypatch.setattr(Store, "command", broken)
    waiting = remap()
    assert (waiting.state, waiting.seen, waiting.changed) == (State.RUNNING, 1, 1)
    monkeypatch.undo()
    worker().run_once()
    done = rewrites.get(project, waiting.id)
    assert (done.state, done.changed) == (State.DONE, 1)
    assert stored(store, project) == fresh


def test_a_row_that_nothing_here_can_read_is_left_and_counted(store, project, send, tamper, remap):
    send(*of_every_door())
    store.command(
        f"ALTER TABLE events UPDATE source = '[' WHERE project_id = {project} AND source != '' "
        "SETTINGS mutations_sync = 1"
    )
    before = stored(store, project)
    done = remap()
    assert (done.state, done.skipped, done.changed) == (State.DONE, 3, 0)
    assert told(done) == {("events", "(cannot be mapped)"): 3}
    assert stored(store, project) == before
