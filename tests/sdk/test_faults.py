"""What fails in the library itself is counted, and harms nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from nilometer.errors import ConfigurationError, Unavailable
from nilometer.sdk import budget_sources
from nilometer.sdk.delivery.spool import Spool
from nilometer.sdk.sinks.port import Failed
from nilometer.sdk.tracker import AIUsageTracker
from tests.running import wait_until
from tests.sdk.conftest import CALL, FaultySink, MakeManager


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


def test_segments_that_cannot_be_read_are_counted_as_lost(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
):
    sink = FaultySink()
    sink.down = ConnectionError()
    manager = make_manager(sink)
    for _ in range(5):
        manager.tracker.record(**CALL)
    wait_until(lambda: manager.stats().spooled == 5 and sink.asked > 1)
    monkeypatch.setattr(Spool, "read", refuse)
    sink.down = None
    assert manager.flush(10)
    assert manager.stats().dropped == {"spool_unreadable": 5}


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
