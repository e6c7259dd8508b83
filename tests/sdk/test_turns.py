"""What the library does in the background lets the host's threads run between two metrics. Here no
thread is made to let others run: what goes on meanwhile is what was let in."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest

from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.sdk.delivery.spool import Spool
from nilometer.sdk.sinks.http import HttpSink
from nilometer.sdk.sinks.jsonl import JsonlSink
from nilometer.sdk.turns import in_turns
from tests.sdk.conftest import MakeManager
from tests.sdk.test_delivery import record

METRICS = 400
TRIES = 9
"""The middle one counts. Who watches comes to no turn while the host has its processor, as the work
takes only milliseconds; and work that gives no way lets it in now and then, where it waits."""


@pytest.fixture
def only_who_gives_way(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("os.fsync", lambda _: None)  # which lets others run as long as it takes
    before = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(before)


def metrics() -> list[AIUsageMetric]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        AIUsageMetric(
            service="openai",
            model="gpt-4o-mini",
            operation="completion",
            timestamp=at,
            input_tokens=1200,
            output_tokens=number,
            metadata={"step": "x" * 100},
        )
        for number in range(METRICS)
    ]


def turns_during(work: Callable[[], Any]) -> int:
    """How often this thread came to its turn while another one did the work."""
    done, failed = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)
        finally:
            done.set()

    threading.Thread(target=run).start()
    turns = 0
    while not done.is_set():
        turns += 1
        time.sleep(0)
    assert not failed
    return turns


def written(folder: Path) -> Callable[[], Any]:
    some, spool = metrics(), Spool(folder, 10**9)
    return lambda: spool.write(some)


def read_back(folder: Path) -> Callable[[], Any]:
    spool = Spool(folder, 10**9)
    segment = spool.write(metrics())
    return lambda: spool.read(segment)


def appended(folder: Path) -> Callable[[], Any]:
    some, sink = metrics(), JsonlSink(folder / "usage.jsonl")
    return lambda: sink.store(some)


def sent(_: Path) -> Callable[[], Any]:
    answer = httpx.MockTransport(lambda _: httpx.Response(200, json={}))
    some, sink = metrics(), HttpSink("http://server", "key", transport=answer)
    return lambda: sink.store(some)


@pytest.mark.parametrize("prepared", [written, read_back, appended, sent])
def test_a_batch_is_handled_in_turns_with_the_hosts_threads(
    prepared: Callable[[Path], Callable[[], Any]], tmp_path: Path, only_who_gives_way: None
):
    turns = [turns_during(prepared(tmp_path)) for _ in range(TRIES)]
    assert median(turns) > METRICS / 10, turns


def test_calls_are_priced_in_turns_with_the_hosts_threads(
    make_manager: MakeManager, only_who_gives_way: None
):
    manager = make_manager("memory://")
    turns: list[int] = []
    for _ in range(TRIES):
        record(manager, METRICS)
        turns.append(turns_during(lambda: manager.flush(30)))
    assert median(turns) > METRICS / 10, turns


def test_nothing_is_left_out_in_turns():
    assert list(in_turns(range(5))) == [0, 1, 2, 3, 4]
