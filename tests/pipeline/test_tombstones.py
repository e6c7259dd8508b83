"""Records of a tombstoned project are dropped: neither stored nor dead-lettered, ever."""

import threading

import pytest

from nilometer.database.engine import DatabaseUnavailable
from nilometer.errors import Unavailable
from nilometer.observability import metrics
from nilometer.pipeline.turns import Turns
from tests.pipeline import rows
from tests.pipeline.records import MemoryLog, envelope
from tests.projects import new_project_id
from tests.running import wait_until


def uuid(number):
    return f"00000000-0000-4000-8000-{number:012}"


def dropped():
    return metrics.PIPELINE_EVENTS.labels("dropped")._value.get()


def test_only_the_records_of_tombstoned_projects_are_dropped(store, make_pipeline, dead_letters):
    kept, gone = new_project_id(), new_project_id()
    log = MemoryLog([envelope(each, uuid(n)) for n in range(5) for each in (kept, gone)])
    bad = envelope(gone, uuid(9))
    log.add(bad.headers(), b"broken")
    before = dropped()
    asked = []
    pipeline = make_pipeline(log, tombstoned=lambda ids: asked.append(set(ids)) or {gone})
    assert pipeline.run_once(0.1) == 11
    assert asked == [{kept, gone}]
    assert len(rows.final(store, "events", kept)) == 5
    for table in ("events", "calls", "event_ids"):
        assert rows.final(store, table, gone) == []
    assert dead_letters.list(gone).items == []
    assert dropped() - before == 6
    assert log.committed == 11


def test_every_batch_asks_anew(store, project_id, make_pipeline):
    log = MemoryLog([envelope(project_id, uuid(n)) for n in range(4)], cuts=[2, 2])
    tombstones = set()
    pipeline = make_pipeline(log, tombstoned=lambda ids: tombstones)
    pipeline.run_once(0.1)
    tombstones.add(project_id)
    pipeline.run_once(0.1)
    assert len(rows.final(store, "events", project_id)) == 2


def test_while_nobody_knows_the_tombstones_nothing_is_stored(store, project_id, make_pipeline):
    log = MemoryLog([envelope(project_id, uuid(1))])
    away = True

    def tombstoned(ids):
        if away:
            raise DatabaseUnavailable("away")
        return ()

    pipeline = make_pipeline(log, tombstoned=tombstoned)
    with pytest.raises(DatabaseUnavailable):
        pipeline.run_once(0.1)
    assert (rows.final(store, "events", project_id), log.committed) == ([], 0)
    away = False
    pipeline.run_once(0.1)
    assert len(rows.final(store, "events", project_id)) == 1


def test_settling_waits_for_the_batch_that_has_read_the_tombstones(
    store, project_id, make_pipeline
):
    asked, go_on = threading.Event(), threading.Event()

    def tombstoned(ids):
        asked.set()
        assert go_on.wait(90)
        return ()

    log = MemoryLog([envelope(project_id, uuid(1))])
    pipeline = make_pipeline(log, tombstoned=tombstoned)
    pipeline.settle(0)  # nothing is under way
    pipeline.start()
    assert asked.wait(90)
    with pytest.raises(Unavailable):
        pipeline.settle(0)
    settled = threading.Thread(target=pipeline.settle, args=(30,))
    settled.start()
    assert settled.is_alive()
    go_on.set()
    settled.join(90)
    assert len(rows.final(store, "events", project_id)) == 1, "the batch had ended before"


def test_who_waits_is_not_kept_by_the_turns_that_follow():
    turns, stop = Turns(), threading.Event()

    def turn():
        while not stop.is_set():
            with turns.turn():
                pass

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        for _ in range(200):
            turns.wait(30)
    finally:
        stop.set()
        thread.join(90)
    wait_until(lambda: not thread.is_alive())
