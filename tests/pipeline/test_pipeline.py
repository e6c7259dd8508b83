"""The pipeline's thread: what it waits for, what it gives up on, and when it stops by itself."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nilometer import failpoints
from nilometer.clickhouse.store import Store
from nilometer.database.engine import Database
from nilometer.log.port import LogUnavailable, Record
from nilometer.log.sqlite import LogCorrupt, SqliteLog
from nilometer.log.sqlite.consumer import SqliteConsumer
from nilometer.observability import metrics
from nilometer.pipeline import batch
from nilometer.pipeline.dead_letters import DeadLetters
from nilometer.pipeline.pipeline import Paused, Pipeline, PipelineState
from tests.pipeline import rows
from tests.pipeline.records import MemoryConsumer, MemoryLog, envelope
from tests.running import wait_until

MakePipeline = Callable[..., Pipeline]


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def waiting(reason: str) -> float:
    return metrics.PIPELINE_WAITING.labels(reason)._value.get()


def outcomes(outcome: str) -> float:
    return metrics.PIPELINE_EVENTS.labels(outcome)._value.get()


def queryable() -> float:
    """How many events' way to the store was timed."""
    samples = metrics.QUERYABLE_SECONDS.collect()[0].samples
    return next(sample.value for sample in samples if sample.name.endswith("_count"))


@pytest.fixture
def sqlite_log(tmp_path: Path):
    log = SqliteLog(
        tmp_path / "log",
        segment_bytes=1 << 24,
        max_bytes=1 << 30,
        keep_seconds=3600,
        disk_reserve=0,
        rewind_seconds=3600,
    )
    yield log
    log.close()


def test_accepted_events_become_queryable(
    store: Store, project_id: int, make_pipeline: MakePipeline, sqlite_log: SqliteLog
):
    pipeline = make_pipeline(sqlite_log, linger=0.05)
    assert pipeline.state().reason == "not_started"
    before = outcomes("stored")
    pipeline.start()
    for number in range(30):
        sqlite_log.append_blocking(envelope(project_id, uuid(number)))
    wait_until(lambda: len(rows.final(store, "event_ids", project_id)) == 30)
    assert pipeline.state().running
    wait_until(lambda: sqlite_log.state().groups["store"].records == 0)
    pipeline.stop(10)
    assert rows.uuids(store, project_id) == [uuid(number) for number in range(30)]
    assert pipeline.state().reason == "stopped"
    assert outcomes("stored") == before + 30


def test_a_stopped_pipeline_can_be_started_again(
    store: Store, project_id: int, make_pipeline: MakePipeline, sqlite_log: SqliteLog
):
    pipeline = make_pipeline(sqlite_log)
    pipeline.start()
    pipeline.stop(10)
    sqlite_log.append_blocking(envelope(project_id, uuid(1)))
    pipeline.start()
    wait_until(lambda: sqlite_log.state().groups["store"].records == 0)
    pipeline.stop(10)
    assert rows.uuids(store, project_id) == [uuid(1)]


def test_a_store_that_is_down_is_waited_for_and_no_record_is_blamed(
    store: Store, project_id: int, make_pipeline: MakePipeline, dead_letters: DeadLetters
):
    failpoints.configure("store=error")
    log = MemoryLog([envelope(project_id, uuid(number)) for number in range(5)])
    pipeline = make_pipeline(log)
    pipeline.start()
    wait_until(lambda: pipeline.state().reason == "store")
    assert not pipeline.state().running
    assert waiting("store") == 1
    failpoints.configure("")
    wait_until(lambda: pipeline.state().running)
    assert waiting("store") == 0
    assert rows.uuids(store, project_id) == [uuid(number) for number in range(5)]
    assert dead_letters.list(project_id).items == []


def test_records_in_hand_are_kept_when_the_look_for_more_fails(
    store: Store,
    project_id: int,
    make_pipeline: MakePipeline,
    sqlite_log: SqliteLog,
    monkeypatch: pytest.MonkeyPatch,
):
    """The log has passed them: a commit of what comes next would cover them too."""
    polls: list[float] = []
    whole = SqliteConsumer.poll

    def poll(consumer: SqliteConsumer, **bounds: Any) -> list[Record]:
        polls.append(bounds["timeout"])
        if len(polls) == 2:
            raise LogUnavailable("the disk is away")
        return whole(consumer, **bounds)

    monkeypatch.setattr(SqliteConsumer, "poll", poll)
    pipeline = make_pipeline(sqlite_log, linger=0.001)
    sqlite_log.append_blocking(envelope(project_id, uuid(1)))
    with pytest.raises(LogUnavailable):
        pipeline.run_once(1)
    sqlite_log.append_blocking(envelope(project_id, uuid(2)))
    while sqlite_log.state().groups["store"].records:
        pipeline.run_once(1)
    assert rows.uuids(store, project_id) == [uuid(1), uuid(2)]


