from __future__ import annotations

import random
import resource
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from itertools import count
from typing import Any

import pytest

from nilometer import ClientConfig, ClientManager
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.errors import Unavailable
from nilometer.sdk.delivery import lane as lanes
from nilometer.sdk.sinks.port import Failed
from tests.running import wait_until
from tests.sdk.conftest import CALL, FaultySink, MakeManager


class Model(str, Enum):  # noqa: UP042  (as callers' code has it)
    SMALL = "acme-small"


def record(manager: ClientManager, number: int, **more: Any) -> None:
    for each in range(number):
        manager.tracker.record(**CALL, metadata={"n": each}, **more)


def test_what_is_recorded_is_stored(make_manager: MakeManager):
    sink = FaultySink()
    manager = make_manager(sink)
    record(manager, 120)
    assert manager.flush(10)
    stats = manager.stats()
    assert (stats.submitted, stats.stored, stats.waiting, stats.spooled) == (120, 120, 0, 0)
    assert sorted(each.metadata["n"] for each in sink.kept.values()) == list(range(120))


def test_every_store_gets_every_metric(make_manager: MakeManager, tmp_path):
    down = FaultySink("down://")
    down.down = ConnectionError()
    manager = make_manager(["memory://", down, f"jsonl://{tmp_path}/u.jsonl"])
    record(manager, 10)
    file = f"jsonl://{tmp_path}/u.jsonl"
    wait_until(lambda: [manager.stats().sinks[up].stored for up in ("memory://", file)] == [10, 10])
    wait_until(lambda: manager.stats().sinks["down://"].spooled == 10)
    assert manager.stats().balanced
    assert not manager.flush(0.05)
    down.down = None
    assert manager.flush(10)
    assert len(down.kept) == 10


def test_a_store_that_is_down_all_along_gets_everything_once_when_it_is_up(
    make_manager: MakeManager,
):
    sink = FaultySink()
    sink.down = ConnectionError()
    manager = make_manager(sink)
    record(manager, 3000)
    assert not manager.flush(0.5)
    wait_until(lambda: manager.stats().spooled == 3000)
    stats = manager.stats()
    assert (stats.submitted, stats.stored, stats.dropped) == (3000, 0, {})
    sink.down = None
    assert manager.flush(30)
    assert (len(sink.kept), sink.repeated) == (3000, 0)


def test_no_call_is_slower_than_a_millisecond_because_the_store_is_down(make_manager: MakeManager):
    """A call that waits gives its processor away, which the system counts: those are looked at, and
    none of a busy machine's interruptions. A few wait for another thread of the process."""
    sink, refusing = FaultySink(), threading.Event()
    sink.down = ConnectionError()
    sink.before = lambda: refusing.wait(0.005)
    manager = make_manager(sink, flush_interval=0.001, retry_base_delay=0.001)
    record(manager, 10)
    wait_until(lambda: manager.stats().spooled)
    own, waited = list[float](), 0
    for _ in range(2000):
        given_away, begun, worked = _given_away(), time.perf_counter(), time.thread_time()
        manager.tracker.record(**CALL)
        own.append(time.thread_time() - worked)
        waited += time.perf_counter() - begun > 0.001 and _given_away() > given_away
    # Not the slowest: a whole test run's garbage is collected in one of them. bench/tracker.py
    # has the real bounds.
    assert sorted(own)[1980] < 0.001
    assert waited < 20
    assert manager.stats().stored == 0


