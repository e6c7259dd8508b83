"""Requests at the edge of HTTP/1.1: an answer to each in its turn, and only whole events."""

import re
import socket
from pathlib import Path

import pytest

from nilometer.capture.http_protocol import MAX_HEAD_BYTES
from nilometer.capture.upgrade import head_without_upgrade
from tests.capture.door import Access, Door, open_door, valid_body, wait_until

# What `curl --http2` sends on a cleartext connection.
H2C = {
    "Connection": "Upgrade, HTTP2-Settings",
    "Upgrade": "h2c",
    "HTTP2_Settings": "AAMAAABkAAQAoAAAAAIAAAAA",
}
CHUNKED = {"Content_Length": "", "Transfer_Encoding": "chunked"}
INVALID = b"Invalid HTTP request received."


def exchange(door: Door, *packets: bytes) -> bytes:
    """All that the server answers until it closes the connection."""
    received = b""
    with door.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for packet in packets:
                client.sendall(packet)
            while piece := client.recv(65536):
                received += piece
        except (BrokenPipeError, ConnectionResetError):
            pass
    return received


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def request(door: Door, body: bytes | None = None, **headers: str) -> bytes:
    """A valid request, or one with this body."""
    body = valid_body() if body is None else body
    return door.request_head(len(body), **headers) + body


def chunked(*chunks: bytes, size: int | None = None) -> bytes:
    """The chunks of a body, each of its own size or cut to `size`, and the last."""
    pieces = chunks
    if size:
        whole = b"".join(chunks)
        pieces = tuple(whole[at : at + size] for at in range(0, len(whole), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# A wish for another protocol


def test_a_request_that_asks_for_http2_is_served_as_it_is(door, caplog):
    body = valid_body()
    with door.connect() as client:
        for number in range(1, 4):
            client.sendall(request(door, body, **H2C))
            answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert b"connection: close" not in answer
            assert len(door.log.envelopes) == number
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_request_that_asks_for_http2_may_come_in_pieces(door, size):
    sent = request(door, **H2C)
    with door.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(sent), size):
            client.sendall(sent[start : start + size])
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_chunked_request_that_asks_for_http2_is_served(door):
    head = door.request_head(0, **H2C, **CHUNKED)
    with door.connect() as client:
        client.sendall(head + chunked(valid_body()))
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_what_follows_a_request_that_asks_for_http2_is_the_next_request(door):
    last = request(door, Connection="close")
    received = exchange(door, request(door, **H2C) + request(door, **H2C) + last)
    assert statuses(received) == [200, 200, 200]
    assert len(door.log.envelopes) == 3


def test_a_wish_for_a_websocket_is_ignored_too(door, caplog):
    headers = {"Connection": "close, Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Key": "x"}
    assert statuses(exchange(door, request(door, **headers))) == [200]
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


def test_the_limits_of_a_head_hold_for_one_that_asks_for_http2(door):
    long = {"X": "x" * MAX_HEAD_BYTES}
    assert statuses(exchange(door, request(door, **H2C, **long))) == [431]


def test_only_the_fields_about_the_upgrade_are_left_out():
    headers = [
        (b"connection", b"keep-alive, Upgrade , HTTP2-Settings"),
        (b"upgrade", b"h2c"),
        (b"x", b"upgrade"),
        (b"http2-settings", b""),
        (b"connection", b"upgrade"),
        (b"x", b"1"),
    ]
    assert head_without_upgrade(b"POST", b"/ai", "1.1", headers) == (
        b"POST /ai HTTP/1.1\r\nconnection: keep-alive\r\nx: upgrade\r\nx: 1\r\n\r\n"
    )


# What breaks the rules


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (CHUNKED, b"zz\r\n"),
        (CHUNKED, b"5\r\nhello!!"),
        (CHUNKED, b"5\r\nhello\r\n-1\r\n"),
        ({"Transfer_Encoding": "unheard-of", "Content_Length": ""}, b"hello"),
        ({"Transfer_Encoding": "chunked"}, b"5\r\nhello\r\n0\r\n\r\n"),
    ],
    ids=["size", "longer", "negative", "encoding", "two lengths"],
)
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "apart"])
def test_a_body_that_breaks_the_rules_is_answered_with_400(door, monkeypatch, headers, body, apart):
    # Some heads are answered at once: a body that comes late must not reset the connection.
    monkeypatch.setattr("nilometer.capture.http_protocol._LINGER_SECONDS", 60)
    head = door.request_head(5, **headers)
    received = exchange(door, *((head, body) if apart else (head + body,)))
    assert statuses(received) == [400]
    assert received.endswith(b"\r\n\r\n" + INVALID)
    assert b"connection: close" in received
    wait_until(lambda: door.app._in_flight == 0, "the request has ended")
    assert door.log.envelopes == []
    assert door.app._admission.in_flight == 0


