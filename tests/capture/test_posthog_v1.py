"""PostHog's v1 doors, over HTTP: the key in a header, and a result for each event."""

import gzip
import json
import zlib
from typing import Any

import pytest
import requests
import zstandard

from nilometer.access.types import CaptureMode
from tests.capture.door import Door, new_uuid, open_door
from tests.capture.test_posthog_v0 import record, refused

EVENTS, AI_EVENTS = "/i/v1/analytics/events", "/i/v1/ai/events"


def sent(**fields: Any) -> dict[str, Any]:
    known = {
        "event": "$ai_span",
        "distinct_id": "someone",
        "uuid": new_uuid(),
        "timestamp": "2025-07-01T11:00:00Z",
        "options": {},
        "properties": {"a": 1.5},
    }
    return known | fields


def post(door: Door, *events: Any, path: str = EVENTS, **headers: str) -> requests.Response:
    body = json.dumps({"created_at": "2025-07-01T11:00:00Z", "batch": list(events)}).encode()
    return post_bytes(door, body, path, **headers)


def post_bytes(door: Door, body: bytes, path: str = EVENTS, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    known = {"Authorization": f"Bearer {door.key}"} | named
    url = f"http://127.0.0.1:{door.port}{path}"
    return requests.post(url, data=body, headers=known, timeout=30)


@pytest.mark.parametrize("path", [EVENTS, AI_EVENTS, f"{EVENTS}/", f"{AI_EVENTS}/"])
def test_each_event_has_its_result_by_its_uuid(door: Door, path: str):
    events = [sent(), sent()]
    response = post(
        door,
        *events,
        path=path,
        PostHog_Request_Timestamp="2025-07-01T12:00:05Z",
        PostHog_Sdk_Info="posthog-python/7.91.1",
    )
    assert response.status_code == 200
    ok = {"result": "ok", "details": None}
    assert response.json() == {"results": {event["uuid"]: ok for event in events}}
    kept = record(door)
    assert [json.loads(each.text) for each in kept.events] == events
    assert (kept.protocol, kept.sent_at) == ("v1", "2025-07-01T12:00:05Z")
    assert kept.sdk == "posthog-python/7.91.1"


def test_an_event_that_cannot_be_accepted_is_dropped_and_the_others_are_kept(door: Door):
    good, nameless, nobody = sent(), sent(event=""), sent(distinct_id="")
    results = post(door, good, nameless, nobody).json()["results"]
    assert results[good["uuid"]]["result"] == "ok"
    assert results[nameless["uuid"]] == {
        "result": "drop",
        "details": "event submitted with an empty event name",
    }
    assert results[nobody["uuid"]]["result"] == "drop"
    assert [each.uuid for each in record(door).events] == [good["uuid"]]


def test_the_ai_door_drops_events_of_other_names(door: Door):
    page, span = sent(event="$pageview"), sent()
    results = post(door, page, span, path=AI_EVENTS).json()["results"]
    assert [results[each["uuid"]]["result"] for each in (page, span)] == ["drop", "ok"]


@pytest.mark.parametrize("uuid", [None, "", "nonsense", 7])
def test_an_event_that_no_result_can_name_refuses_all(door: Door, uuid: Any):
    response = post(door, sent(), sent(uuid=uuid))
    refused(door, response, 400, "UUID")
    assert response.json()["attr"] == "uuid"


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
        ("identity", bytes),
    ],
)
def test_the_encodings_of_the_sdks_are_undone(door: Door, encoding: str, encode: Any):
    event = sent()
    body = encode(json.dumps({"batch": [event]}).encode())
    assert post_bytes(door, body, Content_Encoding=encoding).status_code == 200
    assert json.loads(record(door).events[0].text) == event


def test_another_encoding_is_refused(door: Door):
    response = post_bytes(door, b"{}", Content_Encoding="br")
    refused(door, response, 400, "Unsupported content-encoding")
    assert response.json()["code"] == "unsupported_encoding"


def test_the_key_is_checked_before_the_body(door: Door):
    for key in ("", "Bearer ", "Bearer phx_12345678901234567890", "Bearer " + "x" * 30):
        response = post_bytes(door, b"not json", Authorization=key)
        refused(door, response, 401, "api_key" if len(key) < 6 else "API key is not valid")
        assert response.json()["type"] == "authentication_error"
    refused(door, post_bytes(door, b"not json"), 400, "neither an object nor an array")
    refused(door, post(door), 400, "request holds no event")
    other = requests.get(f"http://127.0.0.1:{door.port}{EVENTS}", timeout=30)
    assert (other.status_code, other.headers["Allow"]) == (405, "POST, OPTIONS")


def test_the_projects_rules_hold(access, directory):
    with open_door(access, directory, project=access.project(CaptureMode.DROP)) as door:
        assert post(door, sent()).json() == {"results": {}}
        assert door.log.envelopes == []
    with open_door(access, directory, project=access.project(CaptureMode.OVER_QUOTA)) as door:
        refused(door, post(door, sent()), 429, "billing limit reached")