def test_a_waiting_pipeline_stops_promptly_and_leaves_its_records_to_the_next(
    store: Store, project_id: int, make_pipeline: MakePipeline
):
    failpoints.configure("store=error")
    log = MemoryLog([envelope(project_id, uuid(1))])
    pipeline = make_pipeline(log)
    pipeline.start()
    wait_until(lambda: pipeline.state().reason == "store")
    pipeline.stop(10)
    assert pipeline.state().reason == "stopped"
    assert (log.committed, log.open_consumers) == (0, 0)
    assert waiting("store") == 0
    failpoints.configure("")
    make_pipeline(log).run_once(1)
    assert rows.uuids(store, project_id) == [uuid(1)]


def test_a_database_that_is_down_is_waited_for(
    store: Store, project_id: int, make_pipeline: MakePipeline, tmp_path: Path
):
    """A dead letter must be durable before its record is passed."""
    away = Database(f"sqlite:///{tmp_path / 'missing' / 'nilometer.db'}")
    log = MemoryLog([envelope(project_id, uuid(1)), envelope(project_id, uuid(2))])
    log.add(b"not headers", b"")
    pipeline = make_pipeline(log, dead_letters=DeadLetters(away))
    pipeline.start()
    wait_until(lambda: pipeline.state().reason == "database")
    assert log.committed == 0
    assert waiting("database") == 1
    pipeline.stop(10)
    away.close()


def test_an_unexpected_error_is_seen_and_tried_again(
    store: Store, project_id: int, make_pipeline: MakePipeline
):
    failpoints.configure("before_commit=error")
    log = MemoryLog([envelope(project_id, uuid(1))])
    pipeline = make_pipeline(log)
    pipeline.start()
    wait_until(lambda: pipeline.state().reason == "error")
    assert "Fault" in pipeline.state().detail
    failpoints.configure("")
    wait_until(lambda: pipeline.state().running and log.committed == 1)
    assert rows.uuids(store, project_id) == [uuid(1)]


def test_a_log_that_cannot_be_read_is_said_to_be_the_cause(
    store: Store,
    project_id: int,
    make_pipeline: MakePipeline,
    monkeypatch: pytest.MonkeyPatch,
):
    log = MemoryLog([envelope(project_id, uuid(1))])
    with monkeypatch.context() as damaged:

        def poll(consumer: MemoryConsumer, **bounds: Any) -> list[Record]:
            raise LogCorrupt("the log segment 7 is damaged")

        damaged.setattr(MemoryConsumer, "poll", poll)
        pipeline = make_pipeline(log)
        pipeline.start()
        wait_until(lambda: pipeline.state().reason == "log")
        assert pipeline.state().detail == "the log segment 7 is damaged"
        assert waiting("log") == 1
    wait_until(lambda: pipeline.state().running and log.committed == 1)
    assert rows.uuids(store, project_id) == [uuid(1)]


@pytest.mark.parametrize("point", ["after_insert", "before_commit"])
def test_a_batch_that_is_tried_again_is_counted_once(
    project_id: int, make_pipeline: MakePipeline, point: str
):
    log = MemoryLog([envelope(project_id, uuid(number % 10)) for number in range(12)])
    pipeline = make_pipeline(log)
    before = outcomes("stored"), outcomes("duplicate"), queryable()
    failpoints.configure(f"{point}=error")
    for _ in range(2):
        with pytest.raises(failpoints.Fault):
            pipeline.run_once(1)
    failpoints.configure("")
    assert pipeline.run_once(1) == 12
    stored, duplicates, seen = before
    assert (outcomes("stored"), outcomes("duplicate")) == (stored + 10, duplicates + 2)
    assert queryable() == seen + 10


