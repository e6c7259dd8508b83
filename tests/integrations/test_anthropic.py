"""The real library of Anthropic over mock transports and a real server."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic
from pydantic import BaseModel

from nilometer import ClientManager, usage_context
from tests.integrations import upstream
from tests.integrations.conftest import Metrics

Answer = Callable[[httpx2.Request], httpx2.Response]
ASK: dict[str, Any] = {
    "model": "claude-sonnet-4-6",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "the answer?"}],
}
COST = (100 * 3 + 1000 * Decimal("0.3") + 50 * 15) / 1_000_000
"""$3, $0.30 (read from the cache, and beside the input) and $15 a million."""
BATCH = {
    "id": "msgbatch_1",
    "type": "message_batch",
    "processing_status": "ended",
    "request_counts": {"processing": 0, "succeeded": 1, "errored": 1, "canceled": 0, "expired": 0},
    "created_at": "2026-11-20T00:00:00Z",
    "expires_at": "2026-11-21T00:00:00Z",
    "ended_at": "2026-11-20T01:00:00Z",
    "archived_at": None,
    "cancel_initiated_at": None,
    "results_url": "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results",
}


class Parsed(BaseModel):
    answer: int


def answer(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json=upstream.MESSAGE, headers={"request-id": "req_1"})


def client(respond: Answer = answer, **options: Any) -> Anthropic:
    transport = httpx2.Client(transport=httpx2.MockTransport(respond))
    return Anthropic(api_key="sk-ant", http_client=transport, **options)


def async_client(respond: Answer = answer, **options: Any) -> AsyncAnthropic:
    transport = httpx2.AsyncClient(transport=httpx2.MockTransport(respond))
    return AsyncAnthropic(api_key="sk-ant", http_client=transport, **options)


def test_a_message_is_recorded_with_what_it_used_and_cost(
    manager: ClientManager, metrics: Metrics
) -> None:
    tracked = manager.wrap(client())
    with usage_context(job_id="nightly", user_id="ada"):
        message = tracked.messages.create(**ASK)
    assert type(message) is anthropic.types.Message
    (metric,) = metrics()
    assert (metric.service, metric.operation) == ("anthropic", "completion")
    assert metric.model == "claude-sonnet-4-6"
    assert metric.requested_model == "claude-sonnet-4-6"
    assert (metric.input_tokens, metric.output_tokens) == (1100, 50)
    assert metric.cost_usd == COST
    assert (metric.response_id, metric.provider_request_id) == ("msg_1", "req_1")
    assert (metric.job_id, metric.user_id, metric.service_tier) == ("nightly", "ada", "standard")


def test_parse_raw_and_read_answers_are_one_call_each(
    manager: ClientManager, metrics: Metrics
) -> None:
    tracked = manager.wrap(client())
    assert tracked.messages.parse(**ASK, output_format=Parsed).parsed_output == Parsed(answer=42)
    assert tracked.messages.with_raw_response.create(**ASK).parse().id == "msg_1"
    with tracked.messages.with_streaming_response.create(**ASK) as response:
        assert response.parse().id == "msg_1"
    tracked.with_options(timeout=3).beta.messages.create(**ASK)
    assert [each.cost_usd for each in metrics()] == [COST] * 4


def test_a_stream_is_recorded_at_its_end_with_its_last_counts(
    manager: ClientManager, metrics: Metrics
) -> None:
    with upstream.serving(upstream.events(*upstream.message_events())) as base:
        tracked = manager.wrap(Anthropic(api_key="sk-ant", base_url=base))
        stream = tracked.messages.create(**ASK, stream=True)
        assert type(stream) is anthropic.Stream
        assert len(list(stream)) == 7
        with tracked.messages.stream(**ASK) as helped:
            assert "".join(helped.text_stream) == '{"answer": 42}'
            assert helped.get_final_message().usage.output_tokens == 50
        tracked.close()
    created, helped_metric = metrics()
    for metric in (created, helped_metric):
        assert (metric.stream, metric.estimated, metric.status) == (True, False, "success")
        assert (metric.input_tokens, metric.output_tokens) == (1100, 50)
        assert metric.cost_usd == COST
        assert metric.provider_request_id == "req_1"
        assert metric.time_to_first_token is not None


def test_a_stream_that_was_not_read_to_its_end_is_estimated(
    manager: ClientManager, metrics: Metrics
) -> None:
    with upstream.serving(upstream.events(*upstream.message_events())) as base:
        tracked = manager.wrap(Anthropic(api_key="sk-ant", base_url=base))
        with tracked.messages.stream(**ASK) as closed:
            next(iter(closed))
        dropped = tracked.messages.create(**ASK, stream=True)
        next(dropped)
        del dropped
        gc.collect()
        tracked.close()
    found = metrics()
    assert [(each.estimated, each.status) for each in found] == [(True, "success")] * 2
    # What the provider had said by then.
    assert {(each.input_tokens, each.output_tokens) for each in found} == {(1100, 1)}


def test_an_error_event_in_a_stream_is_recorded(manager: ClientManager, metrics: Metrics) -> None:
    error = upstream.event(
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error"
    )
    script = upstream.events(upstream.message_events()[0], error)
    with upstream.serving(script) as base:
        tracked = manager.wrap(Anthropic(api_key="sk-ant", base_url=base))
        with pytest.raises(anthropic.APIStatusError):
            list(tracked.messages.create(**ASK, stream=True))
        tracked.close()
    (metric,) = metrics()
    assert (metric.status, metric.estimated) == ("error", True)
    assert "Overloaded" in (metric.error or "")
    assert metric.input_tokens == 1100


def test_a_failed_call_is_recorded_with_its_status_id_and_retries(
    manager: ClientManager, metrics: Metrics
) -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        headers = {"request-id": "req_9", "retry-after-ms": "1"}
        return httpx2.Response(529, json={"type": "error", "error": {}}, headers=headers)

    with pytest.raises(anthropic.APIStatusError):
        manager.wrap(client(respond)).messages.create(**ASK)
    (metric,) = metrics()
    assert (metric.http_status, metric.provider_request_id, metric.retries) == (529, "req_9", 2)
    assert (metric.status, metric.cost_usd) == ("error", None)
    assert metric.error_type is not None


def test_calls_of_a_client_with_middleware_are_recorded(
    manager: ClientManager, metrics: Metrics
) -> None:
    def passing(request: Any, call_next: Any) -> Any:
        return call_next(request)

    tracked = manager.wrap(client(middleware=[passing]))
    assert tracked.messages.create(**ASK).id == "msg_1"
    assert [each.cost_usd for each in metrics()] == [COST]


def test_the_results_of_a_batch_are_recorded_at_its_price(
    manager: ClientManager, metrics: Metrics
) -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.endswith("/results"):
            return httpx2.Response(200, json=BATCH)
        message = {**upstream.MESSAGE, "usage": {"input_tokens": 100, "output_tokens": 50}}
        refused = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
        lines = [
            {"custom_id": "a", "result": {"type": "succeeded", "message": message}},
            {"custom_id": "b", "result": {"type": "errored", "error": refused}},
            {"custom_id": "c", "result": {"type": "expired"}},
        ]
        return httpx2.Response(200, stream=_Chunks("\n".join(map(json.dumps, lines)).encode()))

    tracked = manager.wrap(client(respond))
    for _ in range(2):  # results fetched twice are paid for once
        assert len(list(tracked.messages.batches.results("msgbatch_1"))) == 3
    done, refused, expired = metrics()
    assert done.cost_usd == Decimal(100 * 3 + 50 * 15) / 2 / 1_000_000
    assert (done.service_tier, done.batch_id, done.response_id) == ("batch", "msgbatch_1", "msg_1")
    assert (refused.error_type, refused.error) == ("invalid_request_error", "no")
    assert (expired.status, expired.error_type, expired.cost_usd) == ("error", "expired", None)


def test_the_asynchronous_client_is_recorded_alike(
    manager: ClientManager, metrics: Metrics
) -> None:
    async def run(base: str) -> None:
        mocked = manager.wrap(async_client())
        await mocked.messages.create(**ASK)
        await mocked.messages.parse(**ASK, output_format=Parsed)
        await mocked.with_options(timeout=3).messages.create(**ASK)
        tracked = manager.wrap(AsyncAnthropic(api_key="sk-ant", base_url=base))
        stream = await tracked.messages.create(**ASK, stream=True)
        assert len([event async for event in stream]) == 7
        async with tracked.messages.stream(**ASK) as helped:
            assert (await helped.get_final_message()).usage.output_tokens == 50
        await tracked.close()

    with upstream.serving(upstream.events(*upstream.message_events())) as base:
        asyncio.run(run(base))
    assert [(each.cost_usd, each.estimated) for each in metrics()] == [(COST, False)] * 5


def test_asynchronous_results_of_a_batch_are_recorded(
    manager: ClientManager, metrics: Metrics
) -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.endswith("/results"):
            return httpx2.Response(200, json=BATCH)
        line = {"custom_id": "a", "result": {"type": "succeeded", "message": upstream.MESSAGE}}
        return httpx2.Response(200, stream=_AsyncChunks(json.dumps(line).encode()))

    async def run() -> None:
        tracked = manager.wrap(async_client(respond))
        results = await tracked.messages.batches.results("msgbatch_1")
        assert [each.custom_id async for each in results] == ["a"]

    asyncio.run(run())
    assert [each.batch_id for each in metrics()] == ["msgbatch_1"]


def test_the_whole_surface_of_the_client_is_there(manager: ClientManager, metrics: Metrics) -> None:
    plain = client()
    tracked = manager.wrap(client(lambda _: httpx2.Response(200, json={"input_tokens": 3})))
    assert type(tracked) is Anthropic
    assert set(dir(plain)) <= set(dir(tracked))
    for name in (each for each in dir(plain) if not each.startswith("_")):
        before = inspect.getattr_static(type(plain), name, None)
        assert inspect.getattr_static(type(tracked), name, None) is before
    counted = tracked.messages.count_tokens(model=ASK["model"], messages=ASK["messages"])
    assert counted.input_tokens == 3
    assert metrics() == []


class _Chunks(httpx2.SyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Any:
        for start in range(0, len(self._body), 100):
            yield self._body[start : start + 100]


class _AsyncChunks(httpx2.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> Any:
        for start in range(0, len(self._body), 100):
            yield self._body[start : start + 100]
