"""More connections than are allowed: who goes, who stays, and who is told to come again."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from nilometer.observability.metrics import REGISTRY
from tests.capture.door import Access, Door, form, open_door, valid_body, wait_until, whole_event

LIMIT = 4


@pytest.fixture
def narrow(access: Access, directory: Path) -> Iterator[Door]:
    """A door with room for a few connections."""
    with open_door(access, directory, max_connections=LIMIT) as door:
        yield door


def over_limit(outcome: str) -> float:
    sample = REGISTRY.get_sample_value(
        "nilometer_connections_over_limit_total", {"outcome": outcome}
    )
    return sample or 0.0


def is_closed(client: socket.socket) -> bool:
    """Whether the server has closed the connection; nothing else may have come."""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    finally:
        client.settimeout(20)


def connected(door: Door, count: int, sockets: ExitStack) -> list[socket.socket]:
    """So many connections, known to the server in this order."""
    clients: list[socket.socket] = []
    known = door.server.server_state.connections
    for _ in range(count):
        clients.append(sockets.enter_context(door.connect()))
        wait_until(lambda: len(known) == len(clients), "connected")
    return clients


def test_a_crowd_of_idle_connections_shuts_nobody_out(narrow):
    before = over_limit("idle_closed")
    with ExitStack() as sockets:
        idle = connected(narrow, LIMIT, sockets)
        assert narrow.post(form(whole_event())).status_code == 200
        wait_until(lambda: is_closed(idle[0]), "the first gives way")
        assert [is_closed(client) for client in idle[1:]] == [False] * (LIMIT - 1)
        assert over_limit("idle_closed") == before + 1


def test_a_crowd_of_unfinished_heads_shuts_nobody_out(narrow):
    with ExitStack() as sockets:
        for client in connected(narrow, LIMIT, sockets):
            client.sendall(b"POST /i/v0/ai HT")
        assert narrow.post(form(whole_event())).status_code == 200


def test_the_connection_that_has_been_idle_for_longest_gives_way(narrow):
    body = valid_body()
    request = narrow.request_head(len(body)) + body
    with ExitStack() as sockets:
        clients = connected(narrow, LIMIT, sockets)
        for client in (*clients[1:], clients[0]):
            client.sendall(request)
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert narrow.post(form(whole_event())).status_code == 200
        wait_until(lambda: is_closed(clients[1]), "the longest idle one gives way")
        clients[0].sendall(request)
        assert clients[0].recv(4096).startswith(b"HTTP/1.1 200 ")


def test_while_every_connection_has_a_request_a_new_one_is_refused_and_they_go_on(
    narrow, monkeypatch
):
    # The refused client sends its request in its own time, and a reset would lose its answer.
    monkeypatch.setattr("nilometer.capture.http_protocol._LINGER_SECONDS", 60)
    body = valid_body()
    before = over_limit("refused")
    with ExitStack() as sockets:
        clients = connected(narrow, LIMIT, sockets)
        for client in clients:
            client.sendall(narrow.request_head(len(body)) + body[:10])
        wait_until(lambda: narrow.app._in_flight == LIMIT, "every connection has a request")
        refused = narrow.post(form(whole_event()))
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "1"
        assert refused.headers["Connection"] == "close"
        assert (refused.json()["type"], refused.json()["code"]) == ("server_error", "overloaded")
        assert over_limit("refused") == before + 1
        for client in clients:
            client.sendall(body[10:])
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            client.sendall(narrow.request_head(len(body)) + body)
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert len(narrow.log.envelopes) == 2 * LIMIT


def test_a_refused_client_that_does_not_hang_up_is_hung_up_on(narrow):
    body = valid_body()
    with ExitStack() as sockets:
        for client in connected(narrow, LIMIT, sockets):
            client.sendall(narrow.request_head(len(body)))
        wait_until(lambda: narrow.app._in_flight == LIMIT, "every connection has a request")
        late = sockets.enter_context(narrow.connect())
        answer = b""
        while piece := late.recv(4096):
            answer += piece
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "overloaded"
        connections = narrow.server.server_state.connections
        wait_until(lambda: len(connections) == LIMIT, "the refused connection is closed")


def test_closed_connections_make_room(narrow):
    for _ in range(3 * LIMIT):
        with requests.Session() as session:
            headers = {"Authorization": f"Bearer {narrow.key}"}
            files = form(whole_event())
            assert session.post(narrow.url, files=files, headers=headers).status_code == 200
    connections = narrow.server.server_state.connections
    wait_until(lambda: not connections, "all are closed")
    limit = narrow.server.config.http_protocol_class.connection_limit
    assert (limit._open, len(limit._without_request)) == (set(), 0)
