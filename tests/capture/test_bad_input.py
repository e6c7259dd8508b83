"""Bad parts and keys at the real door: a precise 4xx with the contract's text."""

import gzip
import json
import re

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.access.types import KeyKind, Scope
from tests.capture.door import (
    BLOB,
    event,
    form,
    new_uuid,
    open_door,
    raw_form,
    refused,
    valid_body,
    whole_event,
    with_part,
)

MODEL = {"$ai_model": "test"}
PARSING = "failed to parse request: "


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (None, "event submitted without an api_key"),
        ("Basic abc", "event submitted without an api_key"),
        ("bearer abc", "event submitted without an api_key"),
        ("Bearer", "event submitted without an api_key"),
        ("Bearer  ", "API key is not valid: empty"),
        ("Bearer " + "x" * 65, "API key is not valid: too_long"),
        (b"Bearer \xc3\xa9", "API key is not valid: not_ascii"),
        ("Bearer phx_abc", "API key is not valid: personal_api_key"),
        ("Bearer nobody-has-this", "API key is not valid: it is not a project API key"),
    ],
)
def test_a_key_of_the_wrong_shape_is_refused_with_the_reason(door, header, text):
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    if header is not None:
        headers["Authorization"] = header
    response = requests.post(door.url, data=valid_body(), headers=headers)
    refused(door, response, 401, text)
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_a_personal_key_captures_into_its_home_project_if_its_scopes_allow(door):
    number, _ = door.access.project()
    reader = door.access.key(number, KeyKind.PERSONAL, [Scope.READ])
    refused(door, door.post(form(whole_event()), key=reader), 401, "project API key")
    writer = door.access.key(number, KeyKind.PERSONAL, [Scope.READ, Scope.CAPTURE])
    assert door.post(form(whole_event()), key=writer).status_code == 200
    assert door.log.envelopes[0].project_id == number


def test_a_revoked_key_answers_as_an_unknown_one(door):
    number, key = door.access.project()
    [known] = door.access.accounts.keys.list(number)
    door.access.accounts.keys.revoke(known.key_id)
    assert (
        door.post(form(whole_event()), key=key).text
        == door.post(form(whole_event()), key="x" * 20).text
    )


