from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from nilometer import usage_context
from nilometer.conventions.ai_properties import BY_NAME
from nilometer.domain.identity import canonical_uuid, distinct_id_fault
from nilometer.domain.usage import TokenVector, Usage
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.errors import Unavailable
from nilometer.sdk.sinks.events import event, event_uuid
from nilometer.sdk.sinks.http import HttpSink
from tests.running import KEY, Server, running, wait_until
from tests.sdk.conftest import CALL, MakeManager

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def metric(**fields: Any) -> AIUsageMetric:
    named: dict[str, Any] = {
        "service": "openai",
        "model": "gpt-4o-mini",
        "operation": "completion",
        "timestamp": AT,
    }
    return AIUsageMetric(**(named | fields))


def sink(answer: Callable[[list[dict[str, Any]]], httpx.Response]) -> HttpSink:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.headers["content-encoding"] == "gzip"
        body = json.loads(gzip.decompress(request.content))
        assert body["api_key"] == "secret-key"
        return answer(body["batch"])

    return HttpSink("http://server:8000/", "secret-key", transport=httpx.MockTransport(handle))


def test_the_batch_goes_to_the_servers_door():
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, json={"status": "Ok"})

    server = HttpSink("http://server:8000/", "k", transport=httpx.MockTransport(handle))
    assert server.store([metric()]) == []
    assert seen == ["http://server:8000/batch"]
    assert HttpSink("https://me:secret@server/base", "k").name == "https://server"


@pytest.mark.parametrize("status", [413, 400, 422])
def test_a_refused_batch_is_halved_until_the_others_are_stored(status: int):
    stored: list[str] = []

    def answer(batch: list[dict[str, Any]]) -> httpx.Response:
        if any(each["properties"]["$ai_metadata"]["n"] == 5 for each in batch):
            return httpx.Response(status, json={"code": "odd_event", "detail": "secret text"})
        stored.extend(each["properties"]["$ai_metadata"]["n"] for each in batch)
        return httpx.Response(200)

    given = [metric(metadata={"n": n}) for n in range(11)]
    [failed] = sink(answer).store(given)
    assert (failed.metric, failed.reason, failed.permanent) == (given[5], "odd_event", True)
    assert sorted(stored) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "999999"}, 3600),
        ({"retry-after": "soon"}, 0),
        ({}, 0),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 500, 502, 408, 302, 404])
def test_other_answers_are_outages_with_their_retry_after(status, headers, seconds):
    server = sink(lambda _: httpx.Response(status, headers=headers))
    with pytest.raises(Unavailable) as outage:
        server.store([metric()])
    assert outage.value.retry_after == seconds


def test_retry_after_may_be_a_date():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    server = sink(lambda _: httpx.Response(503, headers={"retry-after": later}))
    with pytest.raises(Unavailable) as outage:
        server.store([metric()])
    assert 90 <= outage.value.retry_after <= 100


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_loses_nothing(status: int):
    with pytest.raises(Unavailable) as outage:
        sink(lambda _: httpx.Response(status)).store([metric()])
    assert outage.value.code == "key_refused"


def test_a_refusal_without_json_still_has_a_reason():
    [failed] = sink(lambda _: httpx.Response(400, text="<html>")).store([metric()])
    assert failed.reason == "http_400"


def test_an_event_has_the_names_of_the_conventions():
    vector = TokenVector(uncached_input=5, cache_read=7, cache_write_1h=2, text_output=3)
    full = metric(
        usage=Usage(
            vector=vector, convention="x", units={"web_searches": Decimal(2)}, raw={"a": 1}
        ),
        latency=0.5,
        time_to_first_token=0.1,
        stream=True,
        estimated=True,
        status="error",
        error="boom",
        error_type="Timeout",
        http_status=504,
        retries=2,
        api_calls=3,
        response_id="chatcmpl-1",
        service_tier="batch",
        job_id="j",
        batch_id="b",
        environment="production",
        developer="d",
        repository="r",
        user_id="u",
        tags=["t"],
        github_pr=5,
        metadata={"m": 1},
        cost_usd=Decimal("0.000000001"),
        price_source="sku-list",
    )
    found = event(full, "1.2.3")
    properties = found["properties"]
    assert (found["event"], found["distinct_id"]) == ("$ai_generation", "u")
    assert found["timestamp"] == AT.isoformat()
    assert properties["$ai_usage"] == {"a": 1}
    assert properties["$ai_input_tokens"] == 14
    assert properties["$ai_cache_creation_input_tokens"] == 2
    assert properties["$ai_total_cost_usd"] == "0.000000001"
    assert properties["$ai_cost_stated"] is True
    assert properties["$ai_web_search_count"] == 2
    assert (properties["$ai_job_id"], properties["$ai_tags"]) == ("j", ["t"])
    for name, value in properties.items():
        if name in BY_NAME and BY_NAME[name].kind.column_type is not None:
            assert BY_NAME[name].kind.read(value) is not None, name


