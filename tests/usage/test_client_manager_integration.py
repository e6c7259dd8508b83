"""ClientManager → tracker → price → metric → DynamoDB → query, with providers' own libraries."""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import openai
import pytest

from nilometer import carry_context, usage_context
from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.dynamodb_spend import DynamoSpend
from nilometer.budgets.spend import Span
from nilometer.domain import clock
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.dynamodb.reader import Reader
from tests.integrations import upstream
from tests.integrations.test_anthropic import BATCH
from tests.usage.ai_usage_helpers import (
    assert_usage_metric_equal,
    create_mock_anthropic_response,
    create_mock_openai_response,
    create_test_tracking_context,
)
from tests.usage.serverless import Shop, anthropic_client, openai_client, prompt

pytestmark = pytest.mark.integration

# $0.15 and $0.60 a million tokens of gpt-4o-mini, $0.02 of text-embedding-3-small
COMPLETION = (100 * Decimal("0.15") + 50 * Decimal("0.60")) / 1_000_000
EMBEDDING = 10 * Decimal("0.02") / 1_000_000


def test_a_manager_of_the_seeds_variables_makes_clients_when_they_are_asked_for(
    shop_here: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.delenv("DYNAMODB_TABLE_NAME")
    monkeypatch.setenv("DYNAMO_TABLE_NAME", shop_here.table.name)
    manager = shop_here.manager()
    assert "DYNAMO_TABLE_NAME is deprecated" in caplog.text
    assert [sink.name for sink in manager.sinks] == [f"dynamodb://{shop_here.table.name}"]
    assert manager._clients == {}
    assert not manager._delivery._started  # nor is anything connected, or a thread started
    assert manager.openai is manager.openai
    assert manager.openai.api_key == "test-key"
    assert manager.usage_tracker is manager.tracker
    assert list(manager._clients) == ["openai"]


def test_one_client_is_made_for_many_threads_that_ask_at_once(shop_here: Shop):
    manager, together = shop_here.manager(), threading.Barrier(16)

    def ask(_: int) -> openai.OpenAI:
        together.wait(60)
        return manager.openai

    with ThreadPoolExecutor(16) as pool:
        assert len({id(client) for client in pool.map(ask, range(16))}) == 1


def test_the_index_of_the_pinecone_variables_is_made_when_it_is_asked_for(
    shop_here: Shop, monkeypatch: pytest.MonkeyPatch
):
    """Its package is not ours to depend on: what it is asked for is seen by one in its place."""
    asked: list[Any] = []

    class Pinecone:
        def __init__(self, api_key: str) -> None:
            asked.append(api_key)

        def Index(self, name: str, host: str) -> tuple[str, str]:  # noqa: N802  (its name there)
            return name, host

    monkeypatch.setitem(sys.modules, "pinecone", SimpleNamespace(Pinecone=Pinecone))
    manager = shop_here.manager()
    assert asked == []
    assert manager.pinecone == ("test-index", "test.pinecone.io")
    assert manager.pinecone is manager.get_all_clients()["pinecone"]
    assert asked == ["test-key"]


def test_nothing_is_tracked_when_tracking_is_off(shop_here: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRACK_AI_USAGE", "false")
    manager = shop_here.manager()
    plain = openai_client()
    assert manager.wrap(plain) is plain
    plain.chat.completions.create(**prompt(5))
    assert manager.usage_tracker is None
    assert manager.stats().submitted == 0
    assert shop_here.metrics() == []


def test_a_wrapped_client_stays_what_it_was_and_is_tracked(shop_here: Shop):
    manager, plain = shop_here.manager(), openai_client()
    wrapped = manager.wrap(plain)
    assert type(wrapped) is openai.OpenAI
    assert wrapped.chat.completions.create(**prompt(5)).choices[0].message.content
    assert len(shop_here.metrics()) == 1


def test_a_call_is_tracked_priced_and_stored(shop_of_each: Shop):
    """The client that the manager makes, against a provider that listens; the table on both."""

    def answer(handler: Any) -> None:
        body = json.dumps(create_mock_openai_response(100, 50)).encode()
        handler.send_response(200)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(body)))
        handler.send_header("x-request-id", "req_of_the_provider")
        handler.end_headers()
        handler.wfile.write(body)

    scopes = create_test_tracking_context(batch_id="b-7")
    with upstream.serving(answer) as address:
        manager = shop_of_each.manager(openai_base_url=f"{address}/v1")
        with usage_context(**scopes):
            manager.openai.chat.completions.create(**prompt(100))
    (metric,) = shop_of_each.metrics()
    assert (metric.service, metric.model) == ("openai", "gpt-4o-mini-2024-07-18")
    assert (metric.input_tokens, metric.output_tokens, metric.total_tokens) == (100, 50, 150)
    assert (metric.job_id, metric.batch_id, metric.user_id) == ("test-job-123", "b-7", "test-user")
    assert (metric.cost_usd, metric.price_source) == (COMPLETION, "genai-prices")
    assert metric.provider_request_id == "req_of_the_provider"
    assert 0 < metric.latency_ms < 60_000
    stored = [
        item for item in shop_of_each.table.items() if item.get("TYPE") == {"S": "AIUsageMetric"}
    ]
    assert [Decimal(item["cost_usd"]["N"]) for item in stored] == [COMPLETION]


