"""What a request costs in memory, measured, whatever it contains."""

import asyncio
import json
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from nilometer.capture.admission import Admission
from nilometer.capture.ai_form import AiFormReader, FormLimits
from nilometer.capture.part_body import PartBody
from nilometer.capture.patience import Patience
from nilometer.capture.refusals import ProjectBusy, Refusal, ServerBusy, TooBig
from nilometer.capture.request_body import BodyLimits, Gunzip, read_body
from tests.capture.door import BLOB, event

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
        gunzip=Gunzip(),
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
