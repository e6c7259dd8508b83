"""Load, bursts and outages, counted: how much is done for a call, and what became of each. Times
are measured by `bench/tracker.py` and `bench/tracker_store.py`, on a quiet machine."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from nilometer import usage_context
from nilometer.domain import clock
from nilometer.dynamodb.reader import Reader
from nilometer.sdk.delivery.lane import MAX_AT_HAND
from nilometer.usage.query import UsageQuery
from tests.running import wait_until
from tests.usage.ai_usage_helpers import create_mock_usage_metric
from tests.usage.serverless import Shop, openai_client, prompt

pytestmark = [pytest.mark.integration, pytest.mark.performance]

CALL = {"service": "acme", "model": "acme-1", "operation": "completion"}


class Seam:
    """DynamoDB, up, down or hanging as a test says; every request is counted by its outcome."""

    def __init__(self, dynamodb: Any) -> None:
        self._dynamodb = dynamodb
        self.asked = Counter[str]()
        self.down = False
        self.hangs = threading.Event()
        self.hanging = threading.Event()
        self.release = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dynamodb, name)

    def query(self, **request: Any) -> Any:
        return self._answered("query", request)

    def transact_write_items(self, **request: Any) -> Any:
        return self._answered("transact_write_items", request)

    def _answered(self, name: str, request: dict[str, Any]) -> Any:
        if self.hangs.is_set():
            self.asked["hung"] += 1
            self.hanging.set()
            assert self.release.wait(60)
            raise ReadTimeoutError(endpoint_url="http://nowhere")
        if self.down:
            self.asked["refused"] += 1
            raise EndpointConnectionError(endpoint_url="http://nowhere")
        self.asked[name] += 1
        return getattr(self._dynamodb, name)(**request)


@pytest.fixture
def seam(shop_here: Shop) -> Seam:
    return Seam(shop_here.table.dynamodb)


def test_a_thousand_calls_take_few_requests_to_the_table(shop_here: Shop, seam: Seam):
    manager = shop_here.manager(sink=shop_here.sink_over(seam), flush_interval=1.0)
    with usage_context(job_id="load", user_id="ada", batch_id="b"):
        for number in range(1000):
            manager.tracker.record(**CALL, input_tokens=number, cost_usd=Decimal(number))
    found = shop_here.metrics()
    assert sorted(each.input_tokens for each in found) == list(range(1000))
    assert manager.stats().dropped == {}
    assert shop_here.ask(job="load")["summary"]["total_cost_usd_exact"] == str(sum(range(1000)))
    # Twelve calls go in a request, beside those that fold; the original's bound was one for two.
    assert seam.asked["transact_write_items"] < 1000 / 8
    assert seam.asked["query"] < 100  # each writer reads each of its rollups once


def test_load_of_several_threads_is_all_there(shop_here: Shop):
    client = shop_here.manager().wrap(openai_client())
    together = threading.Barrier(10)

    def work(number: int) -> None:
        together.wait(60)
        with usage_context(job_id=f"job-{number}"):
            for each in range(50):
                client.chat.completions.create(**prompt(1 + number, allowed=1 + each))

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(work, range(10)))
    assert Counter((each.job_id, each.input_tokens) for each in shop_here.metrics()) == {
        (f"job-{number}", 1 + number): 50 for number in range(10)
    }


def test_a_burst_of_10_000_calls_drops_nothing(shop_here: Shop, seam: Seam):
    """Faster than any store: the queue and the spool hold them."""
    seam.down = True
    manager = shop_here.manager(sink=shop_here.sink_over(seam), prices_file=None)
    together = threading.Barrier(4)

    def burst(_: int) -> None:
        together.wait(60)
        for _ in range(2500):
            manager.tracker.record(**CALL, cost_usd=Decimal(1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(burst, range(4)))
    wait_until(lambda: manager.stats().spooled == 10_000, seconds=60)
    stats = manager.stats()
    assert (stats.submitted, stats.stored, stats.waiting, stats.dropped) == (10_000, 0, 0, {})


def test_memory_holds_few_of_the_calls_that_wait_for_a_store(shop_here: Shop, seam: Seam):
    """Counted in metrics, which no allocator blurs: the others are on disk."""
    seam.down = True
    manager = shop_here.manager(sink=shop_here.sink_over(seam))
    for _ in range(2000):
        manager.tracker.record(**CALL, cost_usd=Decimal(1))
    wait_until(lambda: manager.stats().spooled == 2000, seconds=60)
    delivery = manager._delivery
    (sender,) = delivery._senders
    held = [batch for batch in (*sender.lane._batches, *sender.lane._claimed) if batch.metrics]
    assert len(delivery._queue) == 0
    assert sum(batch.count for batch in held) <= MAX_AT_HAND


def test_a_month_is_read_in_as_many_requests_however_many_calls_it_has(shop_here: Shop, seam: Seam):
    today = clock.now().date()
    query = UsageQuery(today - timedelta(days=29), today, {}, ("day", "service", "model", "job"))

    def read() -> tuple[int, int]:
        seam.asked.clear()
        reader = Reader(seam, shop_here.table.name)
        calls = reader.groups(query).summary.count("calls")
        reader.close()
        return calls, seam.asked["query"]

    def month(of_each_day: int) -> None:
        sink = shop_here.sink_over(shop_here.table.dynamodb)
        metrics = [
            create_mock_usage_metric(
                timestamp=clock.now() - timedelta(days=day), job_id=f"j-{number % 3}"
            )
            for day in range(30)
            for number in range(of_each_day)
        ]
        assert sink.store(metrics) == []
        sink.close()

    month(2)
    few, requests = read()
    month(10)
    many, again = read()
    assert (few, many) == (60, 360)
    assert again == requests


def test_stress_failures_open_the_breaker_which_asks_seldom_and_loses_nothing(
    shop_here: Shop, seam: Seam
):
    seam.down = True
    manager = shop_here.manager(
        sink=shop_here.sink_over(seam),
        circuit_breaker_threshold=3,
        circuit_breaker_timeout=600,
        retry_base_delay=0.001,
    )
    sink = manager.sinks[0].name
    for _ in range(1000):
        manager.tracker.record(**CALL, cost_usd=Decimal(1), job_id="stress")
    wait_until(lambda: manager.stats().breakers[sink] == "open")
    wait_until(lambda: manager.stats().spooled == 1000)
    # Each attempt asks with what batches it has: few requests, and none for most of the calls.
    asked = seam.asked["refused"]
    assert 3 <= asked <= 12
    for _ in range(200):
        manager.tracker.record(**CALL, cost_usd=Decimal(1), job_id="stress")
    wait_until(lambda: manager.stats().spooled == 1200)
    assert seam.asked["refused"] == asked  # open: nobody asks
    seam.down = False
    assert len(shop_here.metrics()) == 1200
    assert manager.stats().breakers[sink] == "closed"
    assert shop_here.ask(job="stress")["summary"]["total_cost_usd_exact"] == "1200"


def test_stress_no_call_waits_for_a_store_that_hangs_and_all_arrive_once_when_it_is_up(
    shop_here: Shop, seam: Seam
):
    """The store is down for the whole run, first hanging and then refusing, and then up."""
    seam.hangs.set()
    manager = shop_here.manager(sink=shop_here.sink_over(seam), circuit_breaker_timeout=0.01)
    client = manager.wrap(openai_client())

    def calls(first: int, number: int) -> None:
        for each in range(first, first + number):
            with usage_context(job_id=f"job-{each % 3}"):
                client.chat.completions.create(**prompt(2, allowed=1 + each))

    calls(0, 1)
    assert seam.hanging.wait(90)  # one request is out, and gets no answer
    calls(1, 299)
    assert seam.asked["hung"] >= 1
    assert seam.asked.total() == seam.asked["hung"]  # still out: the calls came back all the same
    stats = manager.stats()
    assert (stats.submitted, stats.stored, stats.dropped) == (300, 0, {})
    seam.down = True
    seam.hangs.clear()
    seam.release.set()
    calls(300, 200)
    wait_until(lambda: seam.asked["refused"] >= 3)
    wait_until(lambda: manager.stats().spooled == 500)
    assert manager.stats().stored == 0
    seam.down = False
    found = shop_here.metrics()
    assert sorted(each.output_tokens for each in found) == list(range(1, 501))
    stats = manager.stats()
    assert (stats.submitted, stats.stored, stats.dropped) == (500, 500, {})
    summary = shop_here.ask(aggregation="job")
    assert summary["summary"]["call_count"] == 500
    tokens = {name: each["tokens"] for name, each in summary["aggregations"]["by_job"].items()}
    assert tokens == {
        f"job-{job}": sum(2 + 1 + each for each in range(job, 500, 3)) for job in range(3)
    }
