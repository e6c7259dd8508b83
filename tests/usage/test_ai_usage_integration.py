"""The whole of usage tracking together: several providers, batches, failures, and the answers about
them, on the table and through the Lambda."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx2
import openai
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from nilometer import batch_usage_context, tracked, usage_context
from nilometer.budgets import environment_channels
from nilometer.budgets import lambda_handler as budgets
from nilometer.notifications import signature
from tests.integrations import upstream
from tests.usage.ai_usage_helpers import create_mock_anthropic_response
from tests.usage.serverless import (
    Shop,
    anthropic_client,
    async_openai_client,
    chat,
    openai_client,
    places_client,
    prompt,
)

pytestmark = pytest.mark.integration

MILLION = Decimal(1_000_000)
CLAUDE = "claude-sonnet-4-6"


def openai_cost(entered: int, left: int) -> Decimal:
    """Of gpt-4o-mini, at $0.15 and $0.60 a million."""
    return (entered * Decimal("0.15") + left * Decimal("0.60")) / MILLION


def test_a_job_across_three_services_is_one_sum(shop_of_each: Shop):
    manager = shop_of_each.manager()
    gpt, claude = manager.wrap(openai_client()), manager.wrap(anthropic_client())
    places = manager.wrap(places_client())
    with usage_context(job_id="receipts", user_id="ada"):
        gpt.chat.completions.create(**prompt(100))
        gpt.embeddings.create(model="text-embedding-3-small", input="ten words")
        claude.messages.create(**prompt(200, allowed=20, model=CLAUDE))
        assert places.place("p1", fields=["name"])["status"] == "OK"
    gpt.chat.completions.create(**prompt(7))  # of no job
    found = {(each.service, each.operation): each for each in shop_of_each.metrics() if each.job_id}
    costs = {
        ("openai", "completion"): openai_cost(100, 50),
        ("openai", "embedding"): 2 * Decimal("0.02") / MILLION,
        ("anthropic", "completion"): (200 * 3 + 20 * 15) / MILLION,
        ("google_places", "place"): Decimal("0.017"),
    }
    assert {each: metric.cost_usd for each, metric in found.items()} == costs
    body = shop_of_each.ask(aggregation="service", job="receipts")
    assert Decimal(body["summary"]["total_cost_usd_exact"]) == sum(costs.values())
    groups = body["aggregations"]["by_service"]
    assert {name: each["call_count"] for name, each in groups.items()} == {
        "anthropic": 1,
        "google_places": 1,
        "openai": 2,
    }
    assert Decimal(groups["anthropic"]["cost_usd_exact"]) == costs["anthropic", "completion"]


def test_a_batch_of_100_calls_is_reported_to_the_last_digit(shop_here: Shop):
    """The report is the contract's own answer, by day, model and status of the batch."""
    client = shop_here.manager().wrap(openai_client())
    with usage_context(job_id="nightly"), batch_usage_context("b-7"):
        for number in range(100):
            client.chat.completions.create(**prompt(1 + number % 10, allowed=1 + number))
    assert len(shop_here.metrics()) == 100
    body = shop_here.ask(batch="b-7", aggregation="model", group_by="status,model")
    expected = sum(openai_cost(1 + number % 10, 1 + number) for number in range(100))
    (group,) = body["groups"]["results"]
    assert Decimal(group["cost_usd_exact"]) == expected
    assert (group["status"], group["call_count"], group["error_count"]) == ("success", 100, 0)
    assert group["tokens"] == sum(2 + number % 10 + number for number in range(100))
    (model,) = body["aggregations"]["by_model"].values()
    assert model["cost_usd_exact"] == body["summary"]["total_cost_usd_exact"]
    assert shop_here.ask(batch="another")["summary"]["call_count"] == 0