def test_an_embedding_is_tracked(shop_here: Shop):
    client = shop_here.manager().wrap(openai_client())
    client.embeddings.create(model="text-embedding-3-small", input=" ".join(["word"] * 10))
    (metric,) = shop_here.metrics()
    assert (metric.operation, metric.total_tokens) == ("embedding", 10)
    assert metric.cost_usd == EMBEDDING  # not 0: nothing is rounded


def test_calls_at_once_keep_their_jobs_apart(shop_here: Shop):
    """Every thread has a job and a number of tokens that no other has."""
    manager = shop_here.manager()
    client = manager.wrap(openai_client())
    together = threading.Barrier(20)

    def work(number: int) -> None:
        together.wait(60)
        for each in range(3):
            with usage_context(job_id=f"job-{number}"):
                client.chat.completions.create(**prompt(1 + number, allowed=1 + each))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(work, range(20)))
    found = shop_here.metrics()
    assert len({each.request_id for each in found}) == 60
    assert sorted((each.job_id, each.input_tokens, each.output_tokens) for each in found) == sorted(
        (f"job-{number}", 1 + number, 1 + each) for number in range(20) for each in range(3)
    )


def test_a_failed_call_is_stored_with_its_error(shop_here: Shop):
    def refuse(_: httpx2.Request) -> httpx2.Response:
        body = {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}
        return httpx2.Response(429, json=body, headers={"x-request-id": "req_429"})

    client = shop_here.manager().wrap(openai_client(refuse, max_retries=0))
    with pytest.raises(openai.RateLimitError), usage_context(job_id="nightly"):
        client.chat.completions.create(**prompt(5))
    (metric,) = shop_here.metrics()
    assert (metric.status, metric.error_type) == ("error", "RateLimitError")
    assert "Rate limit reached" in metric.error
    assert (metric.http_status, metric.provider_request_id) == (429, "req_429")
    assert (metric.job_id, metric.cost_usd, metric.unpriced_reason) == (
        "nightly",
        None,
        "failed_call",
    )


