"""The real library of OpenAI over mock transports and a real server."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, AzureOpenAI, OpenAI
from pydantic import BaseModel

from nilometer import ClientManager, usage_context
from nilometer.integrations.openai import wrap
from tests.integrations import upstream
from tests.integrations.conftest import Metrics

Answer = Callable[[httpx2.Request], httpx2.Response]
ASK: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "the answer?"}],
}
ASK_RESPONSES: dict[str, Any] = {"model": "gpt-4o-mini", "input": "the answer?"}


class Parsed(BaseModel):
    answer: int


def answer(request: httpx2.Request) -> httpx2.Response:
    bodies = {
        "/v1/chat/completions": upstream.CHAT,
        "/v1/embeddings": upstream.EMBEDDING,
        "/v1/responses": upstream.RESPONSE,
        "/v1/models": {"object": "list", "data": []},
    }
    return httpx2.Response(200, json=bodies[request.url.path], headers={"x-request-id": "req_1"})


def client(respond: Answer = answer, **options: Any) -> OpenAI:
    transport = httpx2.Client(transport=httpx2.MockTransport(respond))
    return OpenAI(api_key="sk-test", http_client=transport, **options)


def async_client(respond: Answer = answer, **options: Any) -> AsyncOpenAI:
    transport = httpx2.AsyncClient(transport=httpx2.MockTransport(respond))
    return AsyncOpenAI(api_key="sk-test", http_client=transport, **options)


def test_a_chat_is_recorded_with_what_it_used_and_cost(
    manager: ClientManager, metrics: Metrics
) -> None:
    tracked = manager.wrap(client())
    with usage_context(job_id="nightly"):
        completion = tracked.chat.completions.create(**ASK)
    assert completion.usage is not None
    assert completion.usage.total_tokens == 150
    (metric,) = metrics()
    assert (metric.service, metric.operation) == ("openai", "completion")
    assert metric.model == "gpt-4o-mini-2024-07-18"
    assert metric.requested_model == "gpt-4o-mini"
    assert (metric.input_tokens, metric.output_tokens) == (100, 50)
    assert metric.usage is not None
    assert metric.usage.vector is not None
    assert metric.usage.vector.cache_read == 40
    # $0.15 and $0.075 (cached) a million of input, $0.60 of output
    assert metric.cost_usd == (60 * Decimal("0.15") + 40 * Decimal("0.075") + 30) / 1_000_000
    assert metric.response_id == "chatcmpl-1"
    assert metric.provider_request_id == "req_1"
    assert (metric.http_status, metric.retries, metric.status) == (200, 0, "success")
    assert (metric.job_id, metric.stream, metric.estimated) == ("nightly", False, False)
    assert metric.latency is not None


def test_parse_is_one_call_and_keeps_its_result(manager: ClientManager, metrics: Metrics) -> None:
    tracked = manager.wrap(client())
    parsed = tracked.chat.completions.parse(**ASK, response_format=Parsed)
    assert parsed.choices[0].message.parsed == Parsed(answer=42)
    answered = tracked.responses.parse(**ASK_RESPONSES, text_format=Parsed)
    assert answered.output_parsed == Parsed(answer=42)
    assert [each.operation for each in metrics()] == ["completion", "response"]


def test_a_response_and_an_embedding_are_recorded(manager: ClientManager, metrics: Metrics) -> None:
    tracked = manager.wrap(client())
    tracked.responses.create(**ASK_RESPONSES)
    tracked.embeddings.create(model="text-embedding-3-small", input="x", encoding_format="float")
    response, embedding = metrics()
    assert (response.operation, embedding.operation) == ("response", "embedding")
    assert response.usage is not None
    assert response.usage.vector is not None
    assert (response.usage.vector.reasoning, response.usage.vector.text_output) == (5, 15)
    assert (embedding.input_tokens, embedding.output_tokens) == (10, 0)
    assert embedding.cost_usd == Decimal("0.0000002")


def test_a_raw_answer_is_recorded_once_whether_it_is_parsed_or_not(
    manager: ClientManager, metrics: Metrics
) -> None:
    tracked = manager.wrap(client())
    raw = tracked.chat.completions.with_raw_response.create(**ASK)
    assert raw.headers["x-request-id"] == "req_1"
    assert len(metrics()) == 1
    assert raw.parse().id == "chatcmpl-1"
    (metric,) = metrics()
    assert metric.total_tokens == 150


@pytest.mark.parametrize("how", ["parse", "json", "iter_bytes"])
def test_an_answer_read_by_the_caller_is_recorded_however_it_is_read(
    manager: ClientManager, metrics: Metrics, how: str
) -> None:
    tracked = manager.wrap(client())
    with tracked.chat.completions.with_streaming_response.create(**ASK) as response:
        read = getattr(response, how)()
        if how == "iter_bytes":
            assert json.loads(b"".join(read))["id"] == "chatcmpl-1"
    del response
    (metric,) = metrics()
    assert (metric.total_tokens, metric.stream, metric.estimated) == (150, False, False)


def test_a_stream_is_recorded_at_its_end_with_the_time_to_its_first_token(
    manager: ClientManager, metrics: Metrics
) -> None:
    with upstream.serving(upstream.events(*upstream.chat_chunks(usage=True))) as base:
        tracked = manager.wrap(OpenAI(api_key="sk-test", base_url=base))
        with usage_context(job_id="nightly"):  # over before the stream is read
            stream = tracked.chat.completions.create(
                **ASK, stream=True, stream_options={"include_usage": True}
            )
        assert type(stream) is openai.Stream
        assert metrics() == []
        assert len(list(stream)) == 5
        tracked.close()
    (metric,) = metrics()
    assert (metric.stream, metric.estimated, metric.status) == (True, False, "success")
    assert (metric.total_tokens, metric.response_id) == (150, "chatcmpl-2")
    assert (metric.provider_request_id, metric.job_id) == ("req_1", "nightly")
    assert metric.time_to_first_token is not None
    assert metric.latency is not None
    assert 0 < metric.time_to_first_token < metric.latency


def test_a_stream_without_usage_is_estimated_and_unpriced(
    manager: ClientManager, metrics: Metrics
) -> None:
    sent: list[Any] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        sent.append(json.loads(request.content))
        return _events(b"".join(upstream.chat_chunks(usage=False)))

    list(manager.wrap(client(respond)).chat.completions.create(**ASK, stream=True))
    (metric,) = metrics()
    assert (metric.estimated, metric.cost_usd, metric.status) == (True, None, "success")
    assert sent == [{**ASK, "stream": True}]  # and the caller's arguments are as they were


def test_usage_is_asked_for_where_the_caller_opted_in(
    manager: ClientManager, metrics: Metrics
) -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        asked = json.loads(request.content).get("stream_options") == {"include_usage": True}
        return _events(b"".join(upstream.chat_chunks(usage=asked)))

    tracked = wrap(client(respond), manager.tracker, include_usage=True)
    list(tracked.chat.completions.create(**ASK, stream=True))
    (metric,) = metrics()
    assert (metric.estimated, metric.total_tokens) == (False, 150)


def test_the_helpers_of_streams_are_one_call_each(manager: ClientManager, metrics: Metrics) -> None:
    with upstream.serving(upstream.events(*upstream.chat_chunks(usage=True))) as base:
        tracked = manager.wrap(OpenAI(api_key="sk-test", base_url=base))
        with tracked.chat.completions.stream(**ASK, response_format=Parsed) as stream:
            final = stream.get_final_completion()
        assert final.choices[0].message.parsed == Parsed(answer=42)
        tracked.close()
    with upstream.serving(upstream.events(*upstream.response_events())) as base:
        tracked = manager.wrap(OpenAI(api_key="sk-test", base_url=base))
        with tracked.responses.stream(**ASK_RESPONSES, text_format=Parsed) as responses:
            assert responses.get_final_response().output_parsed == Parsed(answer=42)
        tracked.close()
    chat, response = metrics()
    assert (chat.total_tokens, chat.estimated) == (150, False)
    assert (response.total_tokens, response.estimated) == (50, False)
    assert response.time_to_first_token is not None


def test_a_stream_closed_before_its_end_is_recorded_as_estimated(
    manager: ClientManager, metrics: Metrics
) -> None:
    with upstream.serving(upstream.events(*upstream.chat_chunks(usage=True))) as base:
        tracked = manager.wrap(OpenAI(api_key="sk-test", base_url=base))
        with tracked.chat.completions.create(**ASK, stream=True) as stream:
            next(stream)
        assert len(metrics()) == 1
        with pytest.raises(ZeroDivisionError):
            _leave(tracked.chat.completions.create(**ASK, stream=True))
        tracked.close()
    assert [(each.estimated, each.status) for each in metrics()] == [(True, "success")] * 2


def test_a_stream_that_nobody_reads_is_recorded_when_it_is_collected(
    manager: ClientManager, metrics: Metrics
) -> None:
    with upstream.serving(upstream.events(*upstream.chat_chunks(usage=True))) as base:
        tracked = manager.wrap(OpenAI(api_key="sk-test", base_url=base))
        stream = tracked.chat.completions.create(**ASK, stream=True)
        next(stream)
        unread = tracked.chat.completions.create(**ASK, stream=True)
        assert metrics() == []
        del stream, unread
        gc.collect()
        tracked.close()
    assert [(each.estimated, each.status) for each in metrics()] == [(True, "success")] * 2


def test_a_stream_that_breaks_off_is_recorded_with_its_error(
    manager: ClientManager, metrics: Metrics
) -> None:
    def script(handler: BaseHTTPRequestHandler) -> None:
        upstream.begin_events(handler)
        upstream.send(handler, upstream.chat_chunks(usage=True)[1])
        handler.close_connection = True

    with upstream.serving(script) as base:
        tracked = manager.wrap(OpenAI(api_key="sk-test", base_url=base))
        with pytest.raises(openai.APIConnectionError):
            list(tracked.chat.completions.create(**ASK, stream=True))
        tracked.close()
    (metric,) = metrics()
    assert (metric.status, metric.error_type) == ("error", "RemoteProtocolError")
    assert (metric.estimated, metric.stream) == (True, True)


def test_an_error_event_in_a_stream_is_recorded(manager: ClientManager, metrics: Metrics) -> None:
    error = upstream.event({"error": {"message": "overloaded", "type": "server_error"}})
    chunk = upstream.chat_chunks(usage=True)[1]
    with upstream.serving(upstream.events(chunk, error)) as base:
        tracked = manager.wrap(OpenAI(api_key="sk-test", base_url=base))
        with pytest.raises(openai.APIError):
            list(tracked.chat.completions.create(**ASK, stream=True))
        tracked.close()
    mocked = manager.wrap(client(lambda _: _events(chunk + error)))
    with pytest.raises(openai.APIError):
        list(mocked.chat.completions.create(**ASK, stream=True))
    found = [(each.status, each.error_type, each.error) for each in metrics()]
    assert found == [("error", kind, "overloaded") for kind in ("APIError", "server_error")]


def test_a_response_that_failed_is_an_error_with_its_usage(
    manager: ClientManager, metrics: Metrics
) -> None:
    failed = {
        **upstream.RESPONSE,
        "status": "failed",
        "error": {"code": "server_error", "message": "it broke"},
    }
    manager.wrap(client(lambda _: httpx2.Response(200, json=failed))).responses.create(
        **ASK_RESPONSES
    )
    (metric,) = metrics()
    assert (metric.status, metric.error_type, metric.error) == ("error", "server_error", "it broke")
    assert metric.cost_usd is not None


def test_events_read_as_bytes_are_understood(manager: ClientManager, metrics: Metrics) -> None:
    with upstream.serving(upstream.events(*upstream.chat_chunks(usage=True))) as base:
        tracked = manager.wrap(OpenAI(api_key="sk-test", base_url=base))
        raw = tracked.chat.completions.with_streaming_response
        with raw.create(**ASK, stream=True) as response:
            assert sum(line.startswith("data:") for line in response.iter_lines()) == 6
        tracked.close()
    (metric,) = metrics()
    assert (metric.total_tokens, metric.stream, metric.estimated) == (150, True, False)


def test_a_failed_call_is_recorded_with_its_status_id_and_retries(
    manager: ClientManager, metrics: Metrics
) -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        headers = {"x-request-id": "req_9", "retry-after-ms": "1"}
        return httpx2.Response(429, json={"error": {"message": "slow down"}}, headers=headers)

    tracked = manager.wrap(client(respond))
    with pytest.raises(openai.RateLimitError):
        tracked.chat.completions.create(**ASK)
    (metric,) = metrics()
    assert (metric.status, metric.error_type) == ("error", "RateLimitError")
    assert (metric.http_status, metric.provider_request_id, metric.retries) == (429, "req_9", 2)
    assert (metric.model, metric.cost_usd, metric.estimated) == ("gpt-4o-mini", None, False)
    assert "slow down" in (metric.error or "")


def test_a_retried_call_is_one_with_its_retries(manager: ClientManager, metrics: Metrics) -> None:
    answers = [httpx2.Response(500, headers={"retry-after-ms": "1"}), None]

    def respond(request: httpx2.Request) -> httpx2.Response:
        return answers.pop(0) or answer(request)

    manager.wrap(client(respond)).chat.completions.create(**ASK)
    (metric,) = metrics()
    assert (metric.status, metric.retries) == ("success", 1)


def test_a_broken_connection_is_recorded(manager: ClientManager, metrics: Metrics) -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("nobody there")

    with pytest.raises(openai.APIConnectionError):
        manager.wrap(client(respond, max_retries=0)).chat.completions.create(**ASK)
    (metric,) = metrics()
    assert (metric.error_type, metric.http_status) == ("APIConnectionError", None)


def test_an_answer_that_the_caller_cannot_use_has_cost_all_the_same(
    manager: ClientManager, metrics: Metrics
) -> None:
    cut = json.loads(json.dumps(upstream.CHAT))
    cut["choices"][0]["finish_reason"] = "length"
    tracked = manager.wrap(client(lambda _: httpx2.Response(200, json=cut)))
    with pytest.raises(openai.LengthFinishReasonError):
        tracked.chat.completions.parse(**ASK, response_format=Parsed)
    (metric,) = metrics()
    assert (metric.status, metric.error_type) == ("error", "LengthFinishReasonError")
    assert metric.cost_usd is not None


def test_clones_are_tracked_and_a_client_wrapped_twice_is_tracked_once(
    manager: ClientManager, metrics: Metrics
) -> None:
    plain = client()
    tracked = manager.wrap(manager.wrap(plain))
    assert tracked is plain
    assert type(tracked) is OpenAI
    tracked.with_options(timeout=3).chat.completions.create(**ASK)
    tracked.copy(max_retries=1).with_options(timeout=2).chat.completions.create(**ASK)
    tracked.with_raw_response.embeddings.create(model="m", input="x", encoding_format="float")
    assert len(metrics()) == 3


def test_another_server_is_told_by_its_address(manager: ClientManager, metrics: Metrics) -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_cache_hit_tokens": 40,
        "prompt_cache_miss_tokens": 60,
        "total_tokens": 150,
    }
    body = {**upstream.CHAT, "model": "deepseek-chat", "usage": usage}
    tracked = manager.wrap(client(lambda _: httpx2.Response(200, json=body)))
    tracked.with_options(base_url="https://api.deepseek.com").chat.completions.create(**ASK)
    (metric,) = metrics()
    assert metric.service == "deepseek"
    assert metric.usage is not None
    assert metric.usage.vector is not None
    assert metric.usage.vector.cache_read == 40


def test_what_is_no_call_to_a_model_passes_through(
    manager: ClientManager, metrics: Metrics
) -> None:
    with manager.wrap(client()) as tracked:
        assert list(tracked.models.list()) == []
    assert tracked.is_closed()
    assert metrics() == []


def test_the_whole_surface_of_the_client_is_there(manager: ClientManager) -> None:
    for plain, tracked in (
        (client(), manager.wrap(client())),
        (async_client(), manager.wrap(async_client())),
    ):
        assert set(dir(plain)) <= set(dir(tracked))
        for name in (each for each in dir(plain) if not each.startswith("_")):
            before = inspect.getattr_static(type(plain), name, None)
            assert inspect.getattr_static(type(tracked), name, None) is before
        for resource in ("chat", "responses", "embeddings", "batches", "files", "beta"):
            assert type(getattr(tracked, resource)) is type(getattr(plain, resource))


def test_an_azure_client_is_azures(manager: ClientManager, metrics: Metrics) -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/openai/deployments/gpt-4o-mini/chat/completions"
        return httpx2.Response(200, json=upstream.CHAT, headers={"apim-request-id": "a-1"})

    azure = AzureOpenAI(
        api_key="k",
        azure_endpoint="https://example.openai.azure.com",
        api_version="2024-10-21",
        http_client=httpx2.Client(transport=httpx2.MockTransport(respond)),
    )
    manager.wrap(azure).chat.completions.create(**ASK)
    (metric,) = metrics()
    assert (metric.service, metric.provider_request_id) == ("azure", "a-1")
    assert metric.cost_usd is not None


def test_the_results_of_a_batch_are_recorded_at_its_price(
    manager: ClientManager, metrics: Metrics
) -> None:
    batch = {
        "id": "batch_1",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "created_at": 1,
        "input_file_id": "file-in",
        "output_file_id": "file-out",
        "status": "completed",
    }
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    uncached = {**upstream.CHAT, "usage": usage}
    good = {"status_code": 200, "request_id": "req_b1", "body": uncached}
    bad = {"status_code": 400, "request_id": "req_b2", "body": {"error": {"message": "no"}}}
    lines = [
        {"id": "batch_req_1", "custom_id": "a", "response": good, "error": None},
        {"id": "batch_req_2", "custom_id": "b", "response": bad, "error": None},
    ]
    files = {
        "/v1/files/file-out/content": "\n".join(map(json.dumps, lines)),
        "/v1/files/file-other/content": '{"id": "something else", "response": {}}\nplain text',
    }

    def respond(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/batches/batch_1":
            return httpx2.Response(200, json=batch)
        return httpx2.Response(200, text=files[request.url.path])

    tracked = manager.wrap(client(respond))
    found = tracked.batches.retrieve("batch_1")
    assert found.output_file_id is not None
    for _ in range(2):  # a file fetched twice is paid for once
        assert (
            tracked.files.content(found.output_file_id).text == files["/v1/files/file-out/content"]
        )
    tracked.files.content("file-other")
    done, failed = metrics()
    assert (done.service_tier, done.batch_id, done.operation) == ("batch", "batch_1", "completion")
    assert done.provider_request_id == "req_b1"
    assert done.cost_usd == (100 * Decimal("0.15") + 50 * Decimal("0.60")) / 2 / 1_000_000
    assert (failed.status, failed.error, failed.http_status) == ("error", "no", 400)
    assert failed.cost_usd is None


def test_the_asynchronous_client_is_recorded_alike(
    manager: ClientManager, metrics: Metrics
) -> None:
    async def run() -> None:
        tracked = manager.wrap(async_client())
        assert type(tracked) is AsyncOpenAI
        await tracked.chat.completions.create(**ASK)
        await tracked.chat.completions.parse(**ASK, response_format=Parsed)
        await tracked.with_options(timeout=3).responses.create(**ASK_RESPONSES)
        raw = await tracked.chat.completions.with_raw_response.create(**ASK)
        assert raw.parse().id == "chatcmpl-1"
        asked = tracked.chat.completions.with_streaming_response.create(**ASK)
        async with asked as response:
            assert (await response.parse()).id == "chatcmpl-1"
        await tracked.embeddings.create(model="m", input="x", encoding_format="float")
        await tracked.close()

    asyncio.run(run())
    found = metrics()
    assert len(found) == 6
    assert [each.total_tokens for each in found] == [150, 150, 50, 150, 150, 10]
    assert {each.provider_request_id for each in found} == {"req_1"}


def test_asynchronous_streams_are_recorded_alike(manager: ClientManager, metrics: Metrics) -> None:
    async def run(base: str) -> None:
        tracked = manager.wrap(AsyncOpenAI(api_key="sk-test", base_url=base))
        usage: Any = {"include_usage": True}
        stream = await tracked.chat.completions.create(**ASK, stream=True, stream_options=usage)
        assert type(stream) is openai.AsyncStream
        assert len([chunk async for chunk in stream]) == 5
        async with tracked.chat.completions.stream(**ASK, response_format=Parsed) as helped:
            final = await helped.get_final_completion()
        assert final.choices[0].message.parsed == Parsed(answer=42)
        async with await tracked.chat.completions.create(**ASK, stream=True) as closed:
            await anext(closed)
        dropped = await tracked.chat.completions.create(**ASK, stream=True)
        await anext(dropped)
        del dropped
        gc.collect()
        await tracked.close()

    with upstream.serving(upstream.events(*upstream.chat_chunks(usage=True))) as base:
        asyncio.run(run(base))
    assert [each.estimated for each in metrics()] == [False, False, True, True]


def test_an_asynchronous_call_that_is_cancelled_is_recorded(
    manager: ClientManager, metrics: Metrics
) -> None:
    async def run() -> None:
        asked = asyncio.Event()

        async def never(request: httpx2.Request) -> httpx2.Response:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        transport = httpx2.AsyncClient(transport=httpx2.MockTransport(never))
        tracked = manager.wrap(AsyncOpenAI(api_key="sk-test", http_client=transport))
        task = asyncio.ensure_future(tracked.chat.completions.create(**ASK))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    (metric,) = metrics()
    assert (metric.status, metric.error_type) == ("error", "CancelledError")


def test_threads_on_one_client_keep_their_jobs_apart(
    manager: ClientManager, metrics: Metrics
) -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        content = json.loads(request.content)["messages"][0]["content"]
        return httpx2.Response(200, json={**upstream.CHAT, "id": content})

    tracked = manager.wrap(client(respond))

    def ask(number: int) -> None:
        with usage_context(job_id=f"job-{number}"):
            tracked.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": f"id-{number}"}]
            )

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(ask, range(200)))
    found = {each.job_id: each.response_id for each in metrics()}
    assert found == {f"job-{number}": f"id-{number}" for number in range(200)}


def test_tasks_on_one_client_keep_their_jobs_apart(
    manager: ClientManager, metrics: Metrics
) -> None:
    async def respond(request: httpx2.Request) -> httpx2.Response:
        content = json.loads(request.content)["messages"][0]["content"]
        await asyncio.sleep(0)
        return httpx2.Response(200, json={**upstream.CHAT, "id": content})

    async def run() -> None:
        transport = httpx2.AsyncClient(transport=httpx2.MockTransport(respond))
        tracked = manager.wrap(AsyncOpenAI(api_key="sk-test", http_client=transport))

        async def ask(number: int) -> None:
            with usage_context(job_id=f"job-{number}"):
                await tracked.chat.completions.create(
                    model="gpt-4o-mini", messages=[{"role": "user", "content": f"id-{number}"}]
                )

        await asyncio.gather(*map(ask, range(200)))

    asyncio.run(run())
    found = {each.job_id: each.response_id for each in metrics()}
    assert found == {f"job-{number}": f"id-{number}" for number in range(200)}


def test_a_client_that_no_adapter_knows_is_refused(manager: ClientManager) -> None:
    with pytest.raises(TypeError, match="no adapter knows"):
        manager.wrap(object())
    with pytest.raises(TypeError, match="can be tracked"):
        manager.wrap(client().chat)


def _events(body: bytes) -> httpx2.Response:
    return httpx2.Response(200, content=body, headers={"content-type": "text/event-stream"})


def _leave(stream: openai.Stream[Any]) -> None:
    with stream:
        for _ in stream:
            _ = 1 / 0  # the caller's own, and none of the provider's