def test_a_head_that_breaks_the_rules_is_answered_with_400(door):
    assert exchange(door, b"nonsense\r\n\r\n").endswith(INVALID)
    assert statuses(exchange(door, b"GET nonsense HTTP/1.1\r\n\r\n")) == [400]


def test_a_whole_request_is_answered_although_nonsense_follows(door):
    received = exchange(door, request(door) + b"nonsense\r\n\r\n")
    assert statuses(received) == [200]
    assert b"connection: close" in received
    assert len(door.log.envelopes) == 1


def test_a_body_longer_than_its_content_length_is_answered_as_cut(door):
    body = valid_body()
    received = exchange(door, door.request_head(len(body) - 10) + body)
    assert statuses(received) == [400]
    assert b"connection: close" in received
    assert b"failed to decode request: " in received
    assert door.log.envelopes == []


def test_requests_that_wait_for_their_turn_are_answered_although_nonsense_follows(door):
    received = exchange(door, request(door) * 3 + b"nonsense\r\n\r\n")
    assert statuses(received) == [200, 200, 200]
    assert received.count(b"connection: close") == 1
    assert len(door.log.envelopes) == 3


@pytest.mark.parametrize("before", [1, 2, 3])
def test_after_whole_requests_a_broken_one_only_ends_the_connection(door, before):
    broken = door.request_head(0, **CHUNKED) + b"zz\r\n"
    received = exchange(door, request(door) * before + broken)
    assert statuses(received) == [200] * before
    assert received.count(b"connection: close") == 1
    assert len(door.log.envelopes) == before


def test_a_body_that_breaks_the_rules_after_its_answer_is_not_answered_twice(door):
    with door.connect() as client:
        client.sendall(door.request_head(0, Authorization="Bearer nobodys", **CHUNKED))
        received = client.recv(4096)
        assert statuses(received) == [401]
        client.sendall(b"zz\r\n")
        while piece := client.recv(4096):
            received += piece
    assert statuses(received) == [401]


# What is sent around the content of a body


@pytest.mark.parametrize("size", [1, 100])
def test_a_body_in_small_chunks_is_accepted(door, size):
    body = valid_body(**{"$ai_input": b"x" * 30_000})
    with door.connect() as client:
        client.sendall(door.request_head(0, **CHUNKED) + chunked(body, size=size))
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


LONG = valid_body(**{"$ai_input": b"x" * 1_000})


@pytest.mark.parametrize(
    "endless",
    [
        b"".join(b"1;%s\r\n%c\r\n" % (b"e" * 2_000, byte) for byte in LONG) + b"0\r\n\r\n",
        chunked(LONG)[:-2] + b"X: x\r\n" * 400_000 + b"\r\n",
        b"1;" + b"e" * 2_000_000,
    ],
    ids=["extensions", "trailers", "one extension"],
)
def test_extensions_and_trailers_are_bounded_together(door, endless):
    received = exchange(door, door.request_head(0, **CHUNKED), endless)
    assert statuses(received) in ([431], [])  # unread bytes may reset the connection
    wait_until(lambda: door.app._in_flight == 0, "the request has ended")


def test_some_extensions_and_trailers_are_ignored(access: Access, directory: Path):
    body = valid_body()
    sent = b"%x;name=value\r\n%s\r\n0\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n" % (len(body), body)
    with open_door(access, directory, trusted_proxies=1) as door:
        with door.connect() as client:
            client.sendall(door.request_head(0, **CHUNKED) + sent)
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert door.log.only().ip == "127.0.0.1"