def test_the_key_is_checked_before_a_byte_of_the_body_is_read(door):
    with door.connect() as client:
        head = door.request_head(20_000_000, Content_Encoding="gzip")
        client.sendall(head.replace(door.key.encode(), b"unknown"))
        assert client.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_the_tenant_is_the_keys_whatever_the_payload_says(door):
    number, key = door.access.project()
    claims = {"project_id": 1, "team_id": 1, "token": door.key, "api_key": door.key}
    assert door.post(form(event(**claims), MODEL | claims), key=key).status_code == 200
    assert door.log.envelopes[0].project_id == number
    assert key.encode() not in door.log.envelopes[0].payload + door.log.envelopes[0].headers()


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([], "Missing required 'event' part in multipart data"),
        ([("other", b"{}")], "First part must be 'event', got 'other'"),
        ([b"\r\n{}"], "First part must be 'event', got 'unknown'"),
        ([("event", b"{}"), ("event", b"{}")], "Event missing 'event' field"),
        ([("event", b"\xff")], "Event part must be valid UTF-8"),
        ([("event", b"{")], "Event part must be valid JSON: "),
        ([("event", b"")], "Event part must be valid JSON: "),
        ([("event", b"\xef\xbb\xbf{}")], "Event part must be valid JSON: "),
        ([("event", b'{"a":NaN}')], "Event part must be valid JSON: NaN is not a JSON number"),
        ([("event", b'{"a":-Infinity}')], "Event part must be valid JSON: "),
        ([("event", b'{"a":1,"a":2}')], "Event part must be valid JSON: duplicate key 'a'"),
        ([("event", b'{"a":"\\ud800"}')], "half of a surrogate pair"),
        ([("event", b'{"a":' + b"[" * 128 + b"]" * 128 + b"}")], "nested deeper than 127 levels"),
        ([("event", b'{"a":' + b"9" * 5000 + b"}")], "an integer has more than 4300 digits"),
        ([("event", b'{"a":"\x00"}')], "Event part must be valid JSON: "),
        ([("event", b"[]")], "Event must be a JSON object"),
        ([("event", b"null")], "Event must be a JSON object"),
        ([("event", b'{"event":7,"distinct_id":"x"}')], "Event missing 'event' field"),
        ([("event", b'{"event":"$ai_span","distinct_id":7}')], "missing 'distinct_id' field"),
    ],
)
def test_a_broken_event_part_is_refused_with_the_contracts_text(door, parts, text):
    refused(door, door.post_body(raw_form(*parts)), 400, PARSING)
    assert text in door.post_body(raw_form(*parts)).text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (with_part("event", b"{}"), "Duplicate 'event' part found"),
        (with_part("event.properties", b"\xff"), "Properties part must be valid UTF-8"),
        (with_part("event.properties", b"{"), "Properties part must be valid JSON"),
        (with_part("event.properties", b"[]"), "Properties must be a JSON object"),
        (with_part("other", b"x"), "Unknown multipart field: 'other'. Expected 'event', "),
        (with_part("event.properties.", b"x"), "Unknown multipart field: 'event.properties.'"),
        (with_part("event.other", b"x"), "Unknown multipart field: 'event.other'"),
        (
            with_part("event.properties.a.b", b"x"),
            "Blob property 'event.properties.a.b' contains nested properties (dots). Only "
            "top-level properties are allowed.",
        ),
        (with_part("event.properties.a%22b", b"x"), "is not a valid name"),
        (with_part("event.properties.a%0D%0Ab", b"x"), "is not a valid name"),
        (with_part("event.properties.a\x7fb", b"x"), "control character"),
        (with_part(BLOB, b"x", b"Content-Type: text/plain; \xff"), "a part's header is not UTF-8"),
        (raw_form(b"X: \xff\r\n\r\n{}"), "Multipart parsing failed: a part's header is not UTF-8"),
        (with_part("event.properties.a\x85b", b"x"), "is not a valid name"),
        (with_part("event.properties." + "é" * 129, b"x"), "is not a valid name"),
        (with_part("event.properties.taken", b"x"), "already a property of the event"),
        (with_part(BLOB, b""), "cannot be empty (0 bytes)"),
        (with_part(BLOB, b"x", b"A: b"), "Missing required Content-Type header for blob part"),
        (
            with_part(BLOB, b"x", b"Content-Type: application/json; charset=utf-8"),
            "Unsupported content type for blob part",
        ),
        (with_part(BLOB, b"x", b"Content-Type: text/plain; \xc3\xa9"), "is malformed"),
        (
            with_part(BLOB, b"x", b"Content-Type: text/plain\r\nContent-Encoding: a b"),
            "is malformed",
        ),
        (
            with_part(BLOB, b"x\r\n--b\r\nContent-Disposition: form-data; name=" + BLOB.encode()
                      + b"\r\nContent-Type: text/plain\r\n\r\ny"),
            f"Duplicate blob property: {BLOB}",
        ),
    ],
)  # fmt: skip
def test_a_broken_further_part_is_refused_with_the_contracts_text(door, body, text):
    refused(door, door.post_body(body), 400, text)


def test_no_answer_speaks_of_python(door):
    response = door.post_body(with_part(BLOB, b"x", b"Content-Type: text/plain; \xff"))
    text = "failed to decode request: Multipart parsing failed: a part's header is not UTF-8"
    assert response.text == text


@pytest.mark.parametrize("content_type", ["TEXT/PLAIN", "text/plain; charset=utf-8"])
def test_blob_types_ignore_case_and_text_may_have_parameters(door, content_type):
    body = with_part(BLOB, b"x", b"Content-Type: " + content_type.encode())
    assert door.post_body(body).status_code == 200
    assert door.log.only().blobs[0].content_type == content_type


