"""What a request costs in memory, measured, whatever it contains."""

import asyncio
import gc
import json
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from nilometer.capture.admission import Admission
from nilometer.capture.ai_form import AiFormReader, FormLimits
from nilometer.capture.decompression import Gunzip
from nilometer.capture.part_body import PartBody
from nilometer.capture.patience import Patience
from nilometer.capture.refusals import ProjectBusy, Refusal, ServerBusy, TooBig
from nilometer.capture.request_body import BodyLimits, read_body
from nilometer.domain import json_text
from tests.capture.door import BLOB, event, raw_form, refused

MIB = 1024 * 1024
LIMITS = FormLimits(
    event=32 * 1024, event_and_properties=960 * 1024, parts=25 * MIB, part_count=256, blobs=True
)
WIRE = 25 * MIB * 11 // 10


def peak(action: Callable[[], object]) -> int:
    """The most bytes that were allocated at once while the action ran."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bomb(head: bytes, megabytes: int) -> bytes:
    """A gzip body that begins so and goes on with zeros."""
    compressor = zlib.compressobj(9, wbits=31)
    zeros = b"\0" * MIB
    return (
        compressor.compress(head)
        + b"".join(compressor.compress(zeros) for _ in range(megabytes))
        + compressor.flush()
    )


def refusal_of(body: bytes) -> Refusal:
    """Read a compressed body as the door does."""
    pieces = [body[start : start + 65536] for start in range(0, len(body), 65536)]

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    reader = AiFormReader("b", LIMITS, lambda _: None)
    reading = read_body(
        receive,
        reader.feed,
        decoder=Gunzip(),
        limits=BodyLimits(WIRE, 5, 5),
        patience=Patience(),
        declared=len(body),
        hold=lambda _: None,
    )
    with pytest.raises(TooBig) as caught:
        asyncio.run(reading)
    return caught.value


def test_a_bomb_in_the_event_part_costs_less_than_a_mebibyte():
    body = bomb(b'--b\r\nContent-Disposition: form-data; name="event"\r\n\r\n', 40)
    assert len(body) < 60_000
    assert peak(lambda: refusal_of(body)) < MIB * 3 // 2


def test_a_bomb_in_a_blob_costs_no_more_than_a_blob_may():
    head = (
        b'--b\r\nContent-Disposition: form-data; name="event"\r\n\r\n'
        + json.dumps(event()).encode()
    )
    head += b'\r\n--b\r\nContent-Disposition: form-data; name="' + BLOB.encode() + b'"\r\n'
    body = bomb(head + b"Content-Type: text/plain\r\n\r\n", 40)
    assert peak(lambda: refusal_of(body)) < 27 * MIB


def test_a_blob_that_comes_byte_by_byte_costs_little_more_than_its_size():
    part = PartBody()

    def fill() -> None:
        for number in range(MIB // 4):
            part.add(bytes([number % 256]))
        part.seal()

    assert peak(fill) < MIB * 3 // 4
    assert part.size == MIB // 4
    assert b"".join(part.chunks) == bytes(range(256)) * 1024
    assert len(part.chunks) < 20


def test_a_part_is_kept_in_the_chunks_that_it_came_in():
    part, chunks = PartBody(), [b"x" * 100_000, b"y" * 5, b"z" * 70_000]
    for chunk in chunks:
        part.add(chunk)
    assert part.joined() == b"".join(chunks)
    assert part.chunks[0] is chunks[0]
    assert part.chunks[2] is chunks[2]


def test_the_room_is_shared_fairly_and_given_back():
    admission = Admission(1000, 0.6)
    with admission.reserve(1, 600) as first:
        with pytest.raises(ProjectBusy):
            admission.reserve(1, 1)
        with admission.reserve(2, 300):
            with pytest.raises(ServerBusy):
                admission.reserve(3, 101)
            with pytest.raises(ProjectBusy):
                first.grow(601)
            assert (admission.in_flight, first.size) == (900, 600)
    assert admission.in_flight == 0
    with admission.reserve(1, 0), admission.reserve(1, 0) as growing:
        growing.grow(600)
        growing.grow(10)
        assert admission.in_flight == 600
    assert admission.in_flight == 0
    admission.reserve(1, 600)


# What JSON is parsed to: up to twenty times its text, so it is not kept while anything is awaited

EMPTY_LISTS = 200_000
LISTS = b"[" + b"[]," * (EMPTY_LISTS - 1) + b"[]]"
BIG = b'{"$ai_model":"m","x":%s}' % LISTS


def lists() -> int:
    """How many lists there are in this process."""
    gc.collect()
    return sum(type(each) is list for each in gc.get_objects())


def test_while_a_body_arrives_nothing_that_was_parsed_is_kept():
    small = b"[" + b"[]," * 8_000 + b"[]]"
    embedded = b'{"event":"$ai_span","distinct_id":"x","y":%s,' % small
    body = raw_form(("event", embedded + b'"z":1}'), ("event.properties", BIG), (BLOB, b"blob"))
    reader = AiFormReader("b", LIMITS, lambda _: None)
    before = lists()
    reader.feed(body[:-20])
    assert lists() < before + 100
    reader.feed(body[-20:])
    form = reader.finish()
    assert len(form.event_value["y"]) > 5000
    assert form.properties_value is not None
    assert len(form.properties_value["x"]) == EMPTY_LISTS


def test_of_repeated_properties_one_value_at_a_time_is_in_memory():
    body = raw_form(("event", json.dumps(event()).encode()), *[("event.properties", BIG)] * 8)
    reader = AiFormReader("b", LIMITS, lambda _: None)
    reader.feed(body)
    one = peak(lambda: json_text.loads(BIG))
    assert peak(reader.finish) < one * 3 // 2


def test_while_the_blob_store_is_slow_nothing_that_was_parsed_is_kept(door, monkeypatch):
    put, counts = door.blobs.put, []

    async def counting(*arguments: Any) -> Any:
        counts.append(lists())
        return await put(*arguments)

    monkeypatch.setattr(door.blobs, "put", counting)
    before = lists()
    fields = json.dumps(event()).encode()
    body = raw_form(("event", fields), ("event.properties", BIG), (BLOB, b"x"))
    assert door.post_body(body).ok
    assert counts[0] < before + 1000


def test_a_large_text_is_parsed_beside_the_loop_and_a_small_one_on_it(door, monkeypatch):
    loads, threads = json_text.loads, {}

    def noted(text: bytes) -> Any:
        threads.setdefault(text, threading.current_thread())  # an event may be parsed again
        return loads(text)

    monkeypatch.setattr(json_text, "loads", noted)
    fields, small = json.dumps(event()).encode(), b'{"$ai_model":"m"}'
    assert door.post_body(raw_form(("event", fields), ("event.properties", small))).ok
    assert door.post_body(raw_form(("event", fields), ("event.properties", BIG))).ok
    assert threads[small] is threads[fields]
    assert threads[BIG] is not threads[fields]


@pytest.mark.parametrize("size", [10, 200_000], ids=["small", "large"])
@pytest.mark.parametrize(
    "later",
    [
        (BLOB + ".nested", b"x"),
        ("unknown", b"x"),
        b"Content-Type: text/plain; charset=\xff\r\n\r\nx",
    ],
)
def test_properties_that_are_no_json_are_reported_before_a_later_fault(door, size, later):
    broken = ("event.properties", b'{"$ai_model":"m",' + b" " * size)
    body = raw_form(("event", json.dumps(event()).encode()), broken, later)
    refused(door, door.post_body(body), 400, "Properties part must be valid JSON")


@pytest.mark.parametrize("cut", [4, 30])
def test_properties_that_are_no_json_are_reported_before_a_cut_body(door, cut):
    broken = ("event.properties", b"{")
    body = raw_form(("event", json.dumps(event()).encode()), broken, (BLOB, b"x" * 100))
    refused(door, door.post_body(body[:-cut]), 400, "Properties part must be valid JSON")


def test_every_one_of_repeated_properties_must_be_json(door):
    parts = (("event.properties", b"{"), ("event.properties", b'{"$ai_model":"m"}'))
    body = raw_form(("event", json.dumps(event()).encode()), *parts)
    refused(door, door.post_body(body), 400, "Properties part must be valid JSON")
