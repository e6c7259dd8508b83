"""Records of many events: stored, dead-lettered, counted and replayed one by one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from nilometer import failpoints
from nilometer.clickhouse.store import Store
from nilometer.log.envelope import Envelope
from nilometer.observability import metrics
from nilometer.pipeline import batch
from nilometer.pipeline.dead_letters import DeadLetters, State
from nilometer.pipeline.pipeline import Paused, Pipeline
from tests.pipeline import rows
from tests.pipeline.records import MemoryLog, batch_envelope, envelope

MakePipeline = Callable[..., Pipeline]
GOOD = {"event": "$ai_generation", "distinct_id": "d", "properties": {"$ai_model": "m"}}
BAD = "[1]"  # no object: no door writes it


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def record(project_id: int, first: int, count: int, bad: set[int] = frozenset()) -> Envelope:  # type: ignore[assignment]
    """A batch of the events from `first` on, those of `bad` broken."""
    events: list[tuple[str, Any]] = [
        (uuid(number), BAD if number in bad else GOOD) for number in range(first, first + count)
    ]
    return batch_envelope(project_id, uuid(10**6 + first), events)


def counted(outcome: str) -> float:
    return metrics.PIPELINE_EVENTS.labels(outcome)._value.get()


def test_every_event_of_every_record_becomes_queryable(
    store: Store, project_id: int, make_pipeline: MakePipeline
):
    log = MemoryLog(
        [record(project_id, 0, 7), envelope(project_id, uuid(7)), record(project_id, 8, 5)]
    )
    before = counted("stored")
    assert make_pipeline(log).run_once(1) == 3
    assert rows.uuids(store, project_id) == [uuid(number) for number in range(13)]
    assert counted("stored") == before + 13


def test_a_bad_event_is_dead_lettered_alone_and_can_be_replayed(
    store: Store, project_id: int, make_pipeline: MakePipeline, dead_letters: DeadLetters
):
    log = MemoryLog([record(project_id, 0, 10, {3, 7})])
    before = counted("stored"), counted("dead_letter")
    assert make_pipeline(log).run_once(1) == 1
    good = [uuid(number) for number in range(10) if number not in (3, 7)]
    assert rows.uuids(store, project_id) == good
    assert (counted("stored"), counted("dead_letter")) == (before[0] + 8, before[1] + 2)

    letters = {letter.uuid: letter for letter in dead_letters.list(project_id).items}
    assert {name: letter.reason for name, letter in letters.items()} == {
        uuid(3): "mapping_failed",
        uuid(7): "mapping_failed",
    }
    kept = dead_letters.get(project_id, letters[uuid(3)].id)
    assert (kept.offset, BAD.encode() in kept.payload) == (0, True)
    assert b"$ai_generation" not in kept.payload, "only the bad event is kept"

    appended: list[Envelope] = []
    again: Any = type("Log", (), {"append_blocking": lambda _, one: appended.append(one)})()
    replayed = dead_letters.replay(project_id, kept.id, actor="someone", log=again)
    assert replayed.state is State.REPLAYED
    mended = replace(
        appended[0],
        payload=batch_envelope(project_id, uuid(3), [(uuid(3), GOOD)]).payload,
    )
    make_pipeline(MemoryLog([mended])).run_once(1)
    assert rows.uuids(store, project_id) == sorted([*good, uuid(3)])


def test_a_record_that_cannot_be_read_is_one_dead_letter_of_all_of_it(
    project_id: int, make_pipeline: MakePipeline, dead_letters: DeadLetters
):
    whole = record(project_id, 0, 5)
    broken = replace(whole, payload=whole.payload[:-1])
    make_pipeline(MemoryLog([broken])).run_once(1)
    [letter] = dead_letters.list(project_id).items
    assert (letter.uuid, letter.reason) == (whole.uuid, "record_broken")
    assert dead_letters.get(project_id, letter.id).payload == broken.payload


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Events whose rows only the store can tell to be broken."""
    names: set[str] = set()
    whole = batch.map_record

    def poison(one: Envelope, overrides_of: Any):
        for mapped in whole(one, overrides_of):
            if mapped.uuid in names:  # type: ignore[union-attr]
                event = mapped.event.replace(b'"is_error":false', b'"is_error":"?"')  # type: ignore[union-attr]
                yield replace(mapped, event=event)  # type: ignore[type-var]
            else:
                yield mapped

    monkeypatch.setattr(batch, "map_record", poison)
    return names


def test_bisecting_finds_the_events_that_the_store_rejects_within_their_records(
    store: Store,
    project_id: int,
    make_pipeline: MakePipeline,
    dead_letters: DeadLetters,
    poisoned: set[str],
):
    poisoned |= {uuid(2), uuid(11), uuid(12), uuid(25)}
    log = MemoryLog([record(project_id, first, 10) for first in (0, 10, 20)])
    assert make_pipeline(log).run_once(1) == 3
    letters = dead_letters.list(project_id).items
    assert {(letter.uuid, letter.reason, letter.offset) for letter in letters} == {
        (uuid(2), "store_rejected", 0),
        (uuid(11), "store_rejected", 1),
        (uuid(12), "store_rejected", 1),
        (uuid(25), "store_rejected", 2),
    }
    assert rows.uuids(store, project_id) == sorted({uuid(n) for n in range(30)} - poisoned)


