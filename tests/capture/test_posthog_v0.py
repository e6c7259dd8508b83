"""PostHog's JSON doors of before v1, over HTTP: what they take, whose it is, what they refuse."""

import base64
import gzip
import json
import zlib
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
import zstandard

from nilometer.access.types import CaptureMode, KeyKind, Scope
from nilometer.domain import posthog_record
from nilometer.domain.identity import canonical_uuid
from nilometer.domain.posthog_record import PostHogRecord
from nilometer.log.port import LogFull, LogUnavailable
from tests.capture.door import Door, new_uuid, open_door

PATHS = ("/batch", "/capture", "/e", "/i/v0/e", "/track", "/i/v0/ai/batch")


def sent(**fields: Any) -> dict[str, Any]:
    """A small valid event."""
    known = {"event": "$ai_span", "distinct_id": "someone", "uuid": new_uuid(), "properties": {}}
    return known | fields


def batch(door: Door, *events: Any, **fields: Any) -> dict[str, Any]:
    return {"batch": list(events), "api_key": door.key} | fields


def post(door: Door, body: Any, path: str = "/batch/", **options: Any) -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(f"http://127.0.0.1:{door.port}{path}", data=data, timeout=30, **options)


def record(door: Door) -> PostHogRecord:
    """The only record that was appended."""
    [envelope] = door.log.envelopes
    assert (envelope.project_id, envelope.door) == (door.project, "posthog")
    assert canonical_uuid(envelope.uuid) == envelope.uuid
    assert door.key.encode() not in envelope.payload
    return posthog_record.decode(envelope.payload)


def refused(door: Door, response: requests.Response, status: int, text: str) -> None:
    assert (response.status_code, text in response.text) == (status, True), response.text
    assert door.log.envelopes == []


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("path", PATHS)
def test_every_path_takes_a_batch_as_one_record(door: Door, path: str, slash: str):
    first, second = sent(), sent()
    response = post(door, batch(door, first, second), path + slash)
    assert (response.status_code, response.text) == (200, '{"status":"Ok"}')
    kept = record(door)
    assert [json.loads(each.text) for each in kept.events] == [first, second]
    assert [each.uuid for each in kept.events] == [first["uuid"], second["uuid"]]
    assert (kept.protocol, kept.retention_days, kept.ip) == ("v0", 30, "127.0.0.1")


@pytest.mark.parametrize("place", ["api_key", "token", "$token"])
def test_a_single_event_and_an_array_carry_their_key_in_each_event(door: Door, place: str):
    for body in (sent() | {place: door.key}, [sent() | {place: door.key}, sent()]):
        door.log.envelopes.clear()
        assert post(door, body).status_code == 200
        assert all(place not in json.loads(each.text) for each in record(door).events)


def test_a_key_among_the_properties_counts_and_is_left_out(door: Door):
    """As posthog-js sends it. A property of that name that is no key stays."""
    mine = sent(properties={"token": door.key, "x": 1.10, "$token": "not a key"})
    assert post(door, [mine]).status_code == 200
    [event] = record(door).events
    assert json.loads(event.text)["properties"] == {"x": 1.1, "$token": "not a key"}


def test_the_key_of_the_batch_counts_before_those_of_its_events(door: Door):
    assert post(door, batch(door, sent(token="another"))).status_code == 200
    assert b"another" not in record(door).events[0].text


def test_every_number_and_string_keeps_the_text_that_was_sent(door: Door):
    text = (
        '{"event":"e", "distinct_id":"d" ,"properties":{"a":1.10,"b":9007199254740993,'
        '"c":1e400,"d":"\\u00e9\\ud83d\\ude00"}}'
    )
    assert post(door, f'{{"batch":[{text}],"api_key":"{door.key}"}}'.encode()).status_code == 200
    assert record(door).events[0].text.decode() == text
    door.log.envelopes.clear()
    with_key = text.replace('"properties"', f'"api_key":"{door.key}","properties"')
    assert post(door, with_key.encode()).status_code == 200
    properties = record(door).events[0].text.decode().partition('"properties":')[2]
    assert properties == text.partition('"properties":')[2]


@pytest.mark.parametrize("uuid", ["", None])
def test_an_event_without_a_uuid_gets_one_of_version_7_in_the_record(door: Door, uuid: str | None):
    bare = sent()
    del bare["uuid"]
    assert post(door, batch(door, sent(uuid=uuid), bare)).status_code == 200
    made = [each.uuid for each in record(door).events]
    assert len(set(made)) == 2
    assert {(canonical_uuid(each) == each, each[14], each[19] in "89ab") for each in made} == {
        (True, "7", True)
    }


