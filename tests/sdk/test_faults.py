"""What fails in the library itself is counted, and harms nobody."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from nilometer.domain.usage import TokenVector, Usage
from nilometer.errors import ConfigurationError, Unavailable
from nilometer.sdk import budget_sources, loose_values
from nilometer.sdk.calculator import CostCalculator
from nilometer.sdk.delivery.spool import Spool
from nilometer.sdk.observation import Observation
from nilometer.sdk.scopes import NOTHING
from nilometer.sdk.sinks.port import Failed
from nilometer.sdk.tracker import AIUsageTracker, Call
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