def test_a_record_with_more_rejects_than_the_window_is_passed(
    store: Store,
    project_id: int,
    make_pipeline: MakePipeline,
    dead_letters: DeadLetters,
    poisoned: set[str],
):
    """Or it would block its partition for good: no window could ever hold it."""
    poisoned |= {uuid(number) for number in range(9)}
    log = MemoryLog([record(project_id, 0, 10), record(project_id, 20, 3)])
    pipeline = make_pipeline(log, dead_letter_share=0.5, dead_letter_window=4)
    pipeline.run_once(1)
    while log.committed < 2:
        pipeline.run_once(1)
    assert len(dead_letters.list(project_id).items) == 9
    assert rows.uuids(store, project_id) == [uuid(9), uuid(20), uuid(21), uuid(22)]


def test_the_share_is_taken_over_events(
    project_id: int, make_pipeline: MakePipeline, dead_letters: DeadLetters
):
    log = MemoryLog(
        [record(project_id, 10 * n, 4, set(range(10 * n, 10 * n + 4))) for n in range(4)]
    )
    pipeline = make_pipeline(log, dead_letter_share=0.5, dead_letter_window=10)
    with pytest.raises(Paused):
        pipeline.run_once(1)
    assert log.committed == 2
    assert len(dead_letters.list(project_id).items) == 8


def test_a_batch_ends_with_the_record_that_fills_it(
    store: Store, project_id: int, make_pipeline: MakePipeline
):
    log = MemoryLog([record(project_id, 10 * n, 4) for n in range(5)])
    pipeline = make_pipeline(log, batch_events=7)
    assert [pipeline.run_once(1) for _ in range(3)] == [2, 2, 1]
    assert len(rows.uuids(store, project_id)) == 20


def test_a_record_without_events_is_passed(project_id: int, make_pipeline: MakePipeline):
    log = MemoryLog([batch_envelope(project_id, uuid(1), []), record(project_id, 5, 1)])
    assert make_pipeline(log).run_once(1) == 2


@pytest.mark.parametrize("point", ["after_insert", "before_commit"])
def test_a_batch_that_is_tried_again_is_counted_once(
    store: Store, project_id: int, make_pipeline: MakePipeline, point: str
):
    log = MemoryLog([record(project_id, 0, 6, {2}), record(project_id, 4, 4)])
    before = {name: counted(name) for name in ("stored", "duplicate", "dead_letter")}
    pipeline = make_pipeline(log)
    failpoints.configure(f"{point}=error")
    for _ in range(2):
        with pytest.raises(failpoints.Fault):
            pipeline.run_once(1)
    failpoints.configure("")
    assert pipeline.run_once(1) == 2
    after = {name: counted(name) - count for name, count in before.items()}
    assert after == {"stored": 7, "duplicate": 2, "dead_letter": 1}
    assert rows.uuids(store, project_id) == [uuid(n) for n in (0, 1, 3, 4, 5, 6, 7)]


def test_a_tombstone_drops_every_event(store: Store, project_id: int, make_pipeline: MakePipeline):
    log = MemoryLog([record(project_id, 0, 6, {2})])
    before = counted("dropped")
    assert make_pipeline(log, tombstoned=lambda ids: ids).run_once(1) == 1
    assert counted("dropped") == before + 6
    assert rows.uuids(store, project_id) == []


def test_a_batch_and_a_single_record_of_one_event_are_one_event(
    store: Store, project_id: int, make_pipeline: MakePipeline
):
    later = replace(record(project_id, 0, 3), accepted_at=envelope(1, uuid(0)).accepted_at + 1)
    make_pipeline(MemoryLog([envelope(project_id, uuid(1)), later])).run_once(1)
    stored = rows.final(store, "events", project_id)
    assert [str(row["uuid"]) for row in stored] == [uuid(0), uuid(1), uuid(2)]
    assert [row["door"] for row in stored] == ["posthog", "ai", "posthog"]
    assert orjson.loads(stored[1]["properties"]) == {"$ai_model": "gpt-4o"}


class Clock:
    """Time that passes by itself a little with every look, and in sleeps, which end `late`."""

    def __init__(self, late: float) -> None:
        self.now, self.late = 0.0, late
        self.sleeps: list[float] = []

    def perf_counter(self) -> float:
        self.now += 0.0001
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds + self.late


@pytest.mark.parametrize(("late", "paused"), [(0.0, False), (0.004, True)])
def test_mapping_pauses_only_for_threads_that_take_the_interpreter_when_it_is_offered(
    project_id: int, monkeypatch: pytest.MonkeyPatch, late: float, paused: bool
):
    clock = Clock(late)
    monkeypatch.setattr(batch, "time", clock)
    log = MemoryLog([record(project_id, 0, 100)])
    carried, _ = batch.map_batch(log.records, max_events=1000, courtesy=0.002)
    assert len(carried[0].outcomes) == 100
    offers = [seconds for seconds in clock.sleeps if seconds < 0.002]
    assert len(offers) >= 5
    assert clock.sleeps.count(0.002) == (len(offers) if paused else 0)