def test_of_one_uuid_the_first_of_a_batch_wins(door: Door):
    uuid = new_uuid()
    events = [sent(uuid=uuid, event="first"), sent(uuid=uuid.upper(), event="second")]
    assert post(door, batch(door, *events)).status_code == 200
    [event] = record(door).events
    assert (event.uuid, json.loads(event.text)["event"]) == (uuid, "first")


@pytest.mark.parametrize(
    "identity",
    [
        {"distinct_id": "a"},
        {"$distinct_id": "a"},
        {"properties": {"distinct_id": "a"}},
        {"distinct_id": 23},
        {"distinct_id": ["a", 1]},
        {"distinct_id": False},
        {"distinct_id": None, "$distinct_id": "a"},
    ],
)
def test_the_identity_may_be_anywhere_and_any_value(door: Door, identity: dict[str, Any]):
    event = {"event": "e", "uuid": new_uuid()} | identity
    assert post(door, batch(door, event)).status_code == 200
    record(door)


def test_engage_takes_an_update_of_a_person_and_no_other_path_does(door: Door):
    update = {"$token": door.key, "$distinct_id": "d", "$set": {"plan": "pro"}}
    refused(door, post(door, update, "/capture/"), 400, "with an empty event name")
    assert post(door, update, "/engage/").status_code == 200
    assert record(door).engage


@pytest.mark.parametrize(
    ("headers", "query", "encode"),
    [
        ({"Content-Encoding": "gzip"}, "", gzip.compress),
        ({"Content-Encoding": "deflate"}, "", zlib.compress),
        ({"Content-Encoding": "zstd"}, "", zstandard.ZstdCompressor().compress),
        ({"Content-Encoding": "br"}, "", bytes),
        ({}, "", gzip.compress),
        ({"Content-Type": "text/plain"}, "?compression=gzip-js&ver=1.2.3", gzip.compress),
        ({}, "", base64.b64encode),
        (
            {"Content-Type": "application/x-www-form-urlencoded"},
            "?compression=base64",
            lambda body: urlencode({"data": base64.b64encode(body)}).encode(),
        ),
    ],
)
def test_every_encoding_of_the_old_clients_is_undone(door: Door, headers, query, encode):
    event = sent()
    body = encode(json.dumps(batch(door, event)).encode())
    assert post(door, body, f"/e/{query}", headers=headers).status_code == 200
    assert json.loads(record(door).events[0].text) == event


def test_a_get_carries_its_event_in_the_query(door: Door):
    event = sent(api_key=door.key)
    for data in (json.dumps(event), base64.b64encode(json.dumps(event).encode()).decode()):
        door.log.envelopes.clear()
        query = urlencode({"data": data, "_": "1751367600123", "ip": "1"})
        response = requests.get(f"http://127.0.0.1:{door.port}/e/?{query}", timeout=30)
        assert (response.status_code, response.text) == (200, '{"status":"Ok"}')
        assert record(door).sent_at == "2025-07-01T11:00:00.123000+00:00"
    door.log.envelopes.clear()
    response = requests.get(f"http://127.0.0.1:{door.port}/e/?{query}&beacon=1", timeout=30)
    assert (response.status_code, response.content) == (204, b"")
    assert len(door.log.envelopes) == 1


def test_a_get_without_data_and_other_methods_are_refused(door: Door):
    url = f"http://127.0.0.1:{door.port}/batch/"
    refused(door, requests.get(url, timeout=30), 400, "request missing data payload")
    refused(door, requests.post(url, timeout=30), 400, "request missing data payload")
    response = requests.put(url, data=b"{}", timeout=30)
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, POST, OPTIONS")