def test_records_that_cannot_be_read_or_mapped_are_dead_lettered_and_passed(
    store: Store, project_id: int, make_pipeline: MakePipeline, dead_letters: DeadLetters
):
    good = envelope(project_id, uuid(0))
    log = MemoryLog([good])
    mine = f'"project_id":{project_id}'.encode()
    unreadable = b"\xff not headers, a secret"
    log.add(unreadable, b"payload")
    broken = {
        uuid(1): (good.headers(), b"no payload of this door, a secret"),
        uuid(2): (good.headers().replace(b'"door":"ai"', b'"door":"xx"'), good.payload),
        uuid(3): (good.headers(), good.payload.replace(b'"event"', b'"evnet"')),
        uuid(4): (good.headers(), good.payload.replace(b'"$ai_model"', b"a secret!!!")),
        uuid(5): (good.headers().replace(b"1751367600123456", b"9" * 17), good.payload),
    }
    for name, (headers, payload) in broken.items():
        log.add(headers.replace(good.uuid.encode(), name.encode()), payload)
    log.add(envelope(project_id, uuid(9)).headers(), good.payload)

    assert make_pipeline(log).run_once(1) == 8
    assert log.committed == 8
    assert rows.uuids(store, project_id) == [uuid(0), uuid(9)]
    letters = {letter.uuid: letter for letter in dead_letters.list(project_id).items}
    assert {name: letter.reason for name, letter in letters.items()} == {
        uuid(1): "record_broken",
        uuid(2): "unknown_door",
        uuid(3): "mapping_failed",
        uuid(4): "mapping_failed",
        uuid(5): "record_broken",
    }
    assert mine in dead_letters.get(project_id, letters[uuid(1)].id).headers
    kept = dead_letters.get(project_id, letters[uuid(1)].id)
    assert (kept.payload, kept.offset, kept.consumer) == (broken[uuid(1)][1], 2, "store")
    assert not any("secret" in letter.detail for letter in letters.values())
    nobodys = dead_letters.list(0).items
    assert "envelope_broken" in {letter.reason for letter in nobodys}


def test_bisecting_finds_exactly_the_records_that_the_store_rejects(
    store: Store,
    project_id: int,
    make_pipeline: MakePipeline,
    dead_letters: DeadLetters,
    monkeypatch: pytest.MonkeyPatch,
):
    """The rows are broken after mapping, where only the store can tell."""
    poisoned = {uuid(3), uuid(4), uuid(17)}
    whole = batch.map_record

    def poison(one, overrides_of):
        for mapped in whole(one, overrides_of):
            if mapped.uuid in poisoned:
                broken = mapped.event.replace(b'"is_error":false', b'"is_error":"?"')
                yield replace(mapped, event=broken)
            else:
                yield mapped

    monkeypatch.setattr(batch, "map_record", poison)
    log = MemoryLog([envelope(project_id, uuid(number)) for number in range(20)])
    assert make_pipeline(log).run_once(1) == 20
    assert rows.uuids(store, project_id) == sorted(
        {uuid(number) for number in range(20)} - poisoned
    )
    letters = dead_letters.list(project_id).items
    assert {letter.uuid for letter in letters} == poisoned
    assert {letter.reason for letter in letters} == {"store_rejected"}


def test_a_look_up_that_the_store_refuses_blames_no_record(
    store: Store, project_id: int, make_pipeline: MakePipeline, dead_letters: DeadLetters
):
    pipeline = make_pipeline(MemoryLog([envelope(project_id, uuid(1))]))
    store.command("RENAME TABLE event_ids TO event_ids_away")
    try:
        pipeline.start()
        wait_until(lambda: pipeline.state().reason == "store")
    finally:
        store.command("RENAME TABLE event_ids_away TO event_ids")
    wait_until(lambda: pipeline.state().running)
    assert dead_letters.list(project_id).items == []
    assert rows.uuids(store, project_id) == [uuid(1)]


def test_a_bad_release_stops_the_pipeline_before_it_dead_letters_the_river(
    store: Store, project_id: int, make_pipeline: MakePipeline, dead_letters: DeadLetters
):
    log = MemoryLog([envelope(project_id, uuid(number)) for number in range(30)])
    pipeline = make_pipeline(log, dead_letter_share=0.5, dead_letter_window=10)
    failpoints.configure("map=error")
    pipeline.start()
    wait_until(lambda: pipeline.state().reason == "bad_release")
    assert waiting("bad_release") == 1
    assert "resume" in pipeline.state().detail
    assert len(dead_letters.list(project_id).items) == 5
    assert log.committed == 5

    pipeline.resume()  # still bad: five more, no further
    wait_until(lambda: log.committed == 10)
    wait_until(lambda: pipeline.state().reason == "bad_release")
    assert len(dead_letters.list(project_id).items) == 10

    failpoints.configure("")
    pipeline.resume()
    wait_until(lambda: log.committed == 30)
    wait_until(lambda: pipeline.state().running)
    assert waiting("bad_release") == 0
    assert rows.uuids(store, project_id) == [uuid(number) for number in range(10, 30)]
    assert len(dead_letters.list(project_id).items) == 10


def test_a_resumed_pipeline_runs_when_resume_returns(
    store: Store, project_id: int, make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch
):
    """The batch that follows is held until the state was read."""
    log = MemoryLog([envelope(project_id, uuid(number)) for number in range(3)])
    pipeline = make_pipeline(log, dead_letter_share=0.1, dead_letter_window=10)
    failpoints.configure("map=error")
    pipeline.start()
    wait_until(lambda: pipeline.state().reason == "bad_release")
    failpoints.configure("")
    looked = threading.Event()
    whole = batch.map_record
    monkeypatch.setattr(batch, "map_record", lambda *one: looked.wait(10) and whole(*one))
    pipeline.resume()
    assert pipeline.state() == PipelineState(running=True, reason="", detail="")
    assert waiting("bad_release") == 0
    looked.set()
    wait_until(lambda: log.committed == 3)


