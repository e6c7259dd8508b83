"""Phase 8: what an event may hold, by type; what a blob part must say; and lengths that lie."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import jsonschema_rs
import pytest

from tests.acceptance.llma.blob import place_of
from tests.acceptance.llma.capture import PATH
from tests.acceptance.llma.generators import EVENT_TYPES
from tests.acceptance.llma.multipart import Form, Part, event_parts, form

pytestmark = pytest.mark.phase_8

# One property of each type of event, with a value that it must not have.
WRONG = {
    "$ai_trace": ("$ai_latency", "soon"),
    "$ai_span": ("$ai_is_error", "perhaps"),
    "$ai_generation": ("$ai_input_tokens", "many"),
    "$ai_embedding": ("$ai_input_tokens", -1),
    "$ai_metric": ("$ai_metric_value", {"accuracy": 0.9}),
    "$ai_feedback": ("$ai_feedback_text", 5),
}


def refused(answer, code):
    """The error's `attr`, once it is seen to be this one."""
    body = answer.json()
    assert (answer.status_code, body["type"], body["code"]) == (400, "validation_error", code), body
    return body["attr"]


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_each_event_type_has_a_published_schema_that_its_events_fit(api, data, event_type):
    name = f"{event_type.removeprefix('$')}.v1"
    listed = api.call("GET", "schemas/").json()["results"]
    assert [each["name"] for each in listed].count(name) == 1
    validator = jsonschema_rs.validator_for(api.call("GET", f"schemas/{name}").json())
    whole = {**data.event(event_type), "properties": data.properties(event_type)}
    validator.validate(whole)
    wrong, value = WRONG[event_type]
    whole["properties"][wrong] = value
    assert not validator.is_valid(whole)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_a_property_that_its_schema_does_not_allow_is_refused(capture, team, data, event_type):
    name, value = WRONG[event_type]
    properties = {**data.properties(event_type), name: value}
    parts = event_parts(data.event(event_type), properties)
    answer = capture.send_parts(team.token, parts, Accept="application/json")
    assert refused(answer, "schema_violation") == f"properties.{name}"
    assert json.dumps(value) not in answer.json()["detail"] or isinstance(value, int)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_an_event_as_its_schema_wants_it_is_accepted(sent, event_type):
    assert sent(event_type=event_type).event == event_type


def test_a_blob_cannot_stand_for_a_number(capture, team, data):
    properties = data.properties("$ai_trace")
    blob = data.blob("text", 100, "$ai_input_tokens")
    parts = event_parts(data.event(), properties, [blob])
    answer = capture.send_parts(team.token, parts, Accept="application/json")
    assert refused(answer, "schema_violation") == "properties.$ai_input_tokens"


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        (None, "missing_content_type"),
        ("application/xml", "unsupported_content_type"),
        ("image/png", "unsupported_content_type"),
        ("text/html", "unsupported_content_type"),
        ("application/json; charset=utf-8", "unsupported_content_type"),
        ("text/plainer", "unsupported_content_type"),
    ],
)
def test_a_blob_part_needs_a_content_type_of_the_contract(
    capture, bucket, team, data, content_type, code
):
    headers = {} if content_type is None else {"Content-Type": content_type}
    part = Part("event.properties.$ai_input", b"hello", headers)
    parts = [*event_parts(data.event(), data.properties()), part]
    answer = capture.send_parts(team.token, parts, Accept="application/json")
    assert refused(answer, code) == "event.properties.$ai_input"
    assert bucket.keys_of_team(team.id) == []


@pytest.mark.parametrize("content_type", ["TEXT/PLAIN", "text/plain;charset=utf-8;x=y"])
def test_the_content_types_of_the_contract_are_read_as_it_says(
    capture, api, team, data, content_type
):
    event, blob = data.event(), data.blob("text", 100)
    part = Part("event.properties.$ai_input", blob.data, {"Content-Type": content_type})
    parts = [*event_parts(event, data.properties()), part]
    assert capture.send_parts(team.token, parts).status_code == 200
    assert place_of(api.wait_for_event(team.id, event["uuid"]), blob).size > 100


@pytest.mark.parametrize("declared", [4, 6])
def test_a_part_that_is_not_as_long_as_it_says_is_refused(capture, team, data, declared):
    headers = {"Content-Type": "text/plain", "Content-Length": str(declared)}
    part = Part("event.properties.$ai_input", b"hello", headers)
    parts = [*event_parts(data.event(), data.properties()), part]
    answer = capture.send_parts(team.token, parts)
    assert answer.status_code == 400, answer.text
    assert answer.text.startswith("failed to decode request: ")


def test_a_body_longer_than_allowed_is_refused_before_it_is_sent(configuration, team):
    with _announced(configuration, team.token, 10**9) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_body_shorter_than_its_content_length_leaves_nothing(
    configuration, api, bucket, team, data, sent
):
    whole = form(event_parts(data.event(), data.properties(), [data.blob("text", 100)]))
    with _announced(
        configuration, team.token, len(whole.body) + 10, whole.headers["Content-Type"]
    ) as connection:
        connection.sendall(whole.body)
        connection.shutdown(socket.SHUT_WR)
        assert not connection.recv(4096).startswith(b"HTTP/1.1 2")
    later = sent()  # whatever was accepted before it is stored before it
    assert [each.uuid for each in api.events(team.id)] == [later.uuid]
    assert bucket.keys_of_team(team.id) == []


def test_an_empty_body_is_refused(capture, team):
    empty = Form(b"", {"Content-Type": "multipart/form-data; boundary=b"})
    answer = capture.send_form(team.token, empty)
    assert (answer.status_code, answer.text) == (400, "request missing data payload")


def _announced(configuration, key, length, content_type="multipart/form-data; boundary=b"):
    """A connection on which a request's head was sent, and nothing of its body."""
    place = urlsplit(configuration.capture_endpoint)
    connection = socket.create_connection((place.hostname, place.port or 80), timeout=30)
    lines = {
        "Host": place.netloc,
        "Authorization": f"Bearer {key}",
        "Content-Type": content_type,
        "Content-Length": str(length),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    connection.sendall(f"POST {PATH} HTTP/1.1\r\n{head}\r\n".encode())
    return connection