def test_a_preflight_is_answered_with_what_is_allowed(door: Door):
    response = requests.options(
        f"http://127.0.0.1:{door.port}/e/",
        headers={"Origin": "https://shop.example", "Access-Control-Request-Headers": "x-a"},
        timeout=30,
    )
    assert (response.status_code, response.json()) == (200, {"status": "Ok"})
    assert response.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert response.headers["Access-Control-Allow-Headers"] == "x-a"
    assert response.headers["Allow"] == "GET, POST, OPTIONS"
    answer = post(door, batch(door, sent()), headers={"Origin": "https://shop.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"


def test_what_the_request_says_of_itself_is_in_the_record(door: Door):
    fields = {"sent_at": "2025-07-01T12:00:05Z", "historical_migration": True}
    assert post(door, batch(door, sent(), **fields)).status_code == 200
    kept = record(door)
    assert (kept.sent_at, kept.historical) == ("2025-07-01T12:00:05Z", True)


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"event": ""}, 400, "event submitted with an empty event name"),
        ({"event": None}, 400, "event submitted with an empty event name"),
        ({"event": "x" * 1025}, 400, "at most 1024 characters"),
        ({"distinct_id": ""}, 400, "event submitted without a distinct_id"),
        ({"distinct_id": None}, 400, "event submitted without a distinct_id"),
        ({"distinct_id": "x" * 1001}, 400, "longer than 1000 bytes"),
        ({"uuid": "not-a-uuid"}, 400, "Invalid UUID format"),
        ({"uuid": 7}, 400, "Invalid UUID format"),
        ({"properties": [1]}, 400, "must be a JSON object"),
    ],
)
def test_one_invalid_event_refuses_all(door: Door, change: dict[str, Any], status: int, text: str):
    refused(door, post(door, batch(door, sent(), sent(**change), sent())), status, text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"not json", "no JSON"),
        (b"[{", "not valid JSON"),
        (b'{"batch":[1],"api_key":"k"}', "must be a JSON object"),
        (b'{"a":1,"a":2}', "duplicate key"),
        (b"[" * 200 + b"]" * 200, "nested deeper"),
        (b'{"batch":[{"properties":{"a":NaN}}]}', "NaN"),
        (b"\x1f\x8b\x08 no gzip", "decompress gzip"),
        (b"5", "base64"),
    ],
)
def test_a_body_that_is_none_is_refused_before_anybody_looks_for_a_key(door: Door, body, text):
    refused(door, post(door, body), 400, text)


def test_an_empty_batch_holds_no_event(door: Door):
    refused(door, post(door, batch(door)), 400, "request holds no event")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"batch": [{"event": "e"}]}, "event submitted without an api_key"),
        ([], "event submitted without an api_key"),
        ([{"token": "a" * 20}, {"token": "b" * 20}], "batch submitted with inconsistent api_key"),
        ({"batch": [{"event": ""}], "api_key": "a" * 20}, "API key is not valid"),
        ({"batch": [{}], "api_key": ""}, "API key is not valid: empty"),
        ({"batch": [{}], "api_key": "phx_" + "a" * 20}, "API key is not valid: personal_api_key"),
        ({"batch": [{}], "api_key": "k" * 65}, "API key is not valid: too_long"),
        ({"batch": [{}], "api_key": "schlüssel"}, "API key is not valid: not_ascii"),
        ({"batch": [{}], "api_key": "a\0b"}, "API key is not valid: null_byte"),
    ],
)
def test_whose_it_is_comes_before_what_is_wrong_with_it(door: Door, body: Any, text: str):
    refused(door, post(door, body), 401, text)


def test_a_personal_key_captures_with_its_scope_and_not_without(door: Door):
    reader = door.access.key(door.project, KeyKind.PERSONAL, [Scope.READ])
    refused(door, post(door, batch(door, sent(), api_key=reader)), 401, "API key is not valid")
    writer = door.access.key(door.project, KeyKind.PERSONAL, [Scope.CAPTURE])
    assert post(door, batch(door, sent(), api_key=writer)).status_code == 200


def test_the_ai_batch_refuses_all_for_one_event_of_another_name(door: Door):
    events = [sent(event="$ai_generation"), sent(event="$pageview")]
    response = post(door, batch(door, *events), "/i/v0/ai/batch/")
    refused(door, response, 400, "Event name must be one of")
    assert post(door, batch(door, *events), "/batch/").status_code == 200


def test_json_is_answered_to_who_asks_for_it(door: Door):
    response = post(door, batch(door, sent(uuid="x")), headers={"Accept": "application/json"})
    assert response.json()["code"] == "invalid_uuid"
    assert response.json()["detail"].startswith("failed to parse request: Invalid UUID format")


