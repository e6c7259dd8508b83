"""The process itself: start, stop, keys, what it refuses."""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest
import requests

from tests.running import KEY, Server, running, wait_until
from tests.sending import generation, send


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_code_0_and_nothing_is_lost(tmp_path, number):
    with running(tmp_path, cold=True) as server:
        assert send(server.url, generation()).status_code == 200
        assert server.stop(number) == 0, server.output
    with running(tmp_path) as server, server.client() as client:
        wait_until(lambda: len(client.get("/api/projects/1/events/").json()["results"]) == 1)


def test_a_request_in_flight_is_finished_before_the_stop(tmp_path):
    with running(tmp_path) as server:
        halves = Halves(server)
        with halves.send_first() as connection:
            wait_until(lambda: _in_flight(server), what="the first half has arrived")
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: _refused(server), what="no new connection is taken")
            assert halves.send_rest(connection).startswith(b"HTTP/1.1 200")
        assert server.wait_dead() == 0


def _in_flight(server):
    metrics = requests.get(f"{server.url}/metrics", timeout=60).text
    held = re.search(r"^nilometer_capture_inflight_bytes (\S+)", metrics, re.MULTILINE)
    return float(held[1]) > 0


def _refused(server):
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
    except OSError:
        return True
    return False


class Halves:
    """A request whose body comes in two pieces, so that a stop falls between them."""

    def __init__(self, server):
        self.port = server.port
        prepared = requests.Request("POST", f"{server.url}/i/v0/ai", files=generation()).prepare()
        head = (
            f"POST /i/v0/ai HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: {prepared.headers['Content-Type']}\r\n"
            f"Content-Length: {len(prepared.body)}\r\n\r\n"
        )
        self.data = head.encode() + prepared.body

    def send_first(self):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sendall(self.data[:-20])
        return connection

    def send_rest(self, connection):
        connection.sendall(self.data[-20:])
        return connection.recv(4096)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts_ends_it_with_exit_code_0(tmp_path, number):
    server = Server(tmp_path, cold=True)
    with server.launch() as process:
        wait_until((tmp_path / "lock").exists, seconds=60, what="the start has begun")
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    with running(tmp_path) as again:
        assert "was not closed cleanly" not in "".join(again.output)


def test_a_first_start_that_fails_does_not_use_up_the_keys(tmp_path):
    failed = _serve(tmp_path, NILOMETER_BLOBS_URL="file:///proc/no-such-directory")
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    server = Server(tmp_path)
    del server.settings["BOOTSTRAP_PERSONAL_KEY"]
    server.start().wait_ready("capture")
    assert server.stop() == 0
    assert len(re.findall(r"key\s+nlm_\S+", "".join(server.output))) == 2


def test_a_data_directory_in_use_is_refused_with_a_clear_message(tmp_path):
    with running(tmp_path) as server:
        second = _serve(tmp_path)
        assert second.returncode == 1
        assert "is in use by another nilometer" in second.stderr
        assert str(server.process.pid) in second.stderr
        assert "Traceback" not in second.stderr


def test_a_port_in_use_is_refused_with_a_clear_message(tmp_path):
    with running(tmp_path / "one") as server:
        second = _serve(tmp_path / "two", "--port", str(server.port))
        assert second.returncode == 1
        assert "Choose another with --port" in second.stderr


def test_the_first_start_prints_keys_that_work_and_the_second_none(tmp_path):
    server = Server(tmp_path)
    del server.settings["BOOTSTRAP_PERSONAL_KEY"]
    server.start().wait_ready("capture")
    wait_until(lambda: "personal key" in "".join(server.output))
    printed = "".join(server.output)
    project_key, personal_key = re.findall(r"key\s+(nlm_\S+)", printed)
    assert send(server.url, generation(), key=project_key).status_code == 200
    read = requests.get(
        f"{server.url}/api/projects/1/events/",
        headers={"Authorization": f"Bearer {project_key}"},
        timeout=10,
    )
    assert read.status_code == 403
    server.wait_ready("api")
    read = requests.get(
        f"{server.url}/api/projects/1/events/",
        headers={"Authorization": f"Bearer {personal_key}"},
        timeout=10,
    )
    assert read.status_code == 200
    assert server.stop() == 0

    server.output.clear()
    server.start().wait_ready("capture")
    assert server.stop() == 0
    assert "nlm_" not in "".join(server.output)
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(project_key.encode() in data or personal_key.encode() in data for data in kept)


def test_a_bootstrap_key_is_not_printed(tmp_path):
    with running(tmp_path) as server:
        assert server.stop() == 0
        assert KEY not in "".join(server.output)
        assert "nlm_" not in "".join(server.output)


@pytest.mark.parametrize(
    "key", ["short", "x" * 65, "has spaces in it, so no", "nön-ascii-characters"]
)
def test_a_bootstrap_key_of_the_wrong_form_is_refused_without_repeating_it(tmp_path, key):
    refused = _serve(tmp_path, NILOMETER_BOOTSTRAP_PERSONAL_KEY=key)
    assert refused.returncode == 1
    assert "NILOMETER_BOOTSTRAP_PERSONAL_KEY" in refused.stderr
    assert "16 to 64 printable ASCII" in refused.stderr
    assert key not in refused.stderr


def _serve(data_dir, *arguments, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NILOMETER_")}
    command = [sys.executable, "-m", "nilometer", "serve", "--data-dir", str(data_dir)]
    if "--port" not in arguments:
        command += ["--port", "0"]
    return subprocess.run(
        [*command, *arguments],
        check=False,
        env=clean | {"NILOMETER_OTLP_GRPC_PORT": "0"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