def test_repeated_properties_the_last_wins_and_each_is_listed(door):
    body = with_part("event.properties", b'{"$ai_model":"last"}')
    names = [part["name"] for part in door.post_body(body).json()["accepted_parts"]]
    assert names == ["event", "event.properties", "event.properties"]
    assert door.log.only().properties == b'{"$ai_model":"last"}'


def test_null_properties_are_no_properties(door):
    refused(door, door.post(form(event(properties=None))), 400, "Event missing 'properties' field")
    refused(door, door.post(form(event(properties=[]))), 400, "must be a JSON object")
    refused(door, door.post(form(event())), 400, "Event missing 'properties' field")


def test_a_mistyped_known_property_is_refused_with_its_path(door):
    response = door.post(
        form(event(), MODEL | {"$ai_input_tokens": "many"}), headers={"Accept": "application/json"}
    )
    refused(door, response, 400, PARSING)
    assert response.json()["code"] == "schema_violation"
    assert response.json()["attr"] == "properties.$ai_input_tokens"


def test_unknown_properties_are_kept_unless_the_schema_is_strict(door, access, directory):
    parts = form(event(), MODEL | {"my_property": 1})
    assert door.post(parts).status_code == 200
    with open_door(access, directory, strict_schema=True) as strict:
        refused(strict, strict.post(parts), 400, "my_property")
        assert strict.post(form(event(), MODEL)).status_code == 200


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("$ai_input_tokens", "a whole number from 0"),
        ("$ai_trace_id", "a string of at most 1024 characters"),
        ("$ai_provider", "a string of at most 1024 characters"),
        ("$ai_total_cost_usd", "an amount from 0"),
        ("$ai_latency", "a number of seconds"),
        ("$ai_is_error", "true or false"),
        ("$ai_error", "a string, object or array"),
        ("$ai_http_status", "a whole number"),
        ("$ai_temperature", "a number"),
        ("$ai_response_id", "a string of at most"),
        ("$ai_stream", "true or false"),
    ],
)
def test_a_blob_may_not_stand_for_what_becomes_a_column(door, name, expected):
    body = with_part(f"event.properties.{name}", b"12")
    response = door.post_body(body, Accept="application/json")
    refused(door, response, 400, f"properties.{name} must be {expected}")
    assert "but is a blob: send it in the properties" in response.json()["detail"]
    assert response.json()["code"] == "schema_violation"
    assert response.json()["attr"] == f"properties.{name}"


@pytest.mark.parametrize(
    "name", ["$ai_input", "$ai_model_parameters", "$ai_feedback_text", "$ai_agent_notes", "mine"]
)
def test_a_blob_may_stand_for_a_text_a_document_or_a_property_of_ones_own(door, name):
    assert door.post_body(with_part(f"event.properties.{name}", b"12")).status_code == 200
    assert [blob.name for blob in door.log.only().blobs] == [name]


def test_a_strict_schema_holds_for_the_names_of_blobs_too(access, directory):
    with open_door(access, directory, strict_schema=True) as strict:
        blobs = {"never_heard_of": ("text/plain", b"x")}
        response = strict.post(form(event(), MODEL, **blobs))
        refused(strict, response, 400, "properties.never_heard_of is not in the schema")
        for known in ("$ai_input", "$ai_agent_notes"):
            blobs = {known: ("text/plain", b"x")}
            assert strict.post(form(event(), MODEL, **blobs)).status_code == 200