def test_sizes_are_bounded_on_the_wire_and_after_it(access, directory):
    limits = {
        "max_batch_wire_bytes": 60_000,
        "max_batch_bytes": 90_000,
        "max_batch_event_bytes": 20_000,
        "max_batch_events": 50,
    }
    with open_door(access, directory, **limits) as door:

        def large(size: int) -> dict[str, Any]:
            return sent(properties={"x": "y" * size})

        assert post(door, batch(door, large(19_000))).status_code == 200
        door.log.envelopes.clear()
        refused(door, post(door, batch(door, large(20_001))), 413, "an event has more than 20000")
        refused(door, post(door, batch(door, *[sent()] * 51)), 413, "at most 50 events")
        whole = json.dumps(batch(door, *[large(19_000)] * 4)).encode()
        refused(door, post(door, whole), 413, "request body exceeds")
        chunked = requests.post(
            f"http://127.0.0.1:{door.port}/batch", data=iter([whole[:50_000], whole[50_000:]])
        )
        refused(door, chunked, 413, "request body exceeds")
        with requests.Session() as session:
            bomb = gzip.compress(whole + b" " * 20_000)
            response = session.post(f"http://127.0.0.1:{door.port}/batch", data=bomb)
            refused(door, response, 413, "decompressed body exceeds maximum size (90000 bytes)")
            fine = json.dumps(batch(door, sent())).encode()
            again = session.post(f"http://127.0.0.1:{door.port}/batch", data=fine)
            assert again.status_code == 200
        assert door.app._admission.in_flight == 0


def test_room_is_the_strangers_until_the_key_is_known(access, directory):
    """Strangers have a share of the room too, and do not take the projects'."""
    with open_door(access, directory, max_inflight_bytes=40_000) as door:
        heavy = batch(door, sent(properties={"x": "y" * 21_000}))
        response = post(door, heavy)
        refused(door, response, 503, "too many requests in flight")
        assert response.headers["Retry-After"] == "1"
        assert post(door, batch(door, sent())).status_code == 200
        assert door.app._admission.in_flight == 0


def test_the_projects_rules_hold(access, directory):
    project = access.project(dropped=["bot"])
    with open_door(access, directory, project=project) as door:
        events = [sent(distinct_id="bot"), sent()]
        assert post(door, batch(door, *events)).status_code == 200
        assert [each.uuid for each in record(door).events] == [events[1]["uuid"]]
        door.log.envelopes.clear()
        response = post(door, batch(door, sent(distinct_id="bot")))
        assert (response.status_code, response.text) == (200, '{"status":"Ok"}')
        assert door.log.envelopes == []
    with open_door(access, directory, project=access.project(CaptureMode.DROP)) as door:
        assert post(door, batch(door, sent(uuid="x"))).status_code == 200
        assert door.log.envelopes == []
    with open_door(access, directory, project=access.project(CaptureMode.OVER_QUOTA)) as door:
        refused(door, post(door, batch(door, sent())), 429, "billing limit reached")


@pytest.mark.parametrize("error", [LogUnavailable("away"), LogFull("full")])
def test_a_log_that_refuses_is_a_503_to_try_again(door: Door, error: Exception):
    door.log.error = error
    response = post(door, batch(door, sent()))
    refused(door, response, 503, "transient error, please retry")
    assert response.headers["Retry-After"]


def test_an_event_of_posthogs_own_tools_keeps_no_address(access, directory):
    with open_door(access, directory, trusted_proxies=1) as door:
        mine = sent(properties={"capture_internal": True})
        forwarded = {"X-Forwarded-For": "203.0.113.7"}
        assert post(door, batch(door, mine), headers=forwarded).status_code == 200
        assert record(door).ip == "127.0.0.1"
        door.log.envelopes.clear()
        assert post(door, batch(door, mine, sent()), headers=forwarded).status_code == 200
        assert record(door).ip == "203.0.113.7"
        assert [each.internal for each in record(door).events] == [True, False]


def test_litellms_records_of_its_keys_do_not_enter_the_log(door: Door):
    secret = {"user_api_key_auth": "{'token': 'hash'}", "requester_metadata": "{'headers': {}}"}
    kept = {"user_api_key_request_route": "/v1/chat/completions", "user_api_key_team_id": "t"}
    sent = {"event": "$ai_generation", "distinct_id": "d"}
    named = {**sent, "properties": secret | kept | {"n": 1.10}}
    other = {**sent, "properties": {"requester_metadata": "mine"}}
    answer = requests.post(
        f"http://127.0.0.1:{door.port}/batch/",
        json={"api_key": door.key, "batch": [named, other]},
        timeout=30,
    )
    assert answer.status_code == 200
    first, second = (json.loads(event.text)["properties"] for event in record(door).events)
    assert first == kept | {"n": 1.10}
    assert second == {"requester_metadata": "mine"}
