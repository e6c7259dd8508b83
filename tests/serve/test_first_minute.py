"""What a user does first: send an event with its blobs, read it back whole."""

import email
import json
import os
import re
import uuid

import pytest
import requests
from requests_toolbelt import MultipartEncoder

from tests.running import KEY, running, wait_until
from tests.sending import generation, send


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("data")) as server:
        yield server


def read_event(server, identifier, seconds=20, **parameters):
    def read():
        with server.client() as client:
            answer = client.get(f"/api/projects/1/events/{identifier}/", params=parameters)
        return answer.json() if answer.status_code == 200 else None

    return wait_until(read, seconds=seconds, what=f"the event is readable in {seconds} s")


def stored_part(server, url):
    """What the range of a blob's URL holds, cut out of the object on disk."""
    match = re.fullmatch(r"file://nilometer/(.+)\?range=(\d+)-(\d+)", url)
    data = (server.data_dir / "blobs" / match[1]).read_bytes()
    return data[int(match[2]) : int(match[3]) + 1]


def as_requests(parts):
    return requests.Request("POST", "http://localhost", files=parts).prepare()


def as_toolbelt(parts):
    encoder = MultipartEncoder(fields=[(name, value) for name, value in parts])
    return requests.Request(
        "POST",
        "http://localhost",
        data=encoder.to_string(),
        headers={"Content-Type": encoder.content_type},
    ).prepare()


@pytest.mark.parametrize("encode", [as_requests, as_toolbelt])
def test_an_event_with_three_blobs_is_readable_within_two_seconds(server, encode):
    identifier = str(uuid.uuid4())
    blobs = {
        "$ai_input": ("application/json", json.dumps([{"role": "user", "n": 1.10}] * 200).encode()),
        "$ai_output_choices": ("text/plain", "Es regnet. ☔\r\n".encode() * 300),
        "$ai_attachment": ("application/octet-stream", os.urandom(5000) + b"\r\n--not a boundary"),
    }
    prepared = encode(generation(identifier, blobs))
    answer = requests.post(
        f"{server.url}/i/v0/ai",
        data=prepared.body,
        headers={
            "Content-Type": prepared.headers["Content-Type"],
            "Authorization": f"Bearer {KEY}",
        },
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    assert [part["name"] for part in answer.json()["accepted_parts"]] == [
        "event",
        "event.properties",
        *(f"event.properties.{name}" for name in blobs),
    ]

    event = read_event(server, identifier, seconds=2)
    for name, (content_type, body) in blobs.items():
        url = event["properties"][name]
        part = email.message_from_bytes(stored_part(server, url))
        assert part.get_param("name", header="content-disposition") == name
        assert part.get_content_type() == content_type
        with server.client() as client:
            answer = client.get("/api/projects/1/blobs/", params={"url": url})
        assert answer.status_code == 200, answer.text
        assert answer.content == body
        assert answer.headers["content-type"].split(";")[0] == content_type
        assert answer.headers["content-disposition"].startswith("attachment")

    hydrated = read_event(server, identifier, hydrate=1)["properties"]
    assert hydrated["$ai_input"] == json.loads(blobs["$ai_input"][1])
    assert hydrated["$ai_output_choices"] == blobs["$ai_output_choices"][1].decode()


def test_the_same_uuid_again_is_answered_alike_and_the_first_stays(server):
    identifier = str(uuid.uuid4())
    for attempt in ("first", "second"):
        assert send(server.url, generation(identifier, attempt=attempt)).status_code == 200
        assert read_event(server, identifier)["properties"]["attempt"] == "first"


def test_numbers_come_back_with_the_digits_they_were_sent_with(server):
    identifier = str(uuid.uuid4())
    parts = generation(identifier)
    parts[1] = (
        "event.properties",
        (None, '{"$ai_model":"m","a":1.10,"b":123456789012345678901}', "application/json"),
    )
    assert send(server.url, parts).status_code == 200
    read_event(server, identifier)
    with server.client() as client:
        text = client.get(f"/api/projects/1/events/{identifier}/").text
    assert '"a":1.10' in text
    assert '"b":123456789012345678901' in text


def test_a_trace_reads_as_a_tree(server):
    trace = str(uuid.uuid4())

    def span(name, parent, event="$ai_span"):
        parts = generation(
            None, None, **{"$ai_trace_id": trace, "$ai_span_id": name, "$ai_parent_id": parent}
        )
        fields = json.loads(parts[0][1][1]) | {"event": event}
        parts[0] = ("event", (None, json.dumps(fields), "application/json"))
        assert send(server.url, parts).status_code == 200

    span("root", None)
    span("child", "root")
    span("call", "child", "$ai_generation")

    def names(nodes):
        return [(node["span_id"], names(node["children"])) for node in nodes]

    def whole():
        with server.client() as client:
            answer = client.get(f"/api/projects/1/traces/{trace}/")
        tree = answer.json().get("tree") if answer.status_code == 200 else None
        return tree if tree and names(tree) == [("root", [("child", [("call", [])])])] else None

    assert wait_until(whole)


def test_metrics_count_what_happened(server):
    assert send(server.url, generation(), key="wrong-key-of-nobody").status_code == 401
    identifier = str(uuid.uuid4())
    assert send(server.url, generation(identifier, {"$b": ("text/plain", b"x")})).status_code == 200
    read_event(server, identifier)

    def metrics():
        return requests.get(f"{server.url}/metrics", timeout=60).text

    for name in (
        'nilometer_capture_requests_total{door="ai",reason="ok",status="200"}',
        'nilometer_blob_uploads_total{outcome="stored"}',
        "nilometer_log_fsync_seconds_count",
        "nilometer_accept_to_queryable_seconds_count",
        'nilometer_store_inserts_total{outcome="ok",table="events"}',
    ):
        line = re.compile(rf"^{re.escape(name)} [1-9]", re.MULTILINE)
        # An event can be read before it is counted.
        wait_until(lambda line=line: line.search(metrics()), what=name)
    text = metrics()
    assert 'nilometer_log_lag_records{group="store"}' in text
    assert 'status="401"' in text
    assert KEY not in text