def _given_away() -> int:
    """How often this thread has waited for anything."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def test_a_store_that_is_slow_holds_up_no_caller(make_manager: MakeManager):
    sink = FaultySink()
    slow, release = threading.Event(), threading.Event()
    sink.before = lambda: (slow.set(), release.wait(90))
    manager = make_manager(sink)
    record(manager, 1)
    assert slow.wait(90)
    record(manager, 5000)
    wait_until(lambda: manager.stats().spooled == 5001)
    assert manager.stats().dropped == {}
    release.set()
    assert manager.flush(30)
    assert len(sink.kept) == 5001


def test_what_a_full_queue_refuses_is_counted(make_manager: MakeManager):
    sink = FaultySink()
    manager = make_manager(sink, queue_size=5)
    with manager._delivery._writer._lock:  # the writer is stuck
        record(manager, 8)
    assert manager.stats().dropped.get("queue_full", 0) >= 1
    assert manager.flush(10)
    stats = manager.stats()
    assert stats.submitted == 8 == stats.stored + sum(stats.dropped.values())


def test_the_queue_is_bounded_by_bytes_too(make_manager: MakeManager):
    manager = make_manager(FaultySink(), queue_bytes=100_000)
    with manager._delivery._writer._lock:
        for _ in range(4):
            manager.tracker.record(**CALL, metadata={"text": "x" * 40_000})
    assert manager.stats().dropped == {"queue_full": 2}


def test_metrics_refused_for_good_are_dead_letters(make_manager: MakeManager, tmp_path):
    sink = FaultySink()
    sink.answer = lambda metrics: [
        Failed(each, "too_odd", permanent=True) for each in metrics if each.metadata["n"] % 2
    ]
    manager = make_manager(sink)
    record(manager, 10)
    assert manager.flush(10)
    assert manager.stats().dropped == {"too_odd": 5}
    [letters] = (tmp_path / "spool").glob("*/dead-letters.jsonl")
    assert letters.read_text().count('"reason": "too_odd"') == 5
    assert letters.stat().st_mode & 0o777 == 0o600


def test_metrics_that_fail_for_now_come_again(make_manager: MakeManager):
    sink = FaultySink()
    refused: set[str] = set()

    def once(metrics):
        new = [each for each in metrics if each.request_id not in refused]
        refused.update(each.request_id for each in new)
        return [Failed(each, "throttled") for each in new[::3]]

    sink.answer = once
    manager = make_manager(sink)
    record(manager, 30)
    assert manager.flush(10)
    assert (len(sink.kept), sink.repeated, manager.stats().dropped) == (30, 0, {})


def test_the_counts_add_up_at_every_moment(make_manager: MakeManager):
    chance = random.Random(5)
    sink = FaultySink()

    def moody(metrics):
        if chance.random() < 0.3:
            raise ConnectionError
        return [
            Failed(each, "odd", permanent=chance.random() < 0.3)
            for each in metrics
            if chance.random() < 0.1
        ]

    sink.answer = moody
    manager = make_manager(sink, queue_size=300, retry_base_delay=0.001)
    stop = threading.Event()
    unbalanced = []

    def watch() -> None:
        while not stop.is_set():
            stats = manager.stats()
            if not stats.balanced:
                unbalanced.append(stats)

    watcher = threading.Thread(target=watch)
    watcher.start()
    writers = [threading.Thread(target=record, args=(manager, 400)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    sink.answer = None
    assert manager.flush(30)
    manager.tracker.record(service="", model="", operation="")
    assert manager.flush(30)
    stop.set()
    watcher.join()
    assert unbalanced == []
    stats = manager.stats()
    assert stats.submitted == 1601
    assert stats.stored == len(sink.kept)
    assert stats.dropped["invalid"] == 1


def test_what_cannot_be_a_metric_is_counted_and_harms_nobody(make_manager: MakeManager):
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    manager = make_manager()
    tracker = manager.tracker
    tracker.record(**CALL, error=Exception(Odd()))
    tracker.record(**CALL, metadata={"odd": Odd(), "set": {1}, "nan": float("nan"), 5: b"x"})
    tracker.record(**CALL, usage=Odd(), tags=["\ud800"])
    tracker.record(**CALL, jobid="no such scope")
    tracker.record(**(CALL | {"model": None}))
    tracker.record(**CALL, latency=-5)
    tracker.record(**(CALL | {"model": Model.SMALL}))
    assert manager.flush(10)
    assert manager.stats().dropped == {"invalid": 3}
    failed, odd, _, named = manager.sinks[0].metrics
    assert named.model == "acme-small"
    assert (failed.status, failed.error) == ("error", "Exception")
    assert odd.metadata["odd"] == "<Odd>"


def test_a_large_piece_of_metadata_is_left_out_and_said_so(make_manager: MakeManager):
    manager = make_manager()
    manager.tracker.record(**CALL, metadata={"text": "x" * 100_000})
    assert manager.flush(10)
    [kept] = manager.sinks[0].metrics
    assert kept.metadata == {
        "metadata_bytes_left_out": 100_000 + len('{"environment": "test", "text": ""}')
    }


def test_the_store_says_when_it_wants_to_be_asked_again(make_manager: MakeManager):
    sink = FaultySink()
    sink.down = Unavailable("busy", retry_after=3600)
    manager = make_manager(sink)
    record(manager, 1)
    wait_until(lambda: sink.asked == 1)
    record(manager, 1)
    wait_until(lambda: manager.stats().spooled == 2)
    assert sink.asked == 1
    sink.down = None
    assert manager.flush(10)  # someone waits: it is asked at once


def test_a_batch_that_the_store_cannot_swallow_does_not_stop_the_others(
    make_manager: MakeManager, monkeypatch
):
    monkeypatch.setattr(lanes, "MAX_AT_HAND", 0)
    sink = FaultySink()

    def choke(metrics):
        if any("poison" in each.metadata for each in metrics):
            raise ConnectionError
        return []

    sink.answer = choke
    manager = make_manager(sink, max_retry_attempts=2, batch_size=1)
    manager.tracker.record(**CALL, metadata={"poison": 1})
    wait_until(lambda: manager.stats().spooled == 1 and sink.asked)
    monkeypatch.setattr("nilometer.sdk.delivery.spool.MAX_SEGMENT_METRICS", 1)
    record(manager, 3)
    wait_until(lambda: len(sink.kept) == 3)
    wait_until(lambda: manager.stats().spooled == 1)


def test_after_closing_calls_are_dropped_and_counted(make_manager: MakeManager):
    manager = make_manager()
    record(manager, 1)
    assert manager.close(30)
    assert manager.close(30)
    record(manager, 2)
    assert manager.stats().dropped == {"closed": 2}


def test_without_a_spool_what_is_unsent_at_the_end_is_counted_as_lost(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
):
    # What is being sent while a manager ends is not counted as lost: here nothing is.
    monkeypatch.setattr("nilometer.sdk.delivery.delivery._JOIN", 90)
    sink = FaultySink()
    sink.down = ConnectionError()
    manager = make_manager(sink, spool=False)
    record(manager, 5)
    assert not manager.flush(0.2)
    assert manager.stats().waiting == 5
    assert not manager.close()
    assert manager.stats().dropped == {"lost_at_exit": 5}


def test_a_full_spool_takes_no_more_and_memory_has_the_rest(make_manager: MakeManager):
    sink = FaultySink()
    sink.down = ConnectionError()
    manager = make_manager(sink, spool_bytes=3000, queue_size=50)
    for _ in range(20):
        record(manager, 5)
        assert manager._delivery._writer.empty(10)
    stats = manager.stats()
    assert stats.spooled > 0
    assert stats.waiting > 0
    assert stats.dropped == {"no_room": 100 - stats.spooled - stats.waiting}
    sink.down = None
    assert manager.flush(10)
    assert len(sink.kept) == 100 - stats.dropped["no_room"]


def test_the_next_process_sends_what_one_left(make_manager: MakeManager):
    sink = FaultySink()
    sink.down = ConnectionError()
    first = make_manager(sink)
    record(first, 7)
    assert not first.close()
    sink.down = None
    second = make_manager(sink)
    assert second.flush(10)
    stats = second.stats()
    assert (stats.submitted, stats.stored) == (0, 7)
    assert stats.sinks["faulty://"].adopted == 7
    assert len(sink.kept) == 7


def test_another_key_never_sends_what_one_left(make_manager: MakeManager):
    sink = FaultySink()
    sink.down = ConnectionError()
    first = make_manager(sink, api_key="of project one")
    record(first, 7)
    assert not first.close()
    sink.down = None
    assert make_manager(sink, api_key="of project two").flush(10)
    assert sink.kept == {}


def test_a_living_process_keeps_its_spool_to_itself(make_manager: MakeManager):
    sink = FaultySink()
    sink.down = ConnectionError()
    first = make_manager(sink)
    record(first, 7)
    assert not first.flush(0.1)
    wait_until(lambda: first.stats().spooled == 7)
    other = FaultySink()
    assert make_manager(other).flush(10)
    assert other.kept == {}
    assert first.stats().spooled == 7


def test_a_line_cut_short_and_one_that_is_none_are_passed_over(make_manager: MakeManager, tmp_path):
    sink = FaultySink()
    sink.down = ConnectionError()
    first = make_manager(sink)
    record(first, 2)
    assert not first.close()
    [segment] = (tmp_path / "spool").glob("*/*.jsonl")
    segment.write_bytes(segment.read_bytes() + b'{"no":"metric"}\n{"schema_ver')
    sink.down = None
    second = make_manager(sink)
    assert second.flush(10)
    stats = second.stats()
    assert (stats.stored, stats.dropped) == (2, {"spool_unreadable": 1})


def test_the_spool_is_nobody_elses(make_manager: MakeManager, tmp_path):
    sink = FaultySink()
    sink.down = ConnectionError()
    manager = make_manager(sink)
    record(manager, 1)
    wait_until(lambda: manager.stats().spooled == 1)
    [folder] = (tmp_path / "spool").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in folder.iterdir()} == {0o600}


def test_a_spool_that_cannot_be_written_leaves_memory(make_manager: MakeManager, tmp_path):
    (tmp_path / "file").write_text("")
    sink = FaultySink()
    manager = make_manager(sink, spool_dir=tmp_path / "file" / "under")
    record(manager, 5)
    assert manager.flush(10)
    assert len(sink.kept) == 5


def test_recording_inside_a_finalizer_or_a_handler_does_not_hang(make_manager: MakeManager):
    manager = make_manager()
    ledger = manager._delivery._ledger
    with ledger.lock:
        manager.tracker.record(**CALL)  # as a finalizer would, in the middle of another record
    assert manager.flush(10)
    assert manager.stats().stored == 1


def test_flush_takes_no_longer_than_it_may_though_the_writer_is_stuck(make_manager: MakeManager):
    manager = make_manager()
    record(manager, 1)
    assert manager.flush(10)
    stuck, release = threading.Event(), threading.Event()

    def hold() -> None:
        with manager._delivery._writer._lock:
            stuck.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert stuck.wait(90)
    record(manager, 3)
    flushed: list[bool] = []
    flushing = threading.Thread(target=lambda: flushed.append(manager.flush(0.2)))
    flushing.start()
    flushing.join(90)
    release.set()
    thread.join(90)
    assert flushed == [False]
    assert manager.flush(10)
    assert manager.stats().stored == 4


@pytest.fixture
def ledger_held() -> Iterator[Callable[[ClientManager], AbstractContextManager[None]]]:
    """Another thread holds what the counts are changed under."""
    release = threading.Event()

    @contextmanager
    def hold(manager: ClientManager) -> Generator[None]:
        ledger, held = manager._delivery._ledger, threading.Event()

        def run() -> None:
            with ledger.lock:
                held.set()
                release.wait(300)

        thread = threading.Thread(target=run)
        thread.start()
        assert held.wait(90)
        yield
        release.set()
        thread.join(90)

    yield hold
    release.set()


def test_recording_waits_for_no_thread_that_changes_the_counts(
    make_manager: MakeManager, ledger_held: Any
):
    manager = make_manager()
    with ledger_held(manager):
        waits = threading.Thread(target=record, args=(manager, 3))
        waits.start()
        waits.join(90)
        assert not waits.is_alive()
    assert manager.stats().submitted == 3
    assert manager.flush(10)
    assert [each.metadata["n"] for each in manager.sinks[0].metrics] == [0, 1, 2]


def test_what_there_is_no_room_for_is_counted_whoever_held_the_counts(
    make_manager: MakeManager, ledger_held: Any
):
    manager = make_manager(queue_size=2)
    with ledger_held(manager):
        record(manager, 5)
    stats = manager.stats()
    assert (stats.submitted, stats.dropped, stats.balanced) == (5, {"queue_full": 3}, True)
    assert manager.flush(10)
    assert manager.stats().stored == 2


def test_what_is_recorded_while_a_manager_closes_is_stored_or_counted(make_manager: MakeManager):
    for _ in range(20):
        manager = make_manager("memory://")
        barrier = threading.Barrier(5)

        def work(manager: ClientManager = manager, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(60)
            record(manager, 100)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        barrier.wait(60)
        manager.close(30)
        for thread in threads:
            thread.join(90)
        stats = manager.stats()
        assert (stats.submitted, stats.balanced, stats.waiting) == (400, True, 0)
        assert stats.stored + stats.dropped.get("closed", 0) == 400


def test_what_comes_after_the_flush_of_a_close_is_stored_too(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
):
    manager = make_manager("memory://")
    record(manager, 1)
    delivery = manager._delivery
    flush = delivery.flush

    def flush_and_record(timeout: float) -> bool:
        done = flush(timeout)
        if not delivery.closed:
            record(manager, 1)
        return done

    monkeypatch.setattr(delivery, "flush", flush_and_record)
    assert manager.close(30)
    stats = manager.stats()
    assert (stats.submitted, stats.stored, stats.dropped) == (2, 2, {})


def test_nothing_is_tracked_when_tracking_is_off():
    manager = ClientManager(ClientConfig(track_usage=False))
    record(manager, 3)
    assert manager.usage_tracker is None
    assert (manager.flush(), manager.stats().submitted, list(manager.sinks)) == (True, 0, [])
    assert manager.close(30)


def test_a_handler_that_flushes_leaves_nothing_behind_however_it_ends(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
):
    # What a handler takes that names no time, which is five seconds.
    monkeypatch.setitem(ClientManager.flushed.__kwdefaults__, "timeout", 60)
    manager = make_manager(FaultySink(), flush_interval=60)
    numbers = count()

    @manager.flushed
    def handler(event):
        manager.tracker.record(**CALL)
        if next(numbers):
            raise RuntimeError(event)
        return event

    @manager.flushed(timeout=3)
    def other(event):
        return event

    assert handler("first") == "first"
    assert manager.stats().stored == 1
    with pytest.raises(RuntimeError, match="second"):
        handler("second")
    assert manager.stats().stored == 2
    assert other("third") == "third"


def test_measured_blocks_and_functions_are_calls(make_manager: MakeManager):
    manager = make_manager()
    tracker = manager.tracker

    @tracker.measured(lambda answer: {"input_tokens": answer}, **CALL)
    def call(answer):
        return answer

    @tracker.measured(lambda answer: answer.missing, **CALL)
    def unread():
        return "fine"

    assert call(5) == 5
    assert unread() == "fine"

    def fails():
        with tracker.measure(**CALL) as measured:
            measured.note(output_tokens=3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert manager.flush(10)
    first, second, third = manager.sinks[0].metrics
    assert (first.input_tokens, first.status) == (5, "success")
    assert first.latency is not None
    assert second.metadata["usage_unread"] == "AttributeError"
    assert (third.status, third.error_type, third.output_tokens) == (
        "error",
        "ZeroDivisionError",
        3,
    )


def test_a_metric_is_equal_wherever_it_was_on_its_way(make_manager: MakeManager, monkeypatch):
    monkeypatch.setattr(lanes, "MAX_AT_HAND", 0)  # read again from the spool
    sink = FaultySink()
    manager = make_manager([sink, "memory://"])
    record(manager, 3, usage={"prompt_tokens": 5, "completion_tokens": 6}, tags=["t"])
    assert manager.flush(10)
    straight: list[AIUsageMetric] = manager.sinks[1].metrics
    assert [sink.kept[each.request_id] for each in straight] == straight
    assert straight[0].vector is not None
