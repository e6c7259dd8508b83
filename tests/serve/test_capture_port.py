"""A second port that captures and is probed, and shows nothing else."""

import http.client
import re
import signal
import socket
import uuid

import pytest
import requests

from tests.running import KEY, Server, running, wait_until
from tests.sending import generation, send

ELSEWHERE = [
    ("GET", "/"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/api/schemas/"),
    ("GET", "/api/projects/"),
    ("POST", "/api/projects/1/query/"),
    ("DELETE", "/api/projects/1/"),
    ("GET", "/_readiness/"),
    ("GET", "/_readiness/../api/projects/"),
    ("GET", "//api/projects/"),
]


def capture_url(server):
    """Where the server says that it captures alone."""

    def shown():
        return re.search(r"listens on (\S+) for capture alone", "".join(server.output))

    return wait_until(shown)[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    data = tmp_path_factory.mktemp("two-ports") / "data"
    with running(data, CAPTURE_PORT=0) as server:
        yield server


def test_an_event_of_either_port_is_the_same_event(server):
    url = capture_url(server)
    assert url != server.url
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    assert send(url, generation(first)).status_code == 200
    assert send(server.url, generation(second)).status_code == 200
    assert send(url, generation(second)).status_code == 200
    with server.client() as client:
        for event in (first, second):
            path = f"/api/projects/1/events/{event}/"
            wait_until(lambda path=path: client.get(path).status_code == 200)
    assert send(url, generation(), key="wrong").status_code == 401


@pytest.mark.parametrize("probe", ["/_liveness", "/_readiness", "/_readiness?role=capture"])
def test_the_probes_answer_on_both(server, probe):
    for url in (server.url, capture_url(server)):
        assert requests.get(url + probe, timeout=60).status_code == 200


@pytest.mark.parametrize(("method", "path"), ELSEWHERE)
def test_everything_else_is_not_found_whoever_asks(server, method, path):
    """Written as it is: a client library would tidy the path."""
    host, port = capture_url(server).removeprefix("http://").split(":")
    answers = []
    for key in (KEY, "wrong"):
        # The other port in the Host header changes nothing.
        headers = {"Authorization": f"Bearer {key}", "Host": f"{host}:{server.port}"}
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        connection.request(method, path, headers=headers | {"X-Forwarded-Port": str(server.port)})
        answer = connection.getresponse()
        answers.append((answer.status, answer.read()))
        connection.close()
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    assert b'"not_found"' in answers[0][1]


def test_both_ports_finish_a_request_in_flight_and_close(tmp_path):
    with running(tmp_path, CAPTURE_PORT=0) as server:
        url = capture_url(server)
        prepared = requests.Request("POST", f"{url}/i/v0/ai", files=generation()).prepare()
        connection = socket.create_connection(address_of(url), timeout=20)
        head = (
            f"POST /i/v0/ai HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: {prepared.headers['Content-Type']}\r\n"
            f"Content-Length: {len(prepared.body)}\r\n\r\n"
        )
        with connection:
            connection.sendall(head.encode() + prepared.body[:-20])
            wait_until(lambda: in_flight(server))
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: refused(url) and refused(server.url))
            connection.sendall(prepared.body[-20:])
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert server.wait_dead() == 0


def address_of(url):
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def in_flight(server):
    metrics = requests.get(f"{server.url}/metrics", timeout=60).text
    held = re.search(r"^nilometer_capture_inflight_bytes (\S+)", metrics, re.MULTILINE)
    return float(held[1]) > 0


def refused(url):
    try:
        socket.create_connection(address_of(url), timeout=5).close()
    except OSError:
        return True
    return False


def test_a_capture_port_in_use_is_refused_before_anything_is_made(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Server(tmp_path / "data", CAPTURE_PORT=port).launch() as process:
            output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"port {port}: Address already in use. Choose another with NILOMETER_CAPTURE" in output
    assert "Traceback" not in output
    assert not (tmp_path / "data" / "nilometer.db").exists()


def test_without_the_setting_there_is_one_port(tmp_path):
    with running(tmp_path) as server:
        assert server.stop() == 0
        assert "".join(server.output).count("listens on") == 1
