"""Clients that are slow, cut off, or endless: bounded time and memory, and no event of theirs."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from nilometer.capture.http_protocol import MAX_HEAD_BYTES, MAX_HEADERS, BoundedHttpProtocol
from tests.capture.door import (
    Access,
    Door,
    event,
    form,
    open_door,
    valid_body,
    wait_until,
    whole_event,
)
from tests.patience import PATIENCE


@pytest.fixture(scope="module")
def impatient(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A door with a short time for heads, and for them alone.

    The time begins with the connection: a client that the machine keeps from running may have lost
    its connection before it sends the first byte.
    """
    with pytest.MonkeyPatch.context() as patch:
        # A drip that this ends must not count as one that the door's own limit has ended.
        patch.setattr(BoundedHttpProtocol, "header_timeout", 1000)
        with open_door(access, tmp_path_factory.mktemp("impatient"), header_timeout=0.3) as door:
            yield door


@pytest.fixture
def quick(access: Access, directory: Path) -> Iterator[Door]:
    """A door that soon gives up a body that stops coming, be it wanted or not."""
    with open_door(
        access, directory, body_idle_timeout=0.3, max_parts_bytes=100_000, drain_timeout=1
    ) as door:
        yield door


@pytest.fixture
def small(access: Access, directory: Path) -> Iterator[Door]:
    """A door for small bodies that leaves them their time."""
    with open_door(access, directory, max_parts_bytes=100_000) as door:
        yield door


