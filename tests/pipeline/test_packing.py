"""Large values leave the rows for one object a batch, and come back to the byte."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
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
from nilometer.domain import clock, packed
from nilometer.pipeline import batch, packing
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.pipeline.packing import Packer
from nilometer.pipeline.pipeline import Pipeline
from nilometer.pipeline.rewriting.unpacking import unpack
from tests.pipeline import rows, test_map_litellm, test_map_otlp
from tests.pipeline.records import RETENTION_DAYS, MemoryLog, batch_envelope, envelope, mapped
from tests.projects import new_project_id

MakePipeline = Callable[..., Pipeline]
NOW = clock.to_micros(clock.now())
RECORD = "01980000-0000-7000-8000-000000000000"
LARGE = "How high is the river? " * 100


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def files(directory: Path) -> list[Path]:
    return sorted((directory / "blobs").rglob("*.pack"))


def batch_of(project: int, count: int, value: Any = LARGE, **record: Any):
    event = {"event": "$ai_generation", "distinct_id": "d", "properties": {"$ai_input": value}}
    items = [(uuid(number), event) for number in range(count)]
    return batch_envelope(project, RECORD, items, accepted_at=NOW, **record)


def whole(store: Store, project: int, blobs: BlobStore) -> list[dict[str, Any]]:
    return rows.put_back(store, project, blobs)["events"]


def one_row(text: str) -> dict[str, Any]:
    made = mapped(envelope(7, uuid(0), accepted_at=NOW, properties={}))
    return orjson.loads(made.event) | {"properties": text}


def test_a_large_value_is_kept_beside_the_row_and_everything_read_from_it_stays(
    store: Store,
    project_id: int,
    make_pipeline: MakePipeline,
    packer: Packer,
    blobs: BlobStore,
    tmp_path: Path,
):
    text = '{"$ai_model":"gpt-4o", "$ai_input": ["%s",1.10] ,"$ai_total_cost_usd":0.10,"n":null}'
    text %= LARGE
    one = envelope(project_id, uuid(1), accepted_at=NOW, properties=text)
    make_pipeline(MemoryLog([one]), pack=packer.lines).run_once(1)
    [row] = rows.final(store, "events", project_id)
    [value] = packed.from_json(row["packed"])
    value_text = f'["{LARGE}",1.10]'
    assert row["properties"] == text.replace(value_text, json.dumps(value.url))
    assert (value.property, value.size) == ("$ai_input", len(value_text))
    assert (row["model"], str(row["total_cost_usd"])) == ("gpt-4o", "0.100000000000000000")
    assert len(rows.final(store, "calls", project_id)) == 1
    assert len(files(tmp_path)) == 1
    [back] = whole(store, project_id, blobs)
    assert back["properties"] == text


def test_what_a_converter_made_the_row_from_is_packed_too(
    store: Store, make_pipeline: MakePipeline, packer: Packer, blobs: BlobStore
):
    span = test_map_otlp.record({**test_map_otlp.CHAT, "gen_ai.prompt": LARGE})
    payload = test_map_litellm.payload() | {"messages": [{"role": "user", "content": LARGE}]}
    log = test_map_litellm.record_of(payload)
    for sent in (span, log):
        project = new_project_id()
        one = replace(sent, project_id=project, accepted_at=NOW)
        make_pipeline(MemoryLog([one]), pack=packer.lines).run_once(1)
        [row] = rows.final(store, "events", project)
        expected = orjson.loads(mapped(one).event)
        assert LARGE not in row["source"] + row["properties"]
        assert orjson.loads(row["source"]).startswith("file://nilometer/llma")
        [back] = whole(store, project, blobs)
        assert (back["source"], back["properties"]) == (
            expected["source"],
            expected["properties"],
        )


@pytest.mark.parametrize(
    ("value", "kept_beside"),
    [("x" * 998, False), ("x" * 999, True), ("é" * 499, False), ("é" * 499 + "x", True)],
)
def test_the_threshold_is_in_bytes(
    store: Store,
    project_id: int,
    make_pipeline: MakePipeline,
    packer: Packer,
    value: str,
    kept_beside: bool,
):
    text = json.dumps({"$ai_input": value}, ensure_ascii=False)
    one = envelope(project_id, uuid(1), accepted_at=NOW, properties=text)
    make_pipeline(MemoryLog([one]), pack=packer.lines).run_once(1)
    [row] = rows.final(store, "events", project_id)
    assert (row["packed"] != "[]") is kept_beside


def test_zero_packs_nothing(
    store: Store, project_id: int, make_pipeline: MakePipeline, blobs: BlobStore, tmp_path: Path
):
    packer = Packer(blobs, above=0)
    make_pipeline(MemoryLog([batch_of(project_id, 2)]), pack=packer.lines).run_once(1)
    assert {row["packed"] for row in rows.final(store, "events", project_id)} == {"[]"}
    assert files(tmp_path) == []


def test_a_thousand_large_events_of_a_batch_are_one_object_for_each_project(
    store: Store,
    project_id: int,
    make_pipeline: MakePipeline,
    packer: Packer,
    blobs: BlobStore,
    tmp_path: Path,
):
    other = new_project_id()
    log = MemoryLog([batch_of(project_id, 1000), batch_of(other, 3)])
    make_pipeline(log, pack=packer.lines).run_once(1)
    assert {path.parts[-3] for path in files(tmp_path)} == {str(project_id), str(other)}
    assert len(files(tmp_path)) == 2
    back = whole(store, project_id, blobs)
    assert len(back) == 1000
    assert {row["properties"] for row in back} == {
        json.dumps({"$ai_input": LARGE}).replace(" ", "", 1)
    }
    for project in (project_id, other):
        urls = [
            value.url
            for row in rows.final(store, "events", project)
            for value in packed.from_json(row["packed"])
        ]
        assert all(f"/{project}/" in url for url in urls)
        assert len(set(urls)) == len(urls)


def test_days_and_retentions_are_objects_of_their_own(
    store: Store, project_id: int, make_pipeline: MakePipeline, packer: Packer, tmp_path: Path
):
    day = 24 * 3600 * 1_000_000
    records = [
        envelope(project_id, uuid(1), accepted_at=NOW, properties={"a": LARGE}),
        envelope(project_id, uuid(2), accepted_at=NOW - day, properties={"a": LARGE}),
        replace(batch_of(project_id, 4, retention_days=90), accepted_at=NOW - day),
    ]
    make_pipeline(MemoryLog(records), pack=packer.lines).run_once(1)
    today = clock.from_micros(NOW).date()  # that of the records: midnight may have passed
    folders = {f"{path.parts[-4]}/{path.parts[-2]}" for path in files(tmp_path)}
    yesterday = clock.from_micros(NOW - day).date()
    assert folders == {f"llma/{today}", f"llma/{yesterday}", f"llma-90d/{yesterday}"}
    assert RETENTION_DAYS == 30


def test_a_value_of_five_megabytes_and_no_object_larger_than_a_slice(
    store: Store,
    project_id: int,
    make_pipeline: MakePipeline,
    packer: Packer,
    blobs: BlobStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(packing, "SLICE_BYTES", 12 << 20)
    texts = [json.dumps({"$ai_input": f"{number}é" * (1 << 20)}) for number in range(4)]
    records = [
        envelope(project_id, uuid(number), accepted_at=NOW, properties=text)
        for number, text in enumerate(texts)
    ]
    make_pipeline(MemoryLog(records), pack=packer.lines).run_once(1)
    assert [row["properties"] for row in whole(store, project_id, blobs)] == texts
    assert len(files(tmp_path)) == 4


def test_a_repeat_is_not_packed(
    store: Store, project_id: int, make_pipeline: MakePipeline, packer: Packer, tmp_path: Path
):
    make_pipeline(MemoryLog([batch_of(project_id, 3)]), pack=packer.lines).run_once(1)
    before = rows.everything(store, project_id), files(tmp_path)
    make_pipeline(MemoryLog([batch_of(project_id, 2)]), pack=packer.lines).run_once(1)
    assert (rows.everything(store, project_id), files(tmp_path)) == before


def test_a_batch_that_is_tried_again_writes_the_same_object(
    store: Store, project_id: int, make_pipeline: MakePipeline, packer: Packer, tmp_path: Path
):
    pipeline = make_pipeline(MemoryLog([batch_of(project_id, 3)]), pack=packer.lines)
    failpoints.configure("after_pack_put=error")
    for _ in range(3):
        with pytest.raises(failpoints.Fault):
            pipeline.run_once(1)
    [left] = files(tmp_path)
    assert rows.uuids(store, project_id) == []
    failpoints.configure("")
    pipeline.run_once(1)
    assert files(tmp_path) == [left]
    assert rows.uuids(store, project_id) == [uuid(0), uuid(1), uuid(2)]


def test_a_batch_that_the_store_rejects_is_packed_once_however_often_it_is_halved(
    store: Store,
    project_id: int,
    make_pipeline: MakePipeline,
    packer: Packer,
    dead_letters: DeadLetters,
    blobs: BlobStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    real = batch.map_record

    def poison(one: Any, overrides_of: Any):
        for made in real(one, overrides_of):
            bad = made.uuid == uuid(5)  # type: ignore[union-attr]
            event = made.event.replace(b'"is_error":false', b'"is_error":"?"')  # type: ignore[union-attr]
            yield replace(made, event=event) if bad else made  # type: ignore[type-var]

    monkeypatch.setattr(batch, "map_record", poison)
    make_pipeline(MemoryLog([batch_of(project_id, 20)]), pack=packer.lines).run_once(1)
    assert len(files(tmp_path)) == 1
    assert len(whole(store, project_id, blobs)) == 19
    [letter] = dead_letters.list(project_id).items
    kept = dead_letters.get(project_id, letter.id)
    assert (letter.uuid, LARGE.encode() in kept.payload) == (uuid(5), True)


def test_the_partition_waits_for_the_blob_storage_and_spends_no_attempt(
    store: Store,
    project_id: int,
    make_pipeline: MakePipeline,
    packer: Packer,
    dead_letters: DeadLetters,
    blobs: BlobStore,
):
    small, large = envelope(project_id, uuid(7), accepted_at=NOW), batch_of(project_id, 3)
    log = MemoryLog([small, large], [1, 1])
    pipeline = make_pipeline(log, pack=packer.lines)
    failpoints.configure("blobs=error")
    pipeline.run_once(1)  # has nothing to pack
    with pytest.raises(BlobsUnavailable):
        pipeline.run_once(1)
    assert (log.committed, rows.uuids(store, project_id)) == (1, [uuid(7)])
    failpoints.configure("")
    pipeline.run_once(1)
    assert len(whole(store, project_id, blobs)) == 4
    assert dead_letters.list(project_id).items == []


def test_a_running_pipeline_says_that_it_waits_for_blobs(
    project_id: int, make_pipeline: MakePipeline, packer: Packer
):
    from tests.running import wait_until

    log = MemoryLog([batch_of(project_id, 1)])
    pipeline = make_pipeline(log, pack=packer.lines)
    failpoints.configure("blobs=error")
    pipeline.start()
    wait_until(lambda: pipeline.state().reason == "blobs")
    failpoints.configure("")
    wait_until(lambda: pipeline.state().running and log.committed == 1)


def test_a_store_that_is_down_after_the_put_loses_nothing(
    store: Store,
    project_id: int,
    make_pipeline: MakePipeline,
    packer: Packer,
    blobs: BlobStore,
    monkeypatch: pytest.MonkeyPatch,
):
    pipeline = make_pipeline(MemoryLog([batch_of(project_id, 3)]), pack=packer.lines)

    def down(self: Store, *_: Any, **__: Any) -> None:
        raise StoreUnavailable("it is down")

    with monkeypatch.context() as broken:
        broken.setattr(Store, "insert_lines", down)
        with pytest.raises(StoreUnavailable):
            pipeline.run_once(1)
    pipeline.run_once(1)
    assert len(whole(store, project_id, blobs)) == 3


names = st.sampled_from(["$ai_input", 'a"b', "a\\b", "source", "column", "", "é\n", "\u2028"])
values = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, values, max_size=5), st.booleans(), st.none() | st.text(min_size=60))
def test_packed_and_put_back_is_the_same_row(
    blobs: BlobStore, properties: dict[str, Any], spaced: bool, source: str | None
):
    text = json.dumps(properties, indent=2 if spaced else None, ensure_ascii=spaced)
    row = one_row(text) | ({} if source is None else {"source": json.dumps(source)})
    [kept] = Packer(blobs, above=50).rows([row])
    assert all(len(each) < 200 for each in map(json.dumps, json.loads(kept["properties"]).values()))
    [back] = unpack([{"packed": "[]", "source": ""} | kept], blobs)
    assert back == {"source": ""} | row


def test_a_name_that_occurs_twice_stays_where_it_is(blobs: BlobStore):
    text = f'{{"a":"{LARGE}","a":1,"b":"{LARGE}"}}'
    [kept] = Packer(blobs, above=1000).rows([one_row(text)])
    assert kept["properties"].startswith(f'{{"a":"{LARGE}","a":1,"b":"file://')
    [back] = unpack([{"source": ""} | kept], blobs)
    assert back["properties"] == text  # type: ignore[index]


def test_a_value_sent_as_a_url_is_not_read(
    store: Store, project_id: int, make_pipeline: MakePipeline, packer: Packer, blobs: BlobStore
):
    """Only what the row says is packed is put back, whatever a client writes."""
    make_pipeline(MemoryLog([batch_of(project_id, 1)]), pack=packer.lines).run_once(1)
    [row] = rows.final(store, "events", project_id)
    [value] = packed.from_json(row["packed"])
    thief = new_project_id()
    forged = {"$ai_input": value.url, "packed": row["packed"], "$ai_output": LARGE}
    one = envelope(thief, uuid(1), accepted_at=NOW, properties=forged)
    make_pipeline(MemoryLog([one]), pack=packer.lines).run_once(1)
    [stolen] = whole(store, thief, blobs)
    assert orjson.loads(stolen["properties"]) == forged


def test_expired_values_are_told_from_the_row(blobs: BlobStore):
    old = clock.from_micros(NOW) - timedelta(days=40)
    row = one_row(json.dumps({"a": LARGE}))
    row |= {
        "accepted_at": old.isoformat(),
        "expires_at": (old + timedelta(days=RETENTION_DAYS + 1)).isoformat(),
    }
    [kept] = Packer(blobs, above=1000).rows([row])
    [found] = unpack([{"source": ""} | kept], blobs)
    assert not isinstance(found, dict)
