"""Phase 1 beyond its scenario: what the door refuses and why, and any boundary."""

from __future__ import annotations

import pytest

from tests.acceptance.llma.blob import place_of
from tests.acceptance.llma.multipart import Blob, Part, event_parts, form

pytestmark = pytest.mark.phase_1


def without(mapping, name):
    return {key: value for key, value in mapping.items() if key != name}


def two_events(event, properties, blob):
    return event_parts(event, properties) + event_parts(event, properties)[:1]


FAULTS = {
    "not an AI event": lambda e, p, b: event_parts({**e, "event": "$pageview"}, p, [b]),
    "unknown AI event": lambda e, p, b: event_parts({**e, "event": "$ai_other"}, p, [b]),
    "no distinct_id": lambda e, p, b: event_parts(without(e, "distinct_id"), p, [b]),
    "no uuid": lambda e, p, b: event_parts(without(e, "uuid"), p, [b]),
    "uuid with a path": lambda e, p, b: event_parts({**e, "uuid": "../../etc/passwd"}, p, [b]),
    "no model": lambda e, p, b: event_parts(e, without(p, "$ai_model"), [b]),
    "event not first": lambda e, p, b: event_parts(e, p, [b])[::-1],
    "two events": two_events,
    "properties twice": lambda e, p, b: event_parts({**e, "properties": p}, p, [b]),
    "blob over a property": lambda e, p, b: event_parts(e, {**p, b.name: "taken"}, [b]),
    "blob twice": lambda e, p, b: event_parts(e, p, [b, b]),
    "nested blob": lambda e, p, b: event_parts(e, p, [Blob("a.b", b.content_type, b.data)]),
    "empty blob": lambda e, p, b: event_parts(e, p, [Blob(b.name, b.content_type, b"")]),
    "unknown part": lambda e, p, b: [*event_parts(e, p, [b]), Part("attachment", b"x")],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_request_is_refused_with_its_reason(capture, bucket, team, data, fault):
    parts = FAULTS[fault](data.event(), data.properties(), data.blob("text", 100))
    plain = capture.send_parts(team.token, parts)
    assert plain.status_code == 400
    assert plain.text.startswith("failed to parse request: ")
    as_json = capture.send_parts(team.token, parts, Accept="application/json")
    body = as_json.json()
    assert set(body) == {"type", "code", "detail", "attr"}
    assert (as_json.status_code, body["type"]) == (400, "validation_error")
    assert body["detail"] == plain.text
    assert bucket.keys_of_team(team.id) == []


BOUNDARIES = {
    "short": "b",
    "browser": "----WebKitFormBoundary7MA4YWxkTrZu0gW",
    "longest": "x" * 70,
    "all characters": "0aZ'()+_,-./:=?",
    "dashes": "--------",
    "looks like ours": "----posthog-ai-00000000-0000-4000-8000-000000000000-AAAAAAAA",
}


@pytest.mark.parametrize("boundary", BOUNDARIES.values(), ids=BOUNDARIES)
def test_any_boundary_is_understood(sent, data, boundary):
    blob = data.blob("binary", 300)
    assert place_of(sent(blob, boundary=boundary), blob).size > 300


def test_a_boundary_may_occur_within_a_line_of_a_body(sent, data):
    text = b"a line with --within and within-- it\r\nand at its start: within\r\n -- within"
    blob = Blob("$ai_input", "text/plain", text)
    found = sent(blob, boundary="within")
    assert place_of(found, blob).size > len(text)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"before\r\n--collision after", {}),
        (b"before\r\n--collision\r\n\r\nafter", {"Content-Length": "28"}),
    ],
    ids=["delimiter", "delimiter before the end that the part declares"],
)
def test_a_boundary_that_ends_a_part_early_is_refused_and_another_is_accepted(
    capture, api, team, data, body, headers
):
    event = data.event()
    parts = event_parts(event, data.properties(), [Blob("$ai_input", "text/plain", body)])
    parts[-1] = Part(parts[-1].name, body, {**parts[-1].headers, **headers})
    refused = capture.send_form(team.token, form(parts, boundary="collision"))
    assert refused.status_code == 400
    assert "retry with another boundary" in refused.text
    answer = capture.send_form(team.token, form(parts))
    assert answer.status_code == 200, answer.text
    assert api.wait_for_event(team.id, event["uuid"]).properties["$ai_input"]


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", 'multipart/form-data; boundary=""', "application/json"],
)
def test_a_body_without_a_boundary_is_refused(capture, team, data, content_type):
    good = form(event_parts(data.event(), data.properties()))
    answer = capture.send_form(team.token, good, Content_Type=content_type)
    assert answer.status_code == 400
    assert answer.text.startswith("failed to decode request: ")