def test_the_results_of_a_batch_cost_half(shop_here: Shop):
    """By the evidence of the batch's own file, not by a flag of the caller's."""
    batch = {"id": "batch_1", "object": "batch", "output_file_id": "file-out"}
    done = {"status_code": 200, "request_id": "r", "body": create_mock_openai_response(100, 50)}
    lines = [
        json.dumps({"id": f"batch_req_{number}", "custom_id": str(number), "response": done})
        for number in range(3)
    ]

    def respond(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/content"):
            return httpx2.Response(200, text="\n".join(lines))
        return httpx2.Response(200, json=batch)

    client = shop_here.manager().wrap(openai_client(respond))
    with usage_context(job_id="nightly"):
        found = client.batches.retrieve("batch_1")
        client.files.content(found.output_file_id)
    metrics = shop_here.metrics()
    assert [each.cost_usd for each in metrics] == [COMPLETION / 2] * 3
    assert {(each.batch_id, each.job_id) for each in metrics} == {("batch_1", "nightly")}


def test_results_count_once_however_often_and_whenever_they_are_read(
    shop_here: Shop, monkeypatch: pytest.MonkeyPatch
):
    """Of both providers, by one process a day ago and by another one twice."""
    done = {"status_code": 200, "request_id": "r", "body": create_mock_openai_response(100, 50)}
    lines = [{"id": f"batch_req_{n}", "custom_id": str(n), "response": done} for n in range(3)]
    result = {"type": "succeeded", "message": create_mock_anthropic_response(100, 50)}
    results = [{"custom_id": str(n), "result": result} for n in range(2)]

    def respond(request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if path.endswith("/content"):
            return httpx2.Response(200, text="\n".join(map(json.dumps, lines)))
        if path.endswith("/results"):
            return httpx2.Response(200, text="\n".join(map(json.dumps, results)))
        return httpx2.Response(200, json=BATCH)

    def read(times: int) -> None:
        manager = shop_here.manager()
        files = manager.wrap(openai_client(respond)).files
        messages = manager.wrap(anthropic_client(respond)).messages
        for _ in range(times):
            assert files.content("file-out").text
            assert len(list(messages.batches.results("msgbatch_1"))) == 2
            assert manager.flush(30)

    with monkeypatch.context() as patch:
        yesterday = SimpleNamespace(
            time=lambda: time.time() - 86_400, perf_counter=time.perf_counter
        )
        patch.setattr("nilometer.sdk.tracker.time", yesterday)
        read(1)
    read(2)
    metrics = shop_here.metrics()
    assert len({each.request_id for each in metrics}) == len(metrics) == 5
    claude = Decimal(100 * 3 + 50 * 15) / 1_000_000
    today = clock.now().date()
    days = {"start_date": f"{today - timedelta(days=3)}", "end_date": f"{today}"}
    for asked in ({"aggregation": "service"}, {"aggregation": "service", "group_by": "day,model"}):
        body = shop_here.ask(**days, **asked)
        assert body["summary"]["call_count"] == 5
        cost = Decimal(body["summary"]["total_cost_usd_exact"])
        assert cost == (3 * COMPLETION + 2 * claude) / 2
    spent = DynamoSpend(reader := shop_here.table.reader()).of(
        [Span(BudgetScope(ScopeKind.GLOBAL), clock.now() - timedelta(days=3), clock.now())]
    )
    reader.close()
    assert [(each.calls, each.cost) for each in spent] == [(5, cost)]


def test_a_context_that_is_set_holds_until_it_is_cleared(shop_here: Shop):
    manager = shop_here.manager()
    client = manager.wrap(openai_client())

    def work() -> None:
        manager.set_tracking_context(job_id="nightly", batch_id="b-7")
        for number in range(3):
            client.chat.completions.create(**prompt(1 + number))
        manager.set_tracking_context(batch_id=None)
        client.chat.completions.create(**prompt(4))

    thread = threading.Thread(target=carry_context(work))
    thread.start()
    thread.join(90)
    client.chat.completions.create(**prompt(5))
    found = {each.input_tokens: (each.job_id, each.batch_id) for each in shop_here.metrics()}
    assert found == {
        **dict.fromkeys((1, 2, 3), ("nightly", "b-7")),
        4: ("nightly", None),
        5: (None, None),
    }


def test_calls_are_also_in_a_file_when_that_is_asked_for(
    shop_here: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "usage.jsonl"
    monkeypatch.setenv("TRACK_TO_FILE", "true")
    monkeypatch.setenv("TRACK_FILE", str(file))
    client = shop_here.manager().wrap(openai_client())
    with usage_context(job_id="nightly"):
        client.chat.completions.create(**prompt(100))
    (stored,) = shop_here.metrics()
    (line,) = file.read_text().splitlines()
    written = json.loads(line)
    assert (written["job_id"], Decimal(written["cost_usd"])) == ("nightly", COMPLETION)
    assert_usage_metric_equal(AIUsageMetric.from_json(line), stored)


def test_metrics_are_found_by_service_and_days(shop_here: Shop):
    manager = shop_here.manager()
    now = clock.now()
    for days, service in ((0, "openai"), (0, "anthropic"), (1, "openai"), (3, "openai")):
        manager.tracker.record(
            service=service,
            model="m",
            operation="completion",
            started_at=now - timedelta(days=days),
            job_id=f"{service}-{days}",
        )
    assert manager.flush(30)
    reader = Reader(shop_here.table.dynamodb, shop_here.table.name)
    found = reader.metrics((now - timedelta(days=1)).date(), now.date(), {"service": "openai"})
    assert sorted(each.job_id for each in found) == ["openai-0", "openai-1"]
    reader.close()


def test_a_metric_is_the_same_in_the_table_as_it_was_made(shop_here: Shop):
    """What reaches the table and comes back is what a sink in memory got, to the last field."""
    manager = shop_here.manager(sink=["memory://", shop_here.url])
    client = manager.wrap(openai_client())
    with usage_context(tags={"team": "maps"}, metadata={"é": [1, {"x": 1e-07}]}, github_pr=7):
        client.chat.completions.create(**prompt(100))
    (stored,) = shop_here.metrics()
    (kept,) = manager.sinks[0].metrics
    assert_usage_metric_equal(stored, kept)
