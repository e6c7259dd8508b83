import asyncio
import base64
import gzip
import json
import socket
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.blobs import keys
from nilometer.blobs.backend import Limits
from nilometer.blobs.store import open_store
from nilometer.blobs.types import BlobPart
from nilometer.domain import clock
from nilometer.domain.ai_record import BlobReference
from nilometer.query.events import Event
from nilometer.query.hydration import Budget, Outcome, hydrate

DAY = 86_400_000_000


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    store = open_store(tmp_path_factory.mktemp("blobs").as_uri(), bucket="nilometer")
    yield store
    store.close()


def put(blobs, *parts, project_id=1, days_ago=0):
    now = clock.to_micros(clock.now()) - days_ago * DAY
    given_parts = [BlobPart(name, kind, encoding, [body]) for name, kind, body, encoding in parts]
    return asyncio.run(blobs.put(project_id, str(uuid4()), now, 30, given_parts))


def event(references, properties=None):
    members = properties or {reference.name: reference.url for reference in references}
    text = properties if isinstance(properties, str) else json.dumps(members)
    return Event("u", "e", "d", 0, 0, 0, 1, None, None, None, None, text, tuple(references))


def hydrated(blobs, references, properties=None, budget=None):
    return asyncio.run(hydrate(event(references, properties), blobs, budget or Budget()))


def one(blobs, kind, body, encoding=None):
    """The JSON text that stands for a blob once it is put back, and its outcome."""
    references = put(blobs, ("$b", kind, body, encoding))
    result = hydrated(blobs, references)
    text = result.properties.removeprefix('{"$b":').removesuffix("}")
    return text, result.outcomes["$b"]


def test_json_is_put_back_as_its_exact_text(blobs):
    text = '{"a": 1.10, "b":[123456789012345678901, null],"c":"\\u00e9"}'
    assert one(blobs, "application/json", text.encode()) == (text, Outcome.INLINED)


def test_text_is_put_back_as_a_string(blobs):
    text, outcome = one(blobs, "text/plain", 'é"\n\x00'.encode())
    assert (json.loads(text), outcome) == ('é"\n\x00', Outcome.INLINED)


def test_text_is_read_in_its_charset(blobs):
    text, _ = one(blobs, "text/plain; charset=latin-1", b"\xe9")
    assert json.loads(text) == "é"


@settings(max_examples=30)
@given(st.binary(max_size=64))
def test_bytes_are_put_back_as_a_data_url(blobs, body):
    text, _ = one(blobs, "application/octet-stream", body)
    prefix, _, data = json.loads(text).partition(",")
    assert prefix == "data:application/octet-stream;base64"
    assert base64.b64decode(data) == body


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"a":1,"a":2}', b"NaN", b"[" * 500 + b"]" * 500, b'"\\ud800"'],
    ids=["cut", "duplicate", "nan", "deep", "surrogate"],
)
def test_json_that_readers_would_not_agree_on_is_put_back_as_text(blobs, body):
    text, outcome = one(blobs, "application/json", body)
    assert (json.loads(text), outcome) == (body.decode(), Outcome.INLINED)


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "text/plain; charset=nope"])
def test_bytes_that_are_not_the_text_they_claim_become_a_data_url(blobs, kind):
    text, _ = one(blobs, kind, b"\xff\xfe\x00")
    assert base64.b64decode(json.loads(text).partition(",")[2]) == b"\xff\xfe\x00"


def test_what_arrived_compressed_is_put_back_decoded(blobs):
    body = gzip.compress(b'{"a":1.10}')
    assert one(blobs, "application/json", body, "gzip") == ('{"a":1.10}', Outcome.INLINED)


def test_a_broken_or_unknown_compression_leaves_the_url(blobs):
    for encoding in ("gzip", "x-unknown"):
        text, outcome = one(blobs, "text/plain", b"not compressed", encoding)
        assert outcome is Outcome.UNREADABLE
        assert json.loads(text).startswith("file://nilometer/llma/1/")


def test_other_properties_keep_their_exact_text_and_their_order(blobs):
    (reference,) = put(blobs, ("$b", "application/json", b"[1.0]", None))
    text = f'{{ "x": 1.10,"$b" :"{reference.url}", "y":{{"b": 2.50}} }}'
    assert hydrated(blobs, [reference], text).properties == (
        '{"x":1.10,"$b":[1.0],"y":{"b": 2.50}}'
    )


def test_an_expired_blob_leaves_its_url_and_the_rest_is_put_back(blobs):
    references = [
        *put(blobs, ("$old", "text/plain", b"old", None), days_ago=40),
        *put(blobs, ("$new", "text/plain", b"new", None)),
    ]
    result = hydrated(blobs, references)
    assert result.outcomes == {"$old": Outcome.EXPIRED, "$new": Outcome.INLINED}
    assert json.loads(result.properties) == {"$old": references[0].url, "$new": "new"}


def test_a_missing_blob_leaves_its_url(blobs):
    (reference,) = put(blobs, ("$b", "text/plain", b"x", None))
    for day in blobs.list_days():
        for page in blobs.list_objects(day):
            blobs.delete([item.name for item in page])
    result = hydrated(blobs, [reference])
    assert result.outcomes == {"$b": Outcome.MISSING}
    assert json.loads(result.properties) == {"$b": reference.url}


def test_a_blob_of_another_project_is_never_put_into_an_event(blobs):
    (reference,) = put(blobs, ("$b", "text/plain", b"secret", None), project_id=2)
    result = hydrated(blobs, [reference])
    assert result.outcomes == {"$b": Outcome.MISSING}
    assert "secret" not in result.properties


def test_a_storage_that_is_down_leaves_the_urls(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    limits = Limits(connect=1, attempt=1, retries=0, retry_window=1, put=2, probe=2)
    down = open_store("s3://bucket", bucket="", s3_endpoint=address, limits=limits)
    now = clock.to_micros(clock.now())
    url = keys.blob_url("s3", "bucket", keys.new_object_name(1, str(uuid4()), now, 30), 0, 9)
    result = hydrated(down, [BlobReference("$b", url, "text/plain", None, 1, 1, False)])
    down.close()
    assert result.outcomes == {"$b": Outcome.UNAVAILABLE}
    assert json.loads(result.properties) == {"$b": url}


def test_what_does_not_fit_leaves_its_url_and_smaller_ones_follow(blobs):
    references = put(
        blobs,
        ("$a", "text/plain", b"a" * 60, None),
        ("$b", "text/plain", b"b" * 60, None),
        ("$c", "text/plain", b"c" * 10, None),
    )
    budget = Budget(80)
    result = hydrated(blobs, references, budget=budget)
    assert result.outcomes == {
        "$a": Outcome.INLINED,
        "$b": Outcome.TOO_LARGE,
        "$c": Outcome.INLINED,
    }
    assert budget.left == 80 - 62 - 12


def test_text_that_grows_when_it_is_escaped_counts_as_what_it_becomes(blobs):
    references = put(blobs, ("$b", "text/plain", b"\x01" * 50, None))
    assert hydrated(blobs, references, budget=Budget(100)).outcomes == {"$b": Outcome.TOO_LARGE}


def test_a_bomb_is_stopped_at_the_budget(blobs):
    body = gzip.compress(b"0" * 50_000_000)
    references = put(blobs, ("$b", "text/plain", body, "gzip"))
    assert hydrated(blobs, references, budget=Budget(100_000)).outcomes == {"$b": Outcome.TOO_LARGE}
