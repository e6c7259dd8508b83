"""No key is ever in what the process writes, wherever in a request it came."""

import socket
import uuid

import pytest
import requests

from tests.running import KEY, Server
from tests.sending import generation, send

PLACES = ["header", "body", "query"]
WRONG = "nlm_user_wrong-but-secret-0123456789"


@pytest.mark.timeout(180)
def test_no_key_is_written_anywhere_even_while_things_fail(tmp_path):
    faults = tmp_path / "faults"
    faults.write_text("")
    server = Server(tmp_path / "data", LOG_LEVEL="debug", FAILPOINTS=f"@{faults}")
    server.start().wait_ready()
    try:
        assert {ask(server, place, KEY) for place in PLACES} == {200}
        assert {ask(server, place, WRONG) for place in PLACES} == {401}
        assert send(server.url, generation(str(uuid.uuid4())), key=WRONG).status_code == 401
        leave_in_the_middle(server)
        faults.write_text("store=error")
        assert {ask(server, place, KEY) for place in PLACES} == {503}
        assert send(server.url, generation(str(uuid.uuid4()))).status_code == 200
        assert server.stop() == 0
    finally:
        if server.process.poll() is None:
            server.kill()
    output = "".join(server.output)
    assert "listens on" in output
    assert KEY not in output
    assert WRONG not in output
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) > 5
    assert not any(KEY.encode() in data or WRONG.encode() in data for data in kept)


def ask(server, place, key):
    """The status of a query with the key in this place."""
    body = {"query": {"kind": "HogQLQuery", "query": "SELECT count() FROM events"}}
    return requests.post(
        f"{server.url}/api/projects/1/query/",
        json=body | ({"personal_api_key": key} if place == "body" else {}),
        headers={"Authorization": f"Bearer {key}"} if place == "header" else {},
        params={"personal_api_key": key} if place == "query" else {},
        timeout=30,
    ).status_code


def leave_in_the_middle(server):
    head = (
        f"POST /api/projects/1/query/?personal_api_key={KEY} HTTP/1.1\r\nHost: x\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f'{head}{{"personal_api_key": "{KEY}", '.encode())