def test_costs_by_the_book_are_left_to_the_servers_book():
    booked = metric(cost_usd=Decimal(1), price_source="genai-prices")
    assert "$ai_total_cost_usd" not in event(booked, "1")["properties"]
    told = event(metric(reported_cost_usd=Decimal(2)), "1")["properties"]
    assert told["$ai_total_cost_usd"] == "2"
    assert "$ai_cost_stated" not in told


@pytest.mark.parametrize("stated", [Decimal(0), Decimal("0.5")])
def test_what_the_caller_states_goes_to_the_server_beside_a_price_of_the_library(stated: Decimal):
    """The server's book may know no price; then it counts, a 0 too, and before a reported one."""
    booked = metric(
        cost_usd=Decimal(1),
        price_source="override:own",
        stated_cost_usd=stated,
        reported_cost_usd=Decimal(2),
    )
    told = event(booked, "1")["properties"]
    assert (told["$ai_total_cost_usd"], told["$ai_cost_stated"]) == (str(stated), True)


def test_embeddings_and_strangers():
    found = event(metric(operation="embedding"), "1")
    assert (found["event"], found["properties"]["$ai_user_id"]) == ("$ai_embedding", None)


ODD = ["tab\there", "two\nlines", "\x1b[31mred", "nul\0", "é" * 1024, "a" * 1001, "\x9b"]
"""Users that a metric may have and a distinct id may not."""


@pytest.mark.parametrize("user", ODD)
def test_a_user_that_is_no_distinct_id_is_told_beside_it(user: str):
    first, again = event(metric(user_id=user), "1"), event(metric(user_id=user), "1")
    assert distinct_id_fault(user)
    assert not distinct_id_fault(first["distinct_id"])
    assert first["distinct_id"] == again["distinct_id"] != event(metric(), "1")["distinct_id"]
    assert first["properties"]["$ai_user_id"] == user


def test_a_metric_is_always_the_same_event():
    ours = metric()
    assert event_uuid(ours.request_id) == ours.request_id
    named = event_uuid("my own id")
    assert named == event_uuid("my own id") == canonical_uuid(named)
    assert named != event_uuid("my other id")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("sdk") / "data") as server:
        yield server


def events_of(server: Server) -> list[dict[str, Any]]:
    query = (
        "SELECT uuid, event, properties.$ai_job_id, properties.$ai_model, timestamp FROM events"
        " WHERE properties.$ai_job_id IN ('nightly', 'repeated') ORDER BY timestamp"
    )
    with server.client() as client:
        answer = client.post("/api/projects/1/query/", json={"query": {"query": query}})
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def test_a_real_server_has_each_metric_once(server: Server, make_manager: MakeManager):
    manager = make_manager(server.url, api_key=KEY)
    with usage_context(job_id="nightly"):
        for number in range(30):
            manager.tracker.record(
                **(CALL | {"service": "openai", "model": "gpt-4o-mini"}),
                usage={"prompt_tokens": 10, "completion_tokens": number},
                response_id=f"chatcmpl-0123456789abcdef{number}",
            )
    assert manager.flush(20), manager.stats()
    assert manager.stats().stored == 30
    again = HttpSink(server.url, KEY)
    repeated = metric(job_id="repeated")
    for _ in range(3):
        assert again.store([repeated]) == []
    again.close()
    wait_until(lambda: len(events_of(server)) == 31)
    rows = events_of(server)
    [at] = [row[-1] for row in rows if "repeated" in str(row)]
    assert datetime.fromisoformat(at).replace(tzinfo=UTC) == AT, "the day that other stores have"
    assert sum("nightly" in str(row) for row in rows) == 30


def test_a_real_server_counts_the_calls_of_every_user(server: Server, make_manager: MakeManager):
    manager = make_manager(server.url, api_key=KEY)
    for user in ODD:
        manager.tracker.record(**CALL, user_id=user, job_id="odd")
    assert manager.flush(20), manager.stats()
    assert manager.stats().stored == len(ODD)

    def users() -> set[str]:
        with server.client() as client:
            answer = client.get("/ai_usage", params={"job": "odd", "aggregation": "user"})
        return set(answer.json()["aggregations"]["by_user"])

    wait_until(lambda: len(users()) == len(ODD))
    assert users() == set(ODD)


def test_a_wrong_key_keeps_everything_on_disk(server: Server, make_manager: MakeManager):
    manager = make_manager(server.url, api_key="phc_nobody-knows-this-key-0123456789")
    manager.tracker.record(**CALL)
    assert not manager.flush(1)
    wait_until(lambda: manager.stats().spooled == 1)
