"""What fails in the library itself is counted, and harms nobody."""

from __future__ import annotations

import asyncio
import errno
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from nilometer.domain.usage import TokenVector, Usage
from nilometer.errors import ConfigurationError, Unavailable
from nilometer.sdk import budget_sources, loose_values
from nilometer.sdk.calculator import CostCalculator
from nilometer.sdk.delivery.spool import Segment, Spool
from nilometer.sdk.observation import Observation
from nilometer.sdk.scopes import NOTHING
from nilometer.sdk.sinks.port import Failed
from nilometer.sdk.tracker import AIUsageTracker, Call
from tests.running import wait_until
from tests.sdk.conftest import CALL, FaultySink, MakeManager
from tests.sdk.test_processes import Folder


def refuse(*_: Any) -> Any:
    raise OSError(5, "Input/output error")


def test_a_spool_that_cannot_be_searched_stops_nothing(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(Spool, "adopt", refuse)
    sink = FaultySink()
    manager = make_manager(sink)
    manager.tracker.record(**CALL)
    assert manager.flush(10)
    assert len(sink.kept) == 1
    assert "cannot be searched" in caplog.text


@pytest.fixture
def spooled(make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch):
    """Five metrics in a segment each, none of them at hand, and a store that takes them from now
    on. `asked` are the segments that were to be read, `refused` are refused."""
    monkeypatch.setattr("nilometer.sdk.delivery.lane.MAX_AT_HAND", 0)
    monkeypatch.setattr("nilometer.sdk.delivery.spool.MAX_SEGMENT_METRICS", 1)
    sink = FaultySink()
    sink.down = ConnectionError()
    manager = make_manager(sink, circuit_breaker_timeout=60)
    for number in range(5):
        manager.tracker.record(**CALL, metadata={"n": number})
        wait_until(lambda number=number: manager.stats().spooled == number + 1)
    wait_until(lambda: manager.stats().breakers == {sink.name: "open"})
    files = sorted(manager.config.spool_dir.glob("*/*.jsonl"))
    assert len(files) == 5
    refused, asked, read = set[Path](), list[Path](), Spool.read

    def reads(spool: Spool, segment: Segment) -> Any:
        asked.append(segment.path)
        if segment.path in refused:
            raise OSError(errno.EMFILE, "Too many open files")
        return read(spool, segment)

    monkeypatch.setattr(Spool, "read", reads)
    sink.down = None
    return SimpleNamespace(manager=manager, sink=sink, files=files, refused=refused, asked=asked)


def numbers(sink: FaultySink) -> list[int]:
    return sorted(each.metadata["n"] for each in sink.kept.values())


def test_segments_that_cannot_be_read_stay_and_are_looked_at_less_and_less(
    spooled: Any, caplog: pytest.LogCaptureFixture
):
    spooled.refused.update(spooled.files)
    asked = spooled.sink.asked
    assert not spooled.manager.flush(0.7)
    wait_until(lambda: set(spooled.asked) == set(spooled.files))
    stats = spooled.manager.stats()
    assert (stats.spooled, stats.stored, stats.dropped, stats.balanced) == (5, 0, {}, True)
    assert len(spooled.asked) <= 5 * 5  # at once; after at most 10, 20, 40 and 80 ms; then a minute
    assert all(each.exists() for each in spooled.files)
    assert caplog.text.count("cannot be read now: Too many open files") == 1
    assert stats.breakers == {spooled.sink.name: "half_open"}  # it was not asked, and did not fail
    assert spooled.sink.asked == asked
    spooled.refused.clear()
    assert spooled.manager.flush(10)
    assert numbers(spooled.sink) == [0, 1, 2, 3, 4]


def test_a_passing_error_of_the_disk_is_over_without_a_flush(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("nilometer.sdk.delivery.lane.MAX_AT_HAND", 0)
    failures, read = iter([refuse] * 3), Spool.read

    def reads(*asked: Any) -> Any:
        return next(failures, read)(*asked)

    monkeypatch.setattr(Spool, "read", reads)
    sink = FaultySink()
    manager = make_manager(sink)
    manager.tracker.record(**CALL)
    wait_until(lambda: manager.stats().stored == 1)
    assert len(sink.kept) == 1


def test_a_process_that_can_open_no_file_keeps_its_spool(tmp_path: Path):
    folder = Folder(tmp_path)
    folder.done(
        """
        import resource
        manager = make(flush_interval=0.01, retry_base_delay=0.01, circuit_breaker_timeout=0.05)
        record(manager, 2000)
        while manager.stats().spooled < 2000:
            time.sleep(0.01)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            del os.environ["DOWN"]
        assert not manager.flush(1)
        stats = manager.stats()
        assert (stats.spooled, stats.dropped) == (2000, {}), stats
        for file in held:
            os.close(file)
        assert manager.flush(20), manager.stats()
        """,
        down=True,
    )
    assert folder.stored() == list(range(2000))


def test_a_segment_that_can_never_be_read_stops_no_other(spooled: Any):
    manager = spooled.manager
    spooled.refused.add(spooled.files[2])
    assert not manager.flush(0.1)
    wait_until(lambda: manager.stats().stored == 4)
    manager.tracker.record(**CALL, metadata={"n": 5})
    wait_until(lambda: manager.stats().stored == 5)
    assert numbers(spooled.sink) == [0, 1, 3, 4, 5]
    stats = manager.stats()
    assert (stats.spooled, stats.dropped) == (1, {})
    assert not manager.close()
    assert [each for each in spooled.files if each.exists()] == [spooled.files[2]]


def test_segments_that_are_gone_are_counted_as_lost(spooled: Any, caplog: pytest.LogCaptureFixture):
    for each in spooled.files[:2]:
        each.unlink()
    assert spooled.manager.flush(10)
    assert numbers(spooled.sink) == [2, 3, 4]
    assert spooled.manager.stats().dropped == {"spool_unreadable": 2}
    assert "is gone" in caplog.text


def test_segments_that_cannot_be_removed_are_sent_and_counted_once(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(Spool, "remove", refuse)
    sink = FaultySink()
    manager = make_manager(sink)
    manager.tracker.record(**CALL)
    assert manager.flush(10)
    assert (manager.stats().stored, len(sink.kept)) == (1, 1)
    assert "cannot be removed" in caplog.text


def test_dead_letters_that_cannot_be_kept_are_counted(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Spool, "bury", refuse)
    sink = FaultySink()
    sink.answer = lambda metrics: [Failed(each, "bad", permanent=True) for each in metrics]
    manager = make_manager(sink)
    manager.tracker.record(**CALL)
    assert manager.flush(10)
    assert manager.stats().dropped == {"bad": 1}


def test_a_call_that_cannot_be_looked_at_is_counted(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
):
    manager = make_manager()
    manager.tracker.record(**CALL, metadata=5)  # of no size
    monkeypatch.setattr("nilometer.sdk.tracker.Observation", refuse)
    manager.tracker.record(**CALL)
    assert manager.stats().dropped == {"fault": 2}


def test_a_guard_that_fails_keeps_no_call_and_no_record(make_manager: MakeManager):
    class Guard:
        admit = count = staticmethod(refuse)

    manager = make_manager()
    tracker = AIUsageTracker(manager._delivery, Guard())  # type: ignore[arg-type]
    assert tracker.guarded
    tracker.admit("acme", "acme-1")
    tracker.record(**CALL)
    assert manager.flush(10)
    assert manager.stats().stored == 1


def test_a_measured_coroutine_is_a_call_whatever_its_reader_does(make_manager: MakeManager):
    manager = make_manager()

    @manager.tracker.measured(lambda answer: {"input_tokens": answer["tokens"]}, **CALL)
    async def ask(answer: Any) -> Any:
        await asyncio.sleep(0)
        return answer

    assert asyncio.run(ask({"tokens": 7})) == {"tokens": 7}
    assert asyncio.run(ask({})) == {}
    assert manager.flush(10)
    read, unread = manager.sinks[0].metrics
    assert read.input_tokens == 7
    assert unread.metadata["usage_unread"] == "KeyError"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(200, text="no JSON"),
        httpx.Response(200, json={"budgets": [{"hard_stop": True}]}),
        httpx.Response(200, content=b" " * (budget_sources._MAX_BYTES + 1)),
    ],
)
def test_a_server_that_answers_oddly_about_budgets_is_unavailable(answer: httpx.Response):
    transport = httpx.MockTransport(lambda _: answer)
    asked = budget_sources.ServerStandings("http://test", "key", transport=transport)
    with pytest.raises(Unavailable):
        asked.ask()
    asked.close()


def test_budgets_are_asked_for_at_what_knows_them():
    with pytest.raises(ConfigurationError, match="api_key"):
        budget_sources.open_standings("http://test", None)
    with pytest.raises(ConfigurationError):
        budget_sources.open_standings("memory://", "key")


def test_a_tracker_that_delivers_to_nobody_takes_what_it_is_given():
    tracker = AIUsageTracker(None)
    tracker.record(**CALL)
    tracker.take(Observation({**CALL}, NOTHING, 0.0))
    tracker.admit("acme", "acme-1")
    assert not tracker.guarded


def test_a_result_that_nobody_reads_says_nothing():
    call = Call({"metadata": {"a": 1}})
    call.read(None, {"usage": 5})
    assert call.seen == {"metadata": {"a": 1}}
    call.read(lambda result: result, {"input_tokens": 5})
    assert call.seen == {"metadata": {"a": 1}, "input_tokens": 5}
    call.read(refuse, None)
    assert call.seen["metadata"] == {"a": 1, "usage_unread": "OSError"}


def test_a_value_in_too_many_others_becomes_text():
    deep: Any = 5
    for _ in range(100):
        deep = [deep]
    found, depth = loose_values.json_value(deep), 0
    while isinstance(found, list):
        [found], depth = found, depth + 1
    assert isinstance(found, str)
    assert 1 < depth < 100


def test_a_cost_finer_than_a_metric_holds_is_not_rounded_but_unknown(monkeypatch: Any):
    usage = Usage(vector=TokenVector(uncached_input=3), convention="openai")
    at = datetime(2026, 11, 1, tzinfo=UTC)
    for part, reason in (("1e-18", ""), ("1e-19", "cost_out_of_range")):
        total = Decimal(part)

        def priced(*_: Any, total: Decimal = total, **__: Any) -> Any:
            return SimpleNamespace(
                total=total, components={"uncached_input": total}, source="book", version="1",
                as_of=None, provider="acme", model="acme-1", reason="",
            )  # fmt: skip

        monkeypatch.setattr("nilometer.pricing.price", priced)
        found = CostCalculator().of(usage, service="acme", model="acme-1", at=at, tier="")
        assert (found.total, found.reason) == (None if reason else total, reason or found.reason)