@pytest.fixture(scope="module")
def brief(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A door that bounds the whole of a body and hardly its pauses.

    Pauses of a sender that the machine kept from running are not taken for silence here.
    """
    with open_door(
        access, tmp_path_factory.mktemp("brief"), body_idle_timeout=60, body_timeout=1.0
    ) as door:
        yield door


def read_to_end(client: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    received = b""
    try:
        while chunk := client.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def dribble(client: socket.socket, data: bytes, pause: float, seconds: float) -> None:
    """Send a byte at a time, for at most so long, until the server closes."""
    client.settimeout(pause)
    deadline = time.monotonic() + seconds
    for byte in data:
        assert time.monotonic() < deadline, "the server still listens"
        try:
            client.sendall(bytes([byte]))
            if not client.recv(1):
                return
        except TimeoutError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            return
    pytest.fail("the server has listened to the end")


def served(door: Door) -> socket.socket | None:
    """A connection whose first request was served; None when its head came too late."""
    body = valid_body()
    client = door.connect()
    try:
        client.sendall(door.request_head(len(body)) + body)
        if client.recv(4096).startswith(b"HTTP/1.1 200 "):
            return client
    except (BrokenPipeError, ConnectionResetError):
        pass
    client.close()
    return None


def body_seconds(door: Door, body: bytes, piece: int, pause: float) -> tuple[bytes, float]:
    """The answer to a body that comes in pieces with pauses, and how long it took."""
    started = time.monotonic()
    with door.connect() as client:
        client.sendall(door.request_head(len(body)))
        client.settimeout(pause)
        for start in range(0, len(body), piece):
            client.sendall(body[start : start + piece])
            try:
                return client.recv(4096), time.monotonic() - started
            except TimeoutError:
                continue
        client.settimeout(10)
        return client.recv(4096), time.monotonic() - started


# Heads


def test_a_connection_that_sends_nothing_is_closed(impatient):
    with impatient.connect() as client:
        assert read_to_end(client) == b""


@pytest.mark.parametrize(
    ("start", "then"),
    [
        (b"", b"POST /"),
        (b"\r\n", b"POST /"),
        (b"POST /i/v0/ai HTTP/1.1\r\nHost: x\r\n", b"X-Slow: "),
    ],
    ids=["nothing", "line", "headers"],
)
def test_a_head_that_drips_is_cut_off(impatient, start, then):
    with impatient.connect() as client:
        client.sendall(start)
        dribble(client, then + b"x" * 1000, 0.05, 5 * PATIENCE)


@pytest.mark.parametrize("start", [b"\r\n", b"POST /i/v0/ai HT"])
def test_a_second_head_that_never_ends_is_cut_off(impatient, start):
    client = wait_until(lambda: served(impatient), "the first head comes in time")
    with client:
        client.sendall(start)
        assert read_to_end(client) == b""


@pytest.mark.parametrize(
    "headers",
    [
        b"".join(b"X-%d: x\r\n" % number for number in range(MAX_HEADERS + 1)),
        b"X: " + b"x" * MAX_HEAD_BYTES + b"\r\n",
        b"X: x\r\n" * (MAX_HEAD_BYTES // 4),
        b"X: " + b"x" * 10 * MAX_HEAD_BYTES,
        b"x" * 10 * MAX_HEAD_BYTES,
    ],
    ids=["count", "one", "many", "unended", "unended name"],
)
def test_a_head_beyond_the_limits_is_answered_with_431(door, headers):
    with door.connect() as client:
        try:
            client.sendall(b"POST /i/v0/ai HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return
        answer = read_to_end(client)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 "), answer[:200]


def test_an_oversized_head_in_one_packet_is_told_so(door):
    with door.connect() as client:
        headers = b"".join(b"X-%d: x\r\n" % number for number in range(MAX_HEADERS + 1))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
        assert read_to_end(client).startswith(b"HTTP/1.1 431 ")


def test_a_head_at_the_limits_is_served(door):
    body = valid_body()
    head = door.request_head(len(body))[:-2]
    fill = b"".join(b"X-%d: x\r\n" % number for number in range(MAX_HEADERS - 4))
    with door.connect() as client:
        client.sendall(head + fill + b"\r\n" + body)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_trailers_and_chunk_extensions_are_bounded_too(door):
    for endless in (b"0\r\nX: ", b"1;"):
        with door.connect() as client:
            head = door.request_head(0, Content_Length="", Transfer_Encoding="chunked")
            try:
                client.sendall(head + endless + b"x" * 10 * MAX_HEAD_BYTES)
            except (BrokenPipeError, ConnectionResetError):
                continue
            assert b" 200 " not in read_to_end(client)
    assert door.log.envelopes == []


# Bodies


def test_a_body_that_stops_is_answered_with_408(quick):
    body = valid_body()
    with quick.connect() as client:
        client.sendall(quick.request_head(len(body)) + body[:-1])
        answer = read_to_end(client)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b"client stopped sending data")
    assert quick.log.envelopes == []


def test_a_body_that_drips_has_only_so_long(brief):
    answer, seconds = body_seconds(brief, valid_body(), 1, 0.1)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert 0.9 < seconds < 15


def test_a_body_in_small_pieces_is_accepted_in_time(door):
    answer, _ = body_seconds(door, valid_body(), 40, 0.001)
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_connection_cut_in_the_body_leaves_no_event(small):
    body = valid_body(**{"$ai_input": b"x" * 50_000})
    for end in (0, 10, 300, 30_000, len(body) - 1):
        with small.connect() as client:
            client.sendall(small.request_head(len(body)) + body[:end])
    wait_until(lambda: small.app._in_flight == 0, "all requests have ended")
    assert small.log.envelopes == []
    assert small.app._admission.in_flight == 0


def test_a_body_shorter_than_declared_is_refused_when_the_sender_half_closes(small):
    body = valid_body()
    with small.connect() as client:
        client.sendall(small.request_head(len(body) + 10) + body)
        client.shutdown(socket.SHUT_WR)
        assert b" 200 " not in read_to_end(client)
    wait_until(lambda: small.app._in_flight == 0, "the request has ended")
    assert small.log.envelopes == []


def test_a_client_that_waits_for_100_continue_is_refused_before_it_sends(door):
    with door.connect() as client:
        client.sendall(door.request_head(100_000_000, Expect="100-continue"))
        answer = read_to_end(client)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer


def test_a_client_that_waits_for_100_continue_is_told_to_send(door):
    body = valid_body()
    with door.connect() as client:
        client.sendall(door.request_head(len(body), Expect="100-continue"))
        assert client.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


# Bodies that nobody wants any more


def test_after_a_413_the_body_is_drained_and_the_connection_serves_again(small):
    session = requests.Session()
    connections = set()  # a session opens another in silence where one has been closed
    headers = {"Authorization": f"Bearer {small.key}"}
    big = form(event(), {"$ai_model": "x"}, x=("text/plain", b"x" * 200_000))
    for _ in range(3):
        refused = session.post(small.url, files=big, headers=headers)
        assert refused.status_code == 413
        accepted = session.post(small.url, files=form(whole_event()), headers=headers)
        assert accepted.status_code == 200
        connections |= small.server.server_state.connections
    assert len(connections) == 1
    assert len(small.log.envelopes) == 3


def test_an_unwanted_body_beyond_one_more_cap_is_cut_off(small):
    sent = 0
    with small.connect() as client:
        client.sendall(small.request_head(10**9))
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
        client.settimeout(5)
        try:
            while sent < 100_000_000:
                sent += client.send(b"x" * 100_000)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 50_000_000  # what the kernel buffers on top of 220 kB


def test_an_unwanted_body_that_stalls_is_cut_off(quick):
    with quick.connect() as client:
        client.sendall(quick.request_head(200_000))
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
        dribble(client, b"x" * 1000, 0.05, 5 * PATIENCE)


# Room


def test_a_project_has_only_its_share_of_the_room(access: Access, directory: Path):
    with open_door(access, directory, max_inflight_bytes=100_000) as door:
        _, other = access.project()
        with door.connect() as client:
            client.sendall(door.request_head(40_000) + b"x")
            wait_until(lambda: door.app._admission.in_flight == 40_000, "the room is reserved")
            parts = form(event(), {"$ai_model": "x"}, x=("text/plain", b"x" * 20_000))
            busy = door.post(parts)
            assert (busy.status_code, busy.text) == (429, "rate limited")
            assert busy.headers["Retry-After"] == "1"
            assert door.post(parts, key=other).status_code == 200
        wait_until(lambda: door.app._admission.in_flight == 0, "the room is free again")
        assert door.post(parts).status_code == 200


def test_beyond_the_whole_room_everybody_waits(access: Access, directory: Path):
    with open_door(access, directory, max_inflight_bytes=50_000, project_inflight_share=1) as door:
        _, other = access.project()
        with door.connect() as client:
            client.sendall(door.request_head(49_000) + b"x")
            wait_until(lambda: door.app._admission.in_flight, "the room is reserved")
            parts = form(event(), {"$ai_model": "x"}, x=("text/plain", b"x" * 2_000))
            busy = door.post(parts, key=other)
        assert busy.status_code == 503
        assert busy.text.startswith("service unavailable: ")
        assert busy.headers["Retry-After"] == "1"


@pytest.mark.parametrize("encoding", ["gzip", ""])
def test_a_body_of_unknown_size_takes_room_as_it_grows(access: Access, directory: Path, encoding):
    import gzip

    with open_door(access, directory, max_inflight_bytes=40_000) as door:
        body = valid_body(**{"$ai_input": b"x" * 30_000})
        sent = gzip.compress(body) if encoding else body
        data = iter([sent]) if not encoding else sent
        assert door.post_body(data, Content_Encoding=encoding).status_code == 429  # type: ignore[arg-type]
        assert door.log.envelopes == []
        assert door.app._admission.in_flight == 0


# Stopping


def test_a_stop_waits_for_the_request_in_flight(access: Access, directory: Path):
    import asyncio
    import threading

    body = valid_body()
    with open_door(access, directory) as door, door.connect() as client:
        client.sendall(door.request_head(len(body)) + body[:-1])
        wait_until(lambda: door.app._in_flight, "the request is in flight")
        loops: list[bool] = []
        drained = threading.Thread(target=lambda: loops.append(asyncio.run(_drained(door))))
        drained.start()
        drained.join()
        assert loops == [False]
        client.sendall(body[-1:])
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        wait_until(door.app._idle.is_set, "the request has ended")
        assert asyncio.run(_drained(door))


@pytest.mark.parametrize("before", [0, 10])
def test_a_stop_answers_a_request_that_is_on_its_way(
    access: Access, directory: Path, monkeypatch: pytest.MonkeyPatch, before: int
):
    """The connection was accepted; its sender does not know of the end."""
    # The machine may halt the sender for longer than the second that it has. Still less than the
    # five after which the server ends whatever goes on.
    monkeypatch.setattr("nilometer.capture.http_protocol._LINGER_SECONDS", 4.0)
    body = valid_body()
    with open_door(access, directory) as door, door.connect() as client, door.connect() as idle:
        request = door.request_head(len(body)) + body
        client.sendall(request[:before])
        known = door.server.server_state.connections
        wait_until(lambda: len(known) == 2, "both are connected")
        door.server.should_exit = True
        wait_until(lambda: not _takes_connections(door), "the server ends")
        client.sendall(request[before:])
        answer = read_to_end(client)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer.lower()
        assert read_to_end(idle) == b""
    door.log.only()


def _takes_connections(door: Door) -> bool:
    try:
        door.connect().close()
    except ConnectionRefusedError:
        return False
    return True


async def _drained(door: Door) -> bool:
    import asyncio

    waiting = asyncio.ensure_future(door.app.drain())
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    waiting.cancel()
    return bool(done)
