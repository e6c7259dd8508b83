"""A deployment of the suite's own: an S3 server and `nilometer serve`, on this machine.

Its data directory is a small disk of its own, so that the log can really run out of room.
"""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.faults import RESERVE, S3Server, State
from tests.running import KEY, Server
from tests.small_disk import on_a_small_disk

ROOT = Path(__file__).parents[2]
_DISK = "256m"
_COMMANDS = {
    "LLMA_STOP_S3_COMMAND": "stop-s3",
    "LLMA_START_S3_COMMAND": "start-s3",
    "LLMA_DENY_S3_COMMAND": "deny-s3",
    "LLMA_ALLOW_S3_COMMAND": "allow-s3",
    "LLMA_STOP_LOG_COMMAND": "fill-log-disk",
    "LLMA_START_LOG_COMMAND": "free-log-disk",
}


@dataclass(frozen=True, slots=True)
class Ports:
    """Where it listens; 0 takes a free port."""

    api: int = 0
    capture: int = 0
    s3: int = 0


@contextmanager
def deployed(
    directory: Path, *, ports: Ports | None = None, key: str = KEY, source: Path | None = None
) -> Iterator[dict[str, str]]:
    """A running deployment, as the environment variables that tell a client about it.

    `key` is its first personal key. `source` is a folder whose `nilometer` package is run in place
    of this repository's.
    """
    ports = ports or Ports()
    directory.mkdir(parents=True, exist_ok=True)
    state = State(directory, s3_port=ports.s3 or _free_port())
    with ExitStack() as stack:
        s3 = S3Server(state)
        stack.callback(s3.kill)
        s3.start()
        capture = ports.capture or _free_port()
        server = _server(state, ports.api, capture, key, source)
        server.start()
        stack.callback(server.kill)
        server.wait_ready("worker").wait_ready()
        state.write(server_pid=server.process.pid)
        yield _environment(state, server.url, capture, key)


def _server(state: State, port: int, capture: int, key: str, source: Path | None) -> Server:
    credentials = [
        f"AWS_ACCESS_KEY_ID={state.access_key_id}",
        f"AWS_SECRET_ACCESS_KEY={state.secret_access_key}",
        f"AWS_REGION={state.region}",
    ]
    path = [f"PYTHONPATH={source}"] if source else []
    settings = {
        "PORT": port,
        "CAPTURE_PORT": capture,
        "BLOBS_URL": f"s3://{state.bucket}",
        "S3_ENDPOINT": state.s3_endpoint,
        "BOOTSTRAP_PERSONAL_KEY": key,
        "DISK_RESERVE": RESERVE,
        "PIPELINE_LINGER": 0.05,
    }
    prefix = on_a_small_disk(state.disk, _DISK, ["env", *credentials, *path])
    return Server(state.disk / "data", prefix=prefix, **settings)


def _environment(state: State, url: str, capture: int, key: str) -> dict[str, str]:
    """The variables of the local block in docs/acceptance.md, and the outage commands."""
    run = f"cd {shlex.quote(str(ROOT))} && {shlex.quote(sys.executable)} -m tests.acceptance.faults"
    where = shlex.quote(str(state.directory))
    return {
        "POSTHOG_HOST": url,
        "POSTHOG_API_KEY": key,
        "POSTHOG_PROJECT_ID": "1",
        "AWS_ENDPOINT_URL": state.s3_endpoint,
        "AWS_ACCESS_KEY_ID": state.access_key_id,
        "AWS_SECRET_ACCESS_KEY": state.secret_access_key,
        "AWS_DEFAULT_REGION": state.region,
        "LLMA_S3_BUCKET": state.bucket,
        "CAPTURE_ENDPOINT": f"http://127.0.0.1:{capture}",
        "LLMA_TEST_MODE": "local",
        **{name: f"{run} {fault} {where}" for name, fault in _COMMANDS.items()},
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