def test_blob_parts_can_be_turned_off(access, directory):
    with open_door(access, directory, blob_parts=False) as door:
        parts = form(event(), MODEL, **{"$ai_input": ("text/plain", b"x")})
        refused(door, door.post(parts), 400, f"Unknown multipart field: '{BLOB}'")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"distinct_id": ""}, "distinct_id cannot be empty"),
        ({"distinct_id": "a\x00b"}, "distinct_id cannot contain control characters"),
        ({"distinct_id": "a\u0085b"}, "distinct_id cannot contain control characters"),
        ({"distinct_id": "é" * 501}, "distinct_id cannot be longer than 1000 bytes"),
        ({"event": "$ai_span\x00"}, "Event name must be one of"),
        ({"event": "x" * 10_000}, "Event name must be one of"),
        ({"uuid": None}, "Event UUID is required"),
        ({"uuid": 5}, "Event UUID is required"),
        ({"uuid": "12345678-1234-1234-1234-123456789abc\x00"}, "Invalid UUID format: "),
        ({"uuid": "12345678-12341234-1234-123456789abc"}, "Invalid UUID format: "),
        ({"uuid": "１2345678123412341234123456789abc"}, "Invalid UUID format: "),
    ],
)
def test_hostile_names_and_ids_are_refused(door, fields, text):
    response = door.post(form(event(**fields), MODEL))
    refused(door, response, 400, text)
    assert len(response.text) < 700


@pytest.mark.parametrize("form_of", ["{}", "urn:uuid:{}", "{{{}}}"])
def test_a_uuid_is_known_by_its_canonical_form(door, form_of):
    canonical = new_uuid()
    for text in (canonical, canonical.upper()):
        assert door.post(form(event(uuid=form_of.format(text)), MODEL)).status_code == 200
    assert {envelope.uuid for envelope in door.log.envelopes} == {canonical}


def test_numbers_past_2_to_the_63_are_kept_as_they_were_written(door):
    properties = b'{"$ai_model":"test","big":123456789012345678901234567890,"cost":0.10}'
    assert door.post(form(event(), properties)).status_code == 200
    assert door.log.only().properties_text() == properties.decode()


def test_ten_thousand_parts_are_refused(door):
    parts = [(f"event.properties.p{n}", b"x") for n in range(10_000)]
    body = raw_form(("event", json.dumps(whole_event()).encode()), *parts)
    refused(door, door.post_body(body), 400, "more than 256 parts")


@st.composite
def damaged_bodies(draw: st.DrawFn) -> bytes:
    """A valid body with a few bytes removed, repeated, replaced or inserted."""
    body = valid_body(**{"$ai_input": b"hello", "$ai_output": b"[1]"})
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = start + draw(st.integers(0, 40))
        piece = draw(st.binary(max_size=8) | st.sampled_from([b"\r\n", b"--b", b"\0", b'"', b"{"]))
        body = body[:start] + piece * draw(st.integers(0, 3)) + body[end:]
    return body


@given(damaged_bodies(), st.sampled_from(["", "gzip"]), st.integers(0, 5))
@settings(max_examples=150)
def test_no_damage_to_a_valid_body_ever_gives_a_5xx(shared_door, body, encoding, cut):
    sent = gzip.compress(body)[: -cut or None] if encoding else body
    response = shared_door.post_body(sent, Content_Encoding=encoding)
    assert response.status_code in (200, 400, 413), response.text


@given(st.binary(max_size=200), st.text(st.characters(min_codepoint=33, max_codepoint=126)))
@settings(max_examples=60)
def test_no_bytes_and_no_content_type_ever_give_a_5xx(shared_door, body, content_type):
    response = shared_door.post(
        data=body, headers={"Content-Type": f"multipart/form-data{content_type[:60]}"}
    )
    assert response.status_code == 400


def test_a_request_is_counted_by_status_and_reason(door):
    def count(reason: str) -> float:
        text = requests_metrics()
        found = re.search(rf'requests_total{{door="ai",reason="{reason}",status="\d+"}} (.+)', text)
        return float(found[1]) if found else 0

    before = count("ok"), count("invalid_uuid")
    door.post(form(whole_event()))
    door.post(form(event(uuid="x"), MODEL))
    assert (count("ok"), count("invalid_uuid")) == (before[0] + 1, before[1] + 1)


def requests_metrics() -> str:
    from prometheus_client import generate_latest

    from nilometer.observability.metrics import REGISTRY

    return generate_latest(REGISTRY).decode()
