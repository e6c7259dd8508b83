"""Blobs and rules: texts are redacted in their own encoding, and what cannot be read is refused."""

import gzip
import json
from typing import Any

import pytest
import zstandard

from tests.capture.door import event, form
from tests.capture.redaction.conftest import Guarded
from tests.capture.redaction.senders import MAIL, PASSWORD

MODEL = {"$ai_model": "gpt-4o"}
MARK = "[redacted:email]"
RULES = {"patterns": ["email"], "keys": ["password"]}


def send(guarded: Guarded, body: bytes, content_type: str, encoding: str = "", **rules: Any) -> Any:
    headers = {"Content-Encoding": encoding} if encoding else {}
    part = (None, body, content_type, headers)
    parts = [*form(event(), MODEL), ("event.properties.x", part)]
    return guarded.door.post(parts, key=guarded.project(rules or RULES))


def stored(guarded: Guarded) -> tuple[bytes, Any]:
    """The body of the only blob, and its reference."""
    [reference] = guarded.door.log.only().blobs
    [path] = [path for path in guarded.directory.rglob("*.multipart") if path.is_file()]
    start, _, end = reference.url.rpartition("=")[2].partition("-")
    part = path.read_bytes()[int(start) : int(end) + 1]
    return part.partition(b"\r\n\r\n")[2], reference


@pytest.mark.parametrize(
    ("body", "content_type", "kept"),
    [
        (f"to {MAIL} ü".encode(), "text/plain", f"to {MARK} ü".encode()),
        (f"to {MAIL} ü".encode("latin-1"), "text/plain", f"to {MARK} ü".encode("latin-1")),
        (
            f"to {MAIL} ü".encode("utf-16"),
            "text/plain; charset=utf-16",
            f"to {MARK} ü".encode("utf-16"),
        ),
        (f"to {MAIL}".encode(), "text/plain; charset=no-such-charset", f"to {MARK}".encode()),
        # In these any octets, or any even number of them, are a text: another than was meant.
        (f"for {MAIL}!".encode(), "text/plain; charset=cp037", f"for {MARK}!".encode()),
        (f"at {MAIL}  "[:24].encode(), "text/plain; charset=utf-16", f"at {MARK}  ".encode()),
        (
            f'{{"n": 1.10, "m": "{MAIL}"}}'.encode(),
            "application/json",
            f'{{"n": 1.10, "m": "{MARK}"}}'.encode(),
        ),
        (
            f'{{"n": 1, "m": "{MAIL}'.encode(),
            "application/json",
            f'{{"n": 1, "m": "{MARK}'.encode(),
        ),
        (f"to {MAIL}".encode(), "application/octet-stream", f"to {MARK}".encode()),
        (
            f"\x00\xff{MAIL}".encode("latin-1"),
            "application/octet-stream",
            f"\x00\xff{MAIL}".encode("latin-1"),
        ),
        (b"nothing in here", "text/plain", b"nothing in here"),
    ],
)
def test_a_blob_is_redacted_in_the_encoding_that_it_has(guarded: Guarded, body, content_type, kept):
    assert send(guarded, body, content_type).status_code == 200
    assert stored(guarded)[0] == kept
    record = guarded.door.log.only()
    assert record.redacted == ({} if kept == body else {"email": 1})


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.compress)]
)
def test_a_compressed_blob_is_looked_into(guarded: Guarded, encoding: str, pack: Any):
    assert send(guarded, pack(f"to {MAIL}".encode()), "text/plain", encoding).status_code == 200
    body, reference = stored(guarded)
    assert (body, reference.content_encoding) == (f"to {MARK}".encode(), None)


def test_a_compressed_blob_that_no_rule_touches_stays_as_it_came(guarded: Guarded):
    body = gzip.compress(b"nothing in here")
    assert send(guarded, body, "text/plain", "gzip").status_code == 200
    assert (stored(guarded)[0], stored(guarded)[1].content_encoding) == (body, "gzip")


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("br", b"\x0b\x02\x80"),
        ("gzip", b"no gzip"),
        ("gzip", gzip.compress(b"cut")[:-6]),
    ],
    ids=["unknown", "none", "cut"],
)
def test_a_blob_that_cannot_be_read_is_refused_where_there_are_rules(
    guarded: Guarded, encoding, body
):
    response = send(guarded, body, "text/plain", encoding)
    assert response.status_code == 400
    assert (
        "redaction rules cannot be applied to the blob part 'event.properties.x'" in response.text
    )
    assert guarded.kept() == b""
    assert send(guarded, body, "text/plain", encoding, content="none").status_code == 200


def test_a_blob_that_grows_too_large_is_refused(guarded: Guarded):
    response = send(guarded, gzip.compress(bytes(40 << 20)), "text/plain", "gzip")
    assert response.status_code == 413
    assert guarded.kept() == b""


@pytest.mark.parametrize("embedded", [True, False])
def test_a_blob_that_a_rule_names_is_not_stored(guarded: Guarded, embedded: bool):
    blob = ("text/plain", PASSWORD.encode())
    first = [event(properties=MODEL)] if embedded else [event(), MODEL]
    response = guarded.door.post(form(*first, PassWord=blob), key=guarded.project(RULES))
    assert response.status_code == 200
    assert [part["name"] for part in response.json()["accepted_parts"]][
        -1
    ] == "event.properties.PassWord"
    assert PASSWORD.encode() not in guarded.kept()
    record = guarded.door.log.only()
    assert (record.blobs, record.redacted) == ((), {"key:password": 1})
    assert json.loads(record.properties_text()) == MODEL | {"PassWord": "[redacted:key:password]"}


def test_without_content_there_are_no_blobs(guarded: Guarded):
    assert send(guarded, b"\x00\xff", "application/octet-stream", content="none").status_code == 200
    assert not [path for path in guarded.directory.rglob("*") if path.is_file()]
    record = guarded.door.log.only()
    assert (record.blobs, record.redacted) == ((), {"content": 1})
