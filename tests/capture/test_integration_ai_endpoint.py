"""The tests of the original's `integration_ai_endpoint.rs` (capture contract, section 11): the same
names and expectations, against the real door. docs/contract-exemptions.md lists the differences."""

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from nilometer.access.types import CaptureMode
from nilometer.conventions.event_time import timestamp
from nilometer.domain import clock
from tests.capture.door import (
    BUCKET,
    Access,
    Door,
    event,
    form,
    new_uuid,
    open_door,
    raw_form,
    refused,
    whole_event,
)

EVENT_TYPES = [
    "$ai_generation",
    "$ai_trace",
    "$ai_span",
    "$ai_embedding",
    "$ai_metric",
    "$ai_feedback",
]
NOW = datetime(2025, 7, 1, 11, tzinfo=UTC)
MODEL = {"$ai_model": "test"}
TEXT = "text/plain"
JSON = "application/json"
BINARY = "application/octet-stream"


@pytest.fixture(scope="module")
def noon(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A door whose clock stands at 2025-07-01T11:00:00Z."""
    micros = clock.to_micros(NOW)
    with open_door(access, tmp_path_factory.mktemp("noon"), now=lambda: micros) as door:
        yield door


@pytest.fixture
def noon_door(noon: Door) -> Door:
    noon.log.envelopes.clear()
    return noon


def properties_of(length: int) -> dict[str, str]:
    """Properties whose JSON text is this long."""
    return {"$ai_model": "m" * (length - len('{"$ai_model":""}'))}


def lengths(response: requests.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [part["length"] for part in response.json()["accepted_parts"]]


# Methods and authentication


def test_ai_endpoint_get_returns_405(door):
    refused(door, requests.get(door.url), 405, "POST")


def test_ai_endpoint_put_returns_405(door):
    refused(door, requests.put(door.url, data=b"x"), 405, "POST")


def test_ai_endpoint_delete_returns_405(door):
    refused(door, requests.delete(door.url), 405, "POST")


def test_ai_endpoint_no_auth_returns_401(door):
    response = requests.post(door.url, files=form(event(), MODEL))
    refused(door, response, 401, "event submitted without an api_key")


# What a request must look like


def test_ai_endpoint_wrong_content_type_returns_400(door):
    response = door.post(data=b"{}", headers={"Content-Type": "application/json"})
    refused(
        door,
        response,
        400,
        "failed to decode request: Content-Type must be multipart/form-data",
    )


def test_ai_endpoint_empty_body_returns_400(door):
    response = door.post_body(b"")
    refused(door, response, 400, "request missing data payload")


def test_multipart_parsing_with_empty_blob(door):
    response = door.post(form(event(), MODEL, **{"$ai_input": (TEXT, b"")}))
    refused(
        door,
        response,
        400,
        "Blob part 'event.properties.$ai_input' cannot be empty (0 bytes)",
    )


def test_multipart_missing_boundary_returns_400(door):
    response = door.post(data=b"x", headers={"Content-Type": "multipart/form-data"})
    refused(door, response, 400, "failed to decode request: Invalid boundary in Content-Type: ")


def test_multipart_corrupted_boundary_returns_400(door):
    body = raw_form(("event", json.dumps(whole_event()).encode()), boundary="right")
    response = door.post_body(body, boundary="wrong")
    refused(door, response, 400, "failed to decode request: Multipart parsing failed: ")


def test_multipart_event_not_first_returns_400(door):
    parts = form(event(), MODEL)
    response = door.post(parts[::-1])
    refused(
        door,
        response,
        400,
        "failed to parse request: First part must be 'event', got 'event.properties'",
    )


@pytest.mark.parametrize("name", ["custom_ai_generation", "generation_$ai"])
def test_invalid_event_name_not_ai_prefix_returns_400(door, name):
    refused(door, door.post(form(event(event=name), MODEL)), 400, "Event name must be one of: ")


def test_invalid_event_name_regular_event_returns_400(door):
    response = door.post(form(event(event="$pageview"), MODEL))
    refused(door, response, 400, "Event name must be one of: ")
    assert response.text.endswith(f"{', '.join(EVENT_TYPES)}, got '$pageview'")


def test_invalid_event_name_custom_event_returns_400(door):
    response = door.post(form(event(event="my_event"), MODEL))
    refused(door, response, 400, "got 'my_event'")


@pytest.mark.parametrize("name", ["$ai_unknown", "$ai_custom", "$ai_"])
def test_invalid_ai_event_type_returns_400(door, name):
    refused(door, door.post(form(event(event=name), MODEL)), 400, f"got '{name}'")


@pytest.mark.parametrize(
    ("properties", "text"),
    [
        ({}, "Event properties must contain '$ai_model'"),
        ({"$ai_model": 7}, "$ai_model must be a string"),
        ({"$ai_model": ""}, "$ai_model cannot be empty"),
    ],
)
def test_missing_required_ai_properties_returns_400(door, properties, text):
    refused(door, door.post(form(event(), properties)), 400, f"failed to parse request: {text}")


def test_empty_event_name_returns_400(door):
    refused(door, door.post(form(event(event=""), MODEL)), 400, "Event name cannot be empty")


def test_missing_distinct_id_returns_400(door):
    response = door.post(form({"uuid": new_uuid(), "event": "$ai_span"}, MODEL))
    refused(door, response, 400, "Event missing 'distinct_id' field")


def test_missing_uuid_returns_400(door):
    fields = {"event": "$ai_generation", "distinct_id": "test_user"}
    refused(door, door.post(form(fields, MODEL)), 400, "Event UUID is required")


@pytest.mark.parametrize(
    "value",
    ["not-a-uuid", "", "123e4567-e89b-12d3-a456", "123e4567-e89b-12d3-a456-42661417400g", "12345"],
)
def test_invalid_uuid_format_returns_400(door, value):
    refused(door, door.post(form(event(uuid=value), MODEL)), 400, "Invalid UUID format: ")


@pytest.mark.parametrize(
    "value",
    [
        "../../../etc/passwd",
        "..\\..\\windows",
        "123e4567-e89b-12d3-a456-426614174000/../../x",
        "../123e4567-e89b-12d3-a456-426614174000",
        "%2e%2e%2f123e4567-e89b-12d3-a456-426614174000",
        "123e4567-e89b-12d3-a456-426614174000\n",
        "/absolute",
    ],
)
def test_malicious_uuid_with_path_traversal_returns_400(door, value):
    response = door.post(form(event(uuid=value), MODEL, **{"$ai_input": (TEXT, b"x")}))
    refused(door, response, 400, "Invalid UUID format: ")


@pytest.mark.parametrize("embedded", [{"$ai_model": "test"}, {}, None])
def test_properties_both_embedded_and_separate_returns_400(door, embedded):
    response = door.post(form(event(properties=embedded), MODEL))
    refused(door, response, 400, "Event cannot have both embedded properties and a separate")


def test_blob_with_invalid_content_type_returns_400(door):
    response = door.post(form(event(), MODEL, **{"$ai_input": ("application/xml", b"<x/>")}))
    refused(
        door,
        response,
        400,
        "Unsupported content type for blob part 'event.properties.$ai_input': 'application/xml'. "
        "Supported types: application/octet-stream, application/json, text/plain",
    )


def test_blob_without_content_type_returns_400(door):
    response = door.post(form(event(), MODEL, **{"$ai_input": (None, b"x")}))
    refused(
        door,
        response,
        400,
        "Missing required Content-Type header for blob part 'event.properties.$ai_input'",
    )


# What an answer looks like


def test_multipart_parsing_with_multiple_blobs(door):
    response = door.post(
        form(
            event(),
            properties_of(31),
            **{
                "$ai_input": (JSON, b"1" * 48),
                "$ai_output": (JSON, b"2" * 48),
                "$ai_raw": (BINARY, b"\0" * 41),
            },
        )
    )
    assert lengths(response) == [98, 31, 48, 48, 41]
    assert [part["name"] for part in response.json()["accepted_parts"]] == [
        "event",
        "event.properties",
        "event.properties.$ai_input",
        "event.properties.$ai_output",
        "event.properties.$ai_raw",
    ]


def test_multipart_parsing_with_mixed_content_types(door):
    response = door.post(
        form(
            event(),
            properties_of(32),
            **{
                "$ai_json": (JSON, b'{"a":"b","c":1}'),
                "$ai_text": (TEXT, b"a text of twenty-six bytes"),
                "$ai_binary": (BINARY, b"\x00\x01\x02\xff\xfe\xfd"),
            },
        )
    )
    assert lengths(response) == [98, 32, 15, 26, 6]
    types = [part["content-type"] for part in response.json()["accepted_parts"]]
    assert types == [JSON, JSON, JSON, TEXT, BINARY]


def test_multipart_parsing_with_large_blob(door):
    response = door.post(form(event(), properties_of(26), **{"$ai_big": (TEXT, b"x" * 102914)}))
    assert lengths(response) == [98, 26, 102914]


def test_all_allowed_ai_event_types_accepted(door):
    for name in EVENT_TYPES:
        assert door.post(form(event(event=name), MODEL)).status_code == 200, name
    assert len(door.log.envelopes) == 6


def test_ai_endpoint_returns_200_for_valid_request(door):
    response = door.post(form(event(), MODEL))
    assert lengths(response) == [98, 20]
    assert response.json()["accepted_parts"][0] == {
        "name": "event",
        "length": 98,
        "content-type": JSON,
        "content-encoding": None,
    }


def test_properties_in_event_part_only(door):
    fields = event(properties=properties_of(174 - 98 - len(',"properties":')))
    assert lengths(door.post(form(fields))) == [174]
    assert door.log.only().properties is None


def test_properties_in_separate_part_only(door):
    assert lengths(door.post(form(event(), properties_of(62)))) == [98, 62]


def one_blob(door: Door, content_type: str) -> None:
    response = door.post(form(event(), MODEL, **{"$ai_input": (content_type, b'{"a": 1}')}))
    assert lengths(response) == [98, 20, 8]
    assert response.json()["accepted_parts"][2]["content-type"] == content_type
    assert door.log.only().blobs[0].content_type == content_type


def test_blob_with_application_octet_stream_content_type(door):
    one_blob(door, BINARY)


def test_blob_with_application_json_content_type(door):
    one_blob(door, JSON)


def test_blob_with_text_plain_content_type(door):
    one_blob(door, TEXT)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP"])
def test_gzip_compressed_request(door, encoding):
    request = requests.Request("POST", door.url, files=form(event(), properties_of(25))).prepare()
    assert isinstance(request.body, bytes)
    response = door.post(
        data=gzip.compress(request.body),
        headers={
            "Content-Encoding": encoding,
            "Content-Type": str(request.headers["Content-Type"]),
        },
    )
    assert lengths(response) == [98, 25]


# Limits


def test_event_exceeds_32kb_returns_413(door):
    fields = event(large="x" * 33 * 1024)
    size = len(json.dumps(fields, separators=(",", ":")))
    refused(
        door,
        door.post(form(fields, MODEL)),
        413,
        f"maximum event size exceeded: Event part size ({size} bytes) exceeds maximum allowed "
        "size (32768 bytes)",
    )


def test_combined_event_properties_exceeds_960kb_returns_413(door):
    response = door.post(form(event(), properties_of(961 * 1024)))
    refused(
        door,
        response,
        413,
        f"Combined event and properties size ({98 + 961 * 1024} bytes) exceeds maximum allowed "
        "size (983040 bytes)",
    )


def test_sum_of_all_parts_exceeds_25mb_returns_413(door):
    blob = b"x" * (25 * 1024 * 1024)
    response = door.post(form(event(), MODEL, **{"$ai_input": (BINARY, blob)}))
    refused(
        door,
        response,
        413,
        f"Sum of all parts ({98 + 20 + len(blob)} bytes) exceeds maximum allowed size "
        "(26214400 bytes)",
    )


def test_request_body_exceeds_110_percent_limit_returns_413(door):
    blob = b"x" * (28 * 1024 * 1024)
    response = door.post(form(event(), MODEL, **{"$ai_input": (BINARY, blob)}))
    refused(door, response, 413, "maximum event size exceeded: ")


# What is published


def test_ai_event_published_to_kafka(door):
    fields = event()
    assert door.post(form(fields, MODEL)).status_code == 200
    [envelope] = door.log.envelopes
    assert (envelope.uuid, envelope.project_id) == (fields["uuid"], door.project)
    assert json.loads(door.log.only().event) == fields


def test_ai_event_with_blobs_published_with_s3_placeholders(noon_door):
    fields = event()
    blobs = {"$ai_input": (TEXT, b"a" * 100), "$ai_output": (TEXT, b"b" * 200)}
    assert noon_door.post(form(fields, MODEL, **blobs)).status_code == 200
    properties = json.loads(noon_door.log.only().properties_text())
    start = f"file://{BUCKET}/llma/{noon_door.project}/2025-07-01/{fields['uuid']}_"
    first, second = (properties[name] for name in blobs)
    assert first.startswith(start)
    assert second.startswith(start)
    assert first.partition("?")[0] == second.partition("?")[0]
    assert ranges(properties, list(blobs)) == sorted(ranges(properties, list(blobs)))


def ranges(properties: dict[str, str], names: list[str]) -> list[tuple[int, int]]:
    texts = [properties[name].partition("?range=")[2] for name in names]
    return [(int(start), int(end)) for start, _, end in (text.partition("-") for text in texts)]


def test_ai_event_with_multiple_blobs_sequential_ranges(door):
    names = ["$ai_blob1", "$ai_blob2", "$ai_blob3"]
    sizes = [100, 200, 150]
    blobs = {name: (TEXT, b"x" * size) for name, size in zip(names, sizes, strict=True)}
    assert door.post(form(event(), MODEL, **blobs)).status_code == 200
    properties = json.loads(door.log.only().properties_text())
    assert ranges(properties, names) == [(64, 241), (308, 585), (652, 879)]


def test_ai_event_metadata_preserved_in_kafka(door):
    fields = event(timestamp="2025-07-01T10:00:00.123Z", unknown={"kept": [1.10]})
    text = json.dumps(fields).replace("1.1", "1.10").encode()
    properties = b'{"$ai_model":"test", "custom": "kept", "n": 123456789012345678901234567890}'
    assert door.post(form(text, properties)).status_code == 200
    record = door.log.only()
    assert (record.event, record.properties) == (text, properties)
    assert door.log.envelopes[0].uuid == fields["uuid"]


# Clock skew


def event_time(door: Door, fields: dict[str, Any], **properties: Any) -> datetime:
    assert door.post(form(event(**fields), MODEL | properties)).status_code == 200
    record, [envelope] = door.log.only(), door.log.envelopes
    sent = json.loads(record.event)
    ignore = json.loads(record.properties_text()).get("$ignore_sent_at") is True
    accepted = clock.from_micros(envelope.accepted_at)
    return timestamp(accepted, sent.get("timestamp"), sent.get("sent_at"), ignore)


HAPPENED = {"timestamp": "2025-07-01T11:59:55Z"}
SKEWED = HAPPENED | {"sent_at": "2025-07-01T12:00:05Z"}
UNCHANGED = datetime(2025, 7, 1, 11, 59, 55, tzinfo=UTC)
CORRECTED = datetime(2025, 7, 1, 10, 59, 50, tzinfo=UTC)


def test_ai_event_with_ignore_sent_at_true(noon_door):
    assert event_time(noon_door, SKEWED, **{"$ignore_sent_at": True}) == UNCHANGED


def test_ai_event_with_ignore_sent_at_false(noon_door):
    assert event_time(noon_door, SKEWED, **{"$ignore_sent_at": False}) == CORRECTED


def test_ai_event_without_ignore_sent_at_defaults_to_false(noon_door):
    assert event_time(noon_door, SKEWED) == CORRECTED


def test_ai_event_with_valid_sent_at_applies_clock_skew_correction(noon_door):
    assert event_time(noon_door, SKEWED) == CORRECTED


def test_ai_event_with_invalid_sent_at_skips_clock_skew_correction(noon_door):
    assert event_time(noon_door, HAPPENED | {"sent_at": "invalid"}) == UNCHANGED


def test_ai_event_without_sent_at_uses_event_timestamp(noon_door):
    assert event_time(noon_door, HAPPENED) == UNCHANGED


# Addresses


def test_ai_event_ip_defaults_to_localhost_in_tests(door):
    assert door.post(form(event(), MODEL)).status_code == 200
    assert door.log.only().ip == "127.0.0.1"


def test_ai_event_ip_redacted_for_internal_events(access: Access, directory: Path):
    with open_door(access, directory, trusted_proxies=1) as door:
        headers = {"X-Forwarded-For": "203.0.113.7"}
        properties = MODEL | {"capture_internal": False}
        assert door.post(form(event(), properties), headers=headers).status_code == 200
        assert door.post(form(event(), MODEL), headers=headers).status_code == 200
        internal, public = door.log.records
    assert (internal.ip, public.ip) == ("127.0.0.1", "203.0.113.7")
    assert json.loads(internal.properties or b"") == properties


# Token dropper


def test_ai_endpoint_token_dropper_drops_matching_token(door):
    _, key = door.access.project(CaptureMode.DROP)
    assert door.post(form(event(), MODEL), key=key).status_code == 200
    assert door.log.envelopes == []


def test_ai_endpoint_token_dropper_drops_matching_token_and_distinct_id(door):
    _, key = door.access.project(dropped=["test_user"])
    assert door.post(form(event(), MODEL), key=key).status_code == 200
    assert door.log.envelopes == []


def test_ai_endpoint_token_dropper_allows_non_matching_token(door):
    door.access.project(CaptureMode.DROP)
    assert door.post(form(event(), MODEL)).status_code == 200
    assert len(door.log.envelopes) == 1


def test_ai_endpoint_token_dropper_allows_different_distinct_id(door):
    _, key = door.access.project(dropped=["somebody_else"])
    assert door.post(form(event(), MODEL), key=key).status_code == 200
    assert len(door.log.envelopes) == 1


def test_ai_endpoint_token_dropper_returns_success_with_empty_accepted_parts(door):
    _, key = door.access.project(CaptureMode.DROP)
    response = door.post(form(event(), MODEL, **{"$ai_input": (TEXT, b"x" * 300_000)}), key=key)
    assert '"accepted_parts":[]' in response.text


# Quota


def test_ai_endpoint_quota_limiter_drops_when_over_quota(door):
    _, key = door.access.project(CaptureMode.OVER_QUOTA)
    refused(door, door.post(form(event(), MODEL), key=key), 429, "")


def test_ai_endpoint_quota_limiter_allows_when_not_over_quota(door):
    assert door.post(form(event(), MODEL)).status_code == 200
    assert len(door.log.envelopes) == 1


def test_ai_endpoint_quota_limiter_returns_billing_limit_error_message(door):
    _, key = door.access.project(CaptureMode.OVER_QUOTA)
    response = door.post(form(event(), MODEL), key=key)
    refused(door, response, 429, "billing limit reached")
    assert response.headers["Retry-After"] == "60"