def test_intermittent_failures_are_counted_beside_what_succeeded(shop_here: Shop):
    asked = Counter[int]()

    def respond(request: httpx2.Request) -> httpx2.Response:
        number = len(json.loads(request.content)["messages"][0]["content"].split())
        asked[number] += 1
        if number % 3 == 0:
            return httpx2.Response(500, json={"error": {"message": "overloaded"}})
        return chat(request)

    client = shop_here.manager().wrap(openai_client(respond, max_retries=0))
    with usage_context(job_id="nightly"):
        for number in range(1, 31):
            try:
                client.chat.completions.create(**prompt(number))
            except openai.InternalServerError:
                assert number % 3 == 0
    found = shop_here.metrics()
    assert Counter(each.status for each in found) == {"success": 20, "error": 10}
    assert {each.http_status for each in found if each.status == "error"} == {500}
    assert asked.total() == 30
    summary = shop_here.ask(job="nightly")["summary"]
    assert (summary["call_count"], summary["error_count"], summary["unpriced_count"]) == (30, 10, 0)
    assert Decimal(summary["total_cost_usd_exact"]) == sum(
        openai_cost(number, 50) for number in range(1, 31) if number % 3
    )


def test_a_call_that_the_library_repeats_is_one_call(
    shop_here: Shop, monkeypatch: pytest.MonkeyPatch
):
    refused = iter([503, 429])

    def respond(request: httpx2.Request) -> httpx2.Response:
        status = next(refused, 200)
        return chat(request) if status == 200 else httpx2.Response(status, json={})

    monkeypatch.setattr(openai.OpenAI, "_calculate_retry_timeout", lambda *_: 0)
    client = shop_here.manager().wrap(openai_client(respond, max_retries=2))
    client.chat.completions.create(**prompt(10))
    (metric,) = shop_here.metrics()
    assert (metric.status, metric.retries, metric.input_tokens) == ("success", 2, 10)


def test_five_batches_at_once_on_one_manager_are_never_confused(shop_here: Shop):
    manager = shop_here.manager()
    gpt, claude = manager.wrap(openai_client()), manager.wrap(anthropic_client())
    together = threading.Barrier(5)

    @tracked
    def batch(number: int, job_id: str) -> None:
        together.wait(60)
        with batch_usage_context(f"batch-{number}"):
            for each in range(20):
                if each % 2:
                    claude.messages.create(**prompt(1 + number, allowed=1 + each, model=CLAUDE))
                else:
                    gpt.chat.completions.create(**prompt(1 + number, allowed=1 + each))

    with ThreadPoolExecutor(5) as pool:
        for done in [pool.submit(batch, number, job_id=f"job-{number}") for number in range(5)]:
            done.result()
    found = shop_here.metrics()
    assert Counter((each.job_id, each.batch_id, each.input_tokens) for each in found) == {
        (f"job-{number}", f"batch-{number}", 1 + number): 20 for number in range(5)
    }
    assert {each.output_tokens for each in found if each.job_id == "job-3"} == {*range(1, 21)}
    groups = shop_here.ask(aggregation="job")["aggregations"]["by_job"]
    assert {name: each["call_count"] for name, each in groups.items()} == {
        f"job-{number}": 20 for number in range(5)
    }


class Outages:
    """DynamoDB, of which every fourth transaction fails: in turn before it is done, after it is
    done with its answer lost, and with a refusal to be waited out. Each is counted."""

    def __init__(self, dynamodb: Any) -> None:
        self._dynamodb = dynamodb
        self._lock = threading.Lock()
        self.transactions = 0
        self.faults = Counter[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dynamodb, name)

    def transact_write_items(self, **request: Any) -> Any:
        with self._lock:
            self.transactions += 1
            fails = self.transactions % 4 == 0
            kind = ("before", "after", "throttled")[self.transactions // 4 % 3] if fails else ""
            self.faults[kind] += 1
        if kind == "before":
            raise EndpointConnectionError(endpoint_url="http://nowhere")
        if kind == "throttled":
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, "TransactWriteItems")
        done = self._dynamodb.transact_write_items(**request)
        if kind == "after":
            raise EndpointConnectionError(endpoint_url="http://nowhere")
        return done