def test_resuming_what_was_never_started_does_not_make_it_run(make_pipeline: MakePipeline):
    pipeline = make_pipeline(MemoryLog())
    pipeline.resume()
    assert pipeline.state().reason == "not_started"


def test_a_store_that_keeps_a_batch_too_long_is_reported(
    store: Store, project_id: int, make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch
):
    """An insert has no time limit: a disk that hangs would otherwise look like a pipeline that
    runs."""
    hangs = threading.Event()
    whole = Store.insert_lines

    def insert(*arguments: Any) -> None:
        hangs.wait(10)
        whole(*arguments)

    monkeypatch.setattr(Store, "insert_lines", insert)
    pipeline = make_pipeline(MemoryLog([envelope(project_id, uuid(1))]), patience=0.05)
    pipeline.start()
    wait_until(lambda: pipeline.state().reason == "store")
    assert not pipeline.state().running
    assert "has not finished a batch" in pipeline.state().detail
    hangs.set()
    wait_until(lambda: pipeline.state().running)
    assert rows.uuids(store, project_id) == [uuid(1)]


def test_a_retry_of_dead_letters_does_not_count_twice_against_the_share(
    project_id: int, make_pipeline: MakePipeline
):
    log = MemoryLog([envelope(project_id, uuid(1))])
    pipeline = make_pipeline(log, dead_letter_share=0.2, dead_letter_window=10)
    failpoints.configure("map=error,before_commit=error")
    for _ in range(5):
        with pytest.raises(failpoints.Fault):
            pipeline.run_once(1)
    failpoints.configure("map=error")
    assert pipeline.run_once(1) == 1


@pytest.mark.parametrize(
    ("old", "new"), [(b'"v":1', b'"v":2'), (b'"door_version":1', b'"door_version":2')]
)
def test_a_record_of_a_newer_release_pauses_everything_after_it(
    store: Store,
    project_id: int,
    make_pipeline: MakePipeline,
    dead_letters: DeadLetters,
    old: bytes,
    new: bytes,
):
    log = MemoryLog([envelope(project_id, uuid(0))])
    newer = envelope(project_id, uuid(1))
    log.add(newer.headers().replace(old, new), newer.payload)
    log.add(envelope(project_id, uuid(2)).headers(), newer.payload)
    pipeline = make_pipeline(log)
    pipeline.start()
    wait_until(lambda: pipeline.state().reason == "newer_version")
    assert "Upgrade" in pipeline.state().detail
    assert log.committed == 1
    assert rows.uuids(store, project_id) == [uuid(0)]
    assert dead_letters.list(project_id).items == []


def test_a_pause_is_raised_to_whoever_runs_a_batch_by_hand(
    project_id: int, make_pipeline: MakePipeline
):
    log = MemoryLog()
    newer = envelope(project_id, uuid(1))
    log.add(newer.headers().replace(b'"v":1', b'"v":2'), newer.payload)
    with pytest.raises(Paused) as caught:
        make_pipeline(log).run_once(1)
    assert caught.value.code == "newer_version"


def test_two_pipelines_on_one_log_store_each_event_once(
    store: Store, project_id: int, make_pipeline: MakePipeline
):
    """What a rebalance of a consumer group does for a moment."""
    envelopes = [envelope(project_id, uuid(number)) for number in range(40)]
    logs = [MemoryLog(envelopes, [7] * 10), MemoryLog(envelopes, [5] * 10)]
    pipelines = [make_pipeline(log) for log in logs]
    together = threading.Barrier(2)

    def carry(log: MemoryLog, pipeline: Pipeline) -> None:
        together.wait(10)
        while log.committed < 40:
            pipeline.run_once(1)

    threads = [
        threading.Thread(target=carry, args=pair) for pair in zip(logs, pipelines, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows.uuids(store, project_id) == [uuid(number) for number in range(40)]
    assert len(rows.final(store, "calls", project_id)) == 40


def test_the_share_is_taken_over_batches(
    project_id: int, make_pipeline: MakePipeline, dead_letters: DeadLetters
):
    log = MemoryLog([envelope(project_id, uuid(number)) for number in range(9)], [1] * 9)
    pipeline = make_pipeline(log, dead_letter_share=0.3, dead_letter_window=10)
    failpoints.configure("map=error")
    assert [pipeline.run_once(1) for _ in range(3)] == [1, 1, 1]
    with pytest.raises(Paused):
        pipeline.run_once(1)
    assert len(dead_letters.list(project_id).items) == 3
