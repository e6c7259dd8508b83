"""Packed values in the events of an answer."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from uuid import uuid4

import pytest

from nilometer.blobs.packs import PackValue
from nilometer.blobs.store import BlobStore, open_store
from nilometer.domain import clock
from nilometer.domain.packed import PackedValue
from nilometer.query import unpacking
from nilometer.query.events import Event
from nilometer.query.hydration import Budget, Outcome
from nilometer.query.unpacking import Unpacked, unpack

NOW = clock.to_micros(clock.now())


@pytest.fixture(scope="module")
def blobs(tmp_path_factory) -> Iterator[BlobStore]:
    url = tmp_path_factory.mktemp("blobs").as_uri()
    with closing(open_store(url, bucket="nilometer")) as store:
        yield store


def packed_event(blobs: BlobStore, project_id: int = 1, /, **values: str) -> Event:
    """An event with these values, all in one pack."""
    texts = [PackValue(name, text.encode()) for name, text in values.items()]
    kept = asyncio.run(blobs.put_pack(project_id, str(uuid4()), NOW, 30, texts))
    return event_with(
        [PackedValue(each.name, each.url, each.size, each.stored_size) for each in kept], project_id
    )


def event_with(values: list[PackedValue], project_id: int = 1) -> Event:
    text = json.dumps({value.property: value.url for value in values}, separators=(",", ":"))
    nobody = (None, None, None, None)
    return Event("u", "e", "d", 0, 0, 0, project_id, *nobody, text, (), tuple(values))


def read(blobs: BlobStore, *events: Event, left: int = 1 << 20) -> list[Unpacked]:
    async def run() -> list[Unpacked]:
        return await unpack(events, blobs, Budget(left))

    return asyncio.run(run())


def test_each_event_gets_its_own_values_in_the_order_of_its_properties(blobs):
    events = [
        packed_event(blobs, a=f"[{number}, 1.10]", b=f'"{"x" * number}"') for number in range(30)
    ]
    for number, found in enumerate(read(blobs, *events)):
        assert found.event.properties == f'{{"a":[{number}, 1.10],"b":"{"x" * number}"}}'
        assert found.outcomes == {"a": Outcome.INLINED, "b": Outcome.INLINED}


def test_what_does_not_fit_leaves_its_url_and_smaller_ones_follow(blobs):
    first = packed_event(blobs, a='"' + "a" * 58 + '"', b='"' + "b" * 58 + '"')
    second = packed_event(blobs, c="12345")
    one, two = read(blobs, first, second, left=80)
    assert one.outcomes == {"a": Outcome.INLINED, "b": Outcome.TOO_LARGE}
    assert json.loads(one.event.properties) == {"a": "a" * 58, "b": first.packed[1].url}
    assert two.event.properties == '{"c":12345}'


def test_a_value_of_another_project_is_missing(blobs):
    """A row that names it cannot be; should it be, nothing is shown."""
    theirs = packed_event(blobs, 2, a='"a secret"')
    [found] = read(blobs, event_with(list(theirs.packed), project_id=1))
    assert found.outcomes == {"a": Outcome.MISSING}
    assert "secret" not in found.event.properties


@contextmanager
def silent() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that takes connections and never answers, and those connections."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", taken
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(90)
    for connection in taken:
        connection.close()


def test_a_storage_that_hangs_is_waited_for_once_and_the_rest_is_shown(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr(unpacking, "MAX_SECONDS", 0.5)
    url = f"s3://bucket/llma/1/2100-01-01/{uuid4()}_{'0' * 32}.pack?range=0-9"
    events = [event_with([PackedValue("a", url, 1, 1)]) for _ in range(50)]
    with silent() as (endpoint, taken):
        with closing(open_store("s3://bucket", bucket="", s3_endpoint=endpoint)) as hanging:
            found = read(hanging, *events)
        assert len(taken) <= unpacking._READS_AT_ONCE
    assert [each.outcomes for each in found] == [{"a": Outcome.UNAVAILABLE}] * 50
    assert found[0].event == events[0]
