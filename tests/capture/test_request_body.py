"""Sizes, compression and ways of sending a body, at the real door."""

import gzip
import json
import zlib

import pytest
import requests
from requests_toolbelt import MultipartEncoder

from tests.capture.door import (
    BLOB,
    event,
    form,
    open_door,
    refused,
    valid_body,
    with_part,
)

MODEL = {"$ai_model": "test"}
DECODING = "failed to decode request: "


def test_an_oversized_blob_among_others_is_reported_with_the_exact_sum(access, directory):
    with open_door(access, directory, max_parts_bytes=10_000) as door:
        blobs = {"a": ("text/plain", b"x" * 9000), "b": ("text/plain", b"x" * 950)}
        refused(door, door.post(form(event(), MODEL, **blobs)), 413, "Sum of all parts (10068 by")
        blobs["b"] = ("text/plain", b"x" * 882)
        assert door.post(form(event(), MODEL, **blobs)).status_code == 200


def test_a_chunked_body_over_the_limit_is_refused_and_the_connection_still_serves(
    access, directory
):
    with open_door(access, directory, max_parts_bytes=100_000) as door:
        session = requests.Session()
        headers = {
            "Authorization": f"Bearer {door.key}",
            "Content-Type": "multipart/form-data; boundary=b",
        }
        body = valid_body(x=b"x" * 150_000)
        chunks = (body[start : start + 10_000] for start in range(0, len(body), 10_000))
        refused(door, session.post(door.url, data=chunks, headers=headers), 413, "request body")
        assert session.post(door.url, data=valid_body(), headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"not gzip", "incorrect header check"),
        (gzip.compress(valid_body())[:-9], "truncated"),
        (gzip.compress(valid_body())[:5], "truncated"),
        (gzip.compress(valid_body()) + b"tail", "incorrect header check"),
        (gzip.compress(valid_body())[:-5] + b"\0" * 5, "incorrect"),
        (gzip.compress(b"") * 1025, "more than 1024 members"),
    ],
    ids=["no gzip", "cut", "header only", "a tail", "a wrong checksum", "many members"],
)
def test_a_broken_gzip_body_is_refused(door, body, text):
    response = door.post_body(body, Content_Encoding="gzip")
    refused(door, response, 400, f"{DECODING}Failed to decompress gzip body: ")
    assert text in response.text


def test_a_gzip_body_of_several_members_is_one_body(door):
    body = valid_body(**{"$ai_input": b"x" * 5000})
    members = gzip.compress(body[:300]) + gzip.compress(b"") + gzip.compress(body[300:])
    assert door.post_body(members, Content_Encoding="gzip").status_code == 200


def test_a_gzip_bomb_is_stopped_at_the_cap(door):
    compressor = zlib.compressobj(9, wbits=31)
    start = valid_body()[:-5] + b'--b\r\nContent-Disposition: form-data; name="'
    bomb = compressor.compress(start + BLOB.encode() + b'"\r\nContent-Type: text/plain\r\n\r\n')
    bomb += b"".join(compressor.compress(b"\0" * 1_000_000) for _ in range(500))
    bomb += compressor.flush()
    assert len(bomb) < 600_000
    refused(door, door.post_body(bomb, Content_Encoding="gzip"), 413, "decompressed body exceeds")
    assert door.app._admission.in_flight == 0


def test_encodings_other_than_gzip_are_ignored(door):
    assert door.post_body(valid_body(), Content_Encoding="deflate").status_code == 200


def test_a_part_that_arrives_compressed_stays_as_it_is(door):
    packed = gzip.compress(b"x" * 5000)
    body = with_part(BLOB, packed, b"Content-Type: text/plain\r\nContent-Encoding: gzip")
    accepted = door.post_body(body).json()["accepted_parts"][2]
    assert (accepted["length"], accepted["content-encoding"]) == (len(packed), "gzip")
    [blob] = door.log.only().blobs
    assert (blob.stored_size, blob.compressed_here) == (len(packed), False)


def test_the_faults_of_the_body_come_before_those_of_its_type(door):
    response = door.post(
        data=b"not gzip", headers={"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    )
    refused(door, response, 400, "Failed to decompress gzip body")
    response = door.post(data=iter([b""]), headers={"Content-Type": "text/plain"})
    refused(door, response, 400, "request missing data payload")


def test_a_body_streamed_by_requests_toolbelt_is_accepted(door):
    fields = [
        ("event", (None, json.dumps(event()), "application/json")),
        ("event.properties", (None, json.dumps(MODEL), "application/json")),
        (BLOB, ("input.txt", b"x" * 300_000, "text/plain")),
    ]
    encoder = MultipartEncoder(fields)
    response = door.post(data=encoder, headers={"Content-Type": encoder.content_type})
    assert response.json()["accepted_parts"][2]["length"] == 300_000


@pytest.mark.parametrize("name", ["Authorization", "Content-Type", "Content-Encoding"])
def test_a_repeated_header_that_could_be_read_in_two_ways_is_refused(door, name):
    body = valid_body()
    head = door.request_head(len(body))[:-2] + f"{name}: x\r\n{name}: y\r\n\r\n".encode()
    with door.connect() as client:
        client.sendall(head + body)
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"more than one " + name.lower().encode() in answer
