"""Answers and requests that no provider's documentation shows: the caller gets what the library
makes of them, and each call is recorded once."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx2
import openai
import pytest
from anthropic import Anthropic

from nilometer import ClientManager
from nilometer.integrations import googlemaps, places
from nilometer.integrations import openai as adapter
from nilometer.integrations.call import Call, Endpoint
from nilometer.integrations.stainless import Seam, attach
from tests.integrations import upstream
from tests.integrations.conftest import Metrics
from tests.integrations.test_google import client as maps_client
from tests.integrations.test_openai import ASK, ASK_RESPONSES, async_client, client


def answering(body: Any, **headers: str) -> openai.OpenAI:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return client(lambda _: httpx2.Response(200, content=content, headers=sent))


def test_a_document_too_long_to_keep_is_recorded_when_the_library_parses_it(
    manager: ClientManager, metrics: Metrics
) -> None:
    long = {**upstream.CHAT, "padding": "x" * 3_000_000}

    def chunks() -> Any:
        text = json.dumps(long).encode()
        yield from (text[start : start + 100_000] for start in range(0, len(text), 100_000))

    tracked = manager.wrap(
        client(
            lambda _: httpx2.Response(
                200, content=chunks(), headers={"content-type": "application/json"}
            )
        )
    )
    with tracked.chat.completions.with_streaming_response.create(**ASK) as response:
        assert response.parse().usage.total_tokens == 150
    (metric,) = metrics()
    assert (metric.total_tokens, metric.estimated) == (150, False)


@pytest.mark.parametrize("body", [b"{ no JSON", b"[]", b'"text"', b"null", b""])
def test_an_answer_that_is_no_object_is_a_call_without_usage(
    manager: ClientManager, metrics: Metrics, body: bytes
) -> None:
    tracked = manager.wrap(answering(body))
    assert tracked.chat.completions.with_raw_response.create(**ASK).http_response.content == body
    (metric,) = metrics()
    assert (metric.status, metric.total_tokens, metric.cost_usd) == ("success", None, None)


@pytest.mark.parametrize("usage", ["many", 5, [1]])
def test_usage_in_no_known_shape_is_no_usage(
    manager: ClientManager, metrics: Metrics, usage: Any
) -> None:
    tracked = manager.wrap(answering({**upstream.CHAT, "usage": usage, "error": "text"}))
    tracked.chat.completions.with_raw_response.create(**ASK)
    (metric,) = metrics()
    assert (metric.model, metric.total_tokens) == (upstream.CHAT["model"], None)


def test_a_body_in_a_coding_that_cannot_be_undone_fails_for_the_caller_and_is_recorded(
    manager: ClientManager, metrics: Metrics
) -> None:
    def chunks() -> Any:
        yield b"this was never compressed"

    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    tracked = manager.wrap(
        client(lambda _: httpx2.Response(200, content=chunks(), headers=headers))
    )
    with (
        pytest.raises(httpx2.DecodingError),
        tracked.chat.completions.with_streaming_response.create(**ASK) as response,
    ):
        response.read()
    del response  # nobody has read it to its end, and now nobody can
    gc.collect()
    (metric,) = metrics()
    assert (metric.estimated, metric.total_tokens) == (True, None)


def test_an_asynchronous_stream_that_breaks_off_is_recorded_with_its_error(
    manager: ClientManager, metrics: Metrics
) -> None:
    class Broken(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield upstream.chat_chunks(usage=False)[0]
            raise httpx2.ReadError("gone")

    headers = {"content-type": "text/event-stream"}

    async def run() -> None:
        tracked = manager.wrap(
            async_client(lambda _: httpx2.Response(200, stream=Broken(), headers=headers))
        )
        with pytest.raises(openai.APIConnectionError):
            async for _ in await tracked.chat.completions.create(**ASK, stream=True):
                pass
        await manager.wrap(async_client()).models.list()  # what is no call passes through

    asyncio.run(run())
    (metric,) = metrics()
    assert (metric.status, metric.error_type, metric.estimated) == ("error", "ReadError", True)


def test_a_chunk_in_no_known_shape_leaves_the_rest_of_the_stream(
    manager: ClientManager, metrics: Metrics
) -> None:
    odd = upstream.event({**upstream.CHAT, "choices": [5], "usage": None})
    events = [odd, *upstream.chat_chunks(usage=True)]
    headers = {"content-type": "text/event-stream"}
    tracked = manager.wrap(
        client(lambda _: httpx2.Response(200, content=b"".join(events), headers=headers))
    )
    stream = tracked.chat.completions.create(**ASK, stream=True)
    assert stream.response.read()
    (metric,) = metrics()
    assert metric.total_tokens == 150


def test_old_completions_are_recorded(manager: ClientManager, metrics: Metrics) -> None:
    old = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "gpt-4o-mini"}
    events = [upstream.event({**old, "choices": [{"index": 0, "text": "a"}]})]
    events += [upstream.event({**old, "choices": [], "usage": upstream.CHAT_USAGE})]
    events += [upstream.event("[DONE]")]
    headers = {"content-type": "text/event-stream"}
    tracked = manager.wrap(
        client(lambda _: httpx2.Response(200, content=b"".join(events), headers=headers))
    )
    assert list(tracked.completions.create(model="gpt-4o-mini", prompt="a", stream=True))
    claude = Anthropic(
        api_key="sk-ant",
        http_client=httpx2.Client(
            transport=httpx2.MockTransport(
                lambda _: httpx2.Response(
                    200, json={"id": "c_1", "type": "completion", "model": "claude-2.1"}
                )
            )
        ),
    )
    manager.wrap(claude).post("/v1/complete", body={"model": "claude-2.1"}, cast_to=object)
    gpt, old_claude = metrics()
    assert gpt.time_to_first_token is not None
    assert gpt.total_tokens == 150
    assert (old_claude.model, old_claude.response_id) == ("claude-2.1", "c_1")
    assert (old_claude.estimated, old_claude.cost_usd) == (True, None)


def test_an_error_event_of_a_response_is_its_error(
    manager: ClientManager, metrics: Metrics
) -> None:
    failed = {"type": "error", "code": "server_error", "message": "no", "sequence_number": 0}
    content = upstream.event(failed, "error")
    headers = {"content-type": "text/event-stream"}
    tracked = manager.wrap(client(lambda _: httpx2.Response(200, content=content, headers=headers)))
    stream = tracked.responses.create(**ASK_RESPONSES, stream=True)
    stream.response.read()
    stream.close()
    (metric,) = metrics()
    assert (metric.status, metric.error_type) == ("error", "server_error")


def test_usage_is_asked_for_in_streamed_chats_alone(manager: ClientManager) -> None:
    asked: list[dict[str, Any]] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        asked.append(json.loads(request.content))
        body = upstream.CHAT if "messages" in asked[-1] else upstream.EMBEDDING
        return httpx2.Response(200, json=body)

    tracked = adapter.wrap(client(respond), manager.tracker, include_usage=True)
    tracked.chat.completions.create(**ASK)
    tracked.embeddings.create(model="text-embedding-3-small", input="a", encoding_format="float")
    options = {"include_usage": False}
    with tracked.chat.completions.with_streaming_response.create(
        **ASK, stream=True, stream_options=options
    ):
        pass
    assert [each.get("stream_options") for each in asked] == [None, None, options]


def test_of_very_many_batches_the_latest_are_remembered(
    manager: ClientManager, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_MAX_FILES", 1)
    done = {"status_code": 200, "request_id": "r", "body": upstream.CHAT}

    def respond(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/batches":
            batches = [{"id": f"batch_{n}", "output_file_id": f"file-{n}"} for n in (1, 2)]
            return httpx2.Response(200, json={"object": "list", "data": batches})
        number = request.url.path.split("/")[3][-1]
        line = {"id": f"batch_req_{number}", "custom_id": number, "response": done}
        return httpx2.Response(200, text=json.dumps(line))

    tracked = manager.wrap(client(respond))
    tracked.batches.with_raw_response.list()
    for number in (1, 2):
        tracked.files.content(f"file-{number}")
    assert [each.batch_id for each in metrics()] == [None, "batch_2"]


def test_a_request_that_cannot_be_looked_at_passes_through() -> None:
    class Tracker:
        guarded = True

        def admit(self, *_: Any) -> None:
            raise AssertionError("nothing to admit")

    seam = Seam(Tracker(), "openai", lambda *_: 1 / 0, paths=frozenset({"/batches"}))  # type: ignore[arg-type,return-value]
    seam.admit(object())
    broken = {"requests": [{"no": "params"}]}
    seam.admit(SimpleNamespace(method="post", url="/batches", json_data=broken))
    assert seam.call(SimpleNamespace(method="post", url="/batches")) is None


def test_an_error_that_cannot_say_what_it_is_of_is_an_error(
    manager: ClientManager, metrics: Metrics
) -> None:
    endpoint = Endpoint("completion", None, lambda *_: None)
    call = Call(manager.tracker, "openai", endpoint, None, {})
    call.fail(httpx2.ConnectError("no way"))  # its `request` raises: it has none
    call.fail(ValueError("and another"))
    call.end()
    call.end()
    call.hear({})
    (metric,) = metrics()
    assert (metric.model, metric.error_type, metric.error) == ("unknown", "ConnectError", "no way")


@pytest.mark.parametrize("wrap", [googlemaps.wrap, places.wrap])
def test_what_lacks_the_seam_is_refused(manager: ClientManager, wrap: Any) -> None:
    with pytest.raises(TypeError, match="has no"):
        wrap(SimpleNamespace(), manager.tracker)
    with pytest.raises(TypeError, match="has no request"):
        attach(SimpleNamespace(), Seam(manager.tracker, "openai", lambda *_: None))


def test_a_client_of_places_wrapped_twice_is_tracked_once(
    manager: ClientManager, metrics: Metrics
) -> None:
    tracked = manager.wrap(manager.wrap(maps_client()))
    tracked.place("p1", fields=["name"])
    tracked._request("/maps/api/place/details/json", [("place_id", "p1")])
    assert [each.service for each in metrics()] == ["google_places"] * 2

    class PlacesClient:
        """As the library's, of which only the names count here."""

        def get_place(self, request: Any = None, **_: Any) -> Any:
            raise PermissionError

        search_text = search_nearby = get_photo_media = autocomplete_places = get_place

    stranger = places.wrap(places.wrap(PlacesClient(), manager.tracker), manager.tracker)
    for request in ({"session_token": "s"}, SimpleNamespace(session_token="s"), None):
        with pytest.raises(PermissionError):
            stranger.autocomplete_places(request)
    with pytest.raises(PermissionError):
        stranger.get_place({}, metadata=[("other", "x"), ("X-Goog-FieldMask", b"id")])
    failed = metrics()[2:]
    assert [each.status for each in failed] == ["error"] * 4
    assert {each.cost_usd for each in failed} <= {None, 0}