def test_no_row_is_lost_or_doubled_when_every_fourth_write_fails(shop_here: Shop):
    """The original lost every fourth row, and its test said so. Rollups are as exact as rows."""
    outages = Outages(shop_here.table.dynamodb)
    sink = shop_here.sink_over(outages)
    manager = shop_here.manager(sink=sink, batch_size=10, circuit_breaker_timeout=0.01)
    client = manager.wrap(openai_client())
    for number in range(200):
        with usage_context(job_id=f"job-{number % 4}"):
            client.chat.completions.create(**prompt(1 + number % 7, allowed=1 + number))
    found = shop_here.metrics()
    assert sorted(each.output_tokens for each in found) == list(range(1, 201))
    assert min(outages.faults[kind] for kind in ("before", "after", "throttled")) >= 1
    stats = manager.stats()
    assert (stats.submitted, stats.stored, stats.dropped) == (200, 200, {})
    body = shop_here.ask(aggregation="job")
    assert body["summary"]["call_count"] == 200
    exact = sum(openai_cost(1 + number % 7, 1 + number) for number in range(200))
    assert Decimal(body["summary"]["total_cost_usd_exact"]) == exact
    by_job = body["aggregations"]["by_job"]
    assert sum(Decimal(each["cost_usd_exact"]) for each in by_job.values()) == exact


def test_thresholds_of_a_budget_are_told_once_each_as_calls_are_made(
    shop_here: Shop, monkeypatch: pytest.MonkeyPatch
):
    """Calls, the table's rollups, the budgets' function, and a webhook that hears of it."""
    heard: list[dict[str, str]] = []

    def receive(handler: Any) -> None:
        heard.append(json.loads(handler.body)["data"]["facts"])
        handler.send_response(204)
        handler.end_headers()

    budget = {"name": "receipts", "amount": "0.00045", "period": "month", "thresholds": [50, 80]}
    budget |= {"scope": "job", "scope_value": "receipts"}
    client = shop_here.manager().wrap(openai_client())
    with upstream.serving(receive) as url:
        monkeypatch.setenv(budgets.BUDGETS, json.dumps([budget]))
        monkeypatch.setenv(environment_channels.WEBHOOK, url)
        monkeypatch.setenv(environment_channels.SECRET, signature.new_secret())
        monkeypatch.setenv(environment_channels.NETWORKS, "127.0.0.0/8")
        fired = []
        for number in range(10):
            with usage_context(job_id="receipts" if number < 9 else "another"):
                client.chat.completions.create(**prompt(100))  # a tenth of the budget
            shop_here.metrics()
            fired.append(len(budgets.handler({"source": "aws.events"})["fired"]))
    assert fired == [0, 0, 0, 0, 1, 0, 0, 1, 0, 0]
    assert [(each["threshold"], Decimal(each["spent_usd"])) for each in heard] == [
        ("50%", 5 * openai_cost(100, 50)),
        ("80%", 8 * openai_cost(100, 50)),
    ]


def test_an_asynchronous_batch_of_100_calls_is_all_there(shop_here: Shop):
    manager = shop_here.manager()

    async def work() -> None:
        client = manager.wrap(async_openai_client())

        async def one(number: int) -> None:
            with usage_context(job_id=f"job-{number % 5}"):
                await client.chat.completions.create(**prompt(1 + number % 5, allowed=1 + number))

        with batch_usage_context("b-async"):
            await asyncio.gather(*map(one, range(100)))

    asyncio.run(work())
    found = shop_here.metrics()
    assert sorted((each.output_tokens, each.job_id, each.input_tokens) for each in found) == [
        (1 + number, f"job-{number % 5}", 1 + number % 5) for number in range(100)
    ]
    assert {each.batch_id for each in found} == {"b-async"}


def test_a_streamed_call_costs_what_its_last_counts_say(shop_here: Shop):
    """Anthropic's counts are cumulative: the last holds, and none is added to another."""
    begun = create_mock_anthropic_response(100, 1)
    events = [
        {"type": "message_start", "message": {**begun, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_stop", "index": 0},
        *(
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": tokens},
            }
            for tokens in (20, 50)
        ),
        {"type": "message_stop"},
    ]
    text = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events)

    def respond(_: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, text=text, headers=headers)

    client = shop_here.manager().wrap(anthropic_client(respond))
    with usage_context(job_id="streamed"):
        assert list(client.messages.create(**prompt(5, model=CLAUDE), stream=True))
    (metric,) = shop_here.metrics()
    assert (metric.stream, metric.estimated, metric.job_id) == (True, False, "streamed")
    assert metric.cost_usd == (100 * 3 + 50 * 15) / MILLION