def test_a_path_is_known_with_a_query_and_an_unknown_one_is_no_call(
    manager: ClientManager, metrics: Metrics
) -> None:
    tracked = manager.wrap(client(lambda _: httpx2.Response(200, json=upstream.CHAT)))
    for path in ("/chat/completions?trace=1", "/moderations", "/files/a/b"):
        tracked.post(path, body=ASK, cast_to=object)
    (metric,) = metrics()
    assert (metric.operation, metric.total_tokens) == ("completion", 150)


def test_an_error_event_ends_a_stream_of_anthropic(
    manager: ClientManager, metrics: Metrics
) -> None:
    error = {"type": "overloaded_error", "message": "later"}
    events = [
        {"type": "message_start", "message": {"id": "msg_1", "model": "claude-sonnet-4-6"}},
        {"type": "error", "error": error},
    ]
    content = b"".join(upstream.event(each, each["type"]) for each in events)
    headers = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(200, content=content, headers=headers)
    )
    claude = Anthropic(api_key="sk-ant", http_client=httpx2.Client(transport=transport))
    stream = manager.wrap(claude).messages.create(
        model="claude-sonnet-4-6",
        max_tokens=5,
        messages=[{"role": "user", "content": "?"}],
        stream=True,
    )
    stream.response.read()
    stream.close()
    (metric,) = metrics()
    assert (metric.status, metric.error_type) == ("error", "overloaded_error")
    assert (metric.model, metric.response_id) == ("claude-sonnet-4-6", "msg_1")
    assert metric.total_tokens is None


@pytest.mark.parametrize(
    ("metadata", "mask"),
    [(None, ""), ([("x-other", "a")], ""), ([("a", "b"), ("X-Goog-FieldMask", b"id")], "id")],
)
def test_a_field_mask_is_found_among_other_metadata(metadata: Any, mask: str) -> None:
    assert places._mask(metadata) == mask
