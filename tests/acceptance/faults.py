"""Takes the servers of the suite's own deployment away and brings them back.

    python -m tests.acceptance.faults stop-s3 DIRECTORY

and likewise start-s3, deny-s3, allow-s3, fill-log-disk and free-log-disk.

The S3 server here (moto) keeps objects in memory only. A real one has a disk: so stopping it saves
the objects to files, and starting it puts them back before the command returns.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import boto3

from tests.running import wait_until

RESERVE = 32 * 1024 * 1024
"""The free disk below which the deployment's log refuses records."""
_LEFT_FREE = RESERVE // 2


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the deployment in a directory, to every process that works on it."""

    directory: Path
    s3_port: int

    bucket: ClassVar[str] = "posthog-llma-test"
    region: ClassVar[str] = "us-east-1"
    access_key_id: ClassVar[str] = "minioadmin"
    secret_access_key: ClassVar[str] = "minioadmin"

    @property
    def s3_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def disk(self) -> Path:
        """The small disk, which only the deployment has mounted."""
        return self.directory / "disk"

    def write(self, **values: int) -> None:
        """Keep the ids of processes."""
        known = self.read() | {"s3_port": self.s3_port} | values
        self._file.write_text(json.dumps(known))

    def read(self) -> dict[str, int]:
        return json.loads(self._file.read_text()) if self._file.exists() else {}

    @property
    def _file(self) -> Path:
        return self.directory / "state.json"


class S3Server:
    """A moto server in a process of its own, with one bucket."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._saved = state.directory / "objects"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; return once it has the bucket, and what was in it."""
        port = self._state.s3_port
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._state.write(s3_pid=self._process.pid)
        wait_until(lambda: _is_open(port), what="the S3 server listens")
        client = self._client()
        client.create_bucket(Bucket=self._state.bucket)
        for file in sorted(self._saved.glob("*.json")):
            client.put_object(
                Bucket=self._state.bucket,
                Body=file.with_suffix(".bin").read_bytes(),
                **json.loads(file.read_text()),
            )
        client.close()

    def stop(self) -> None:
        """Save the objects, end the process, and return once its port is closed."""
        self._save()
        self.kill()
        wait_until(lambda: not _is_open(self._state.s3_port), what="the S3 server is gone")

    def kill(self) -> None:
        """End the process, whoever started it."""
        pid = self._state.read().get("s3_pid")
        if pid:
            self._state.write(s3_pid=0)
            os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def require_rights(self, required: bool) -> None:
        """Have it refuse every key, because it knows none; or take any key, as at its start."""
        free_actions = b"0" if required else b"inf"
        address = f"{self._state.s3_endpoint}/moto-api/reset-auth"
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(address, data=free_actions, headers=headers)
        with urllib.request.urlopen(request, timeout=30):
            pass

    def _save(self) -> None:
        self._saved.mkdir(exist_ok=True)
        for old in self._saved.iterdir():
            old.unlink()
        client, bucket = self._client(), self._state.bucket
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        for number, key in enumerate(keys):
            found = client.get_object(Bucket=bucket, Key=key)
            head = {name: found[name] for name in ("ContentType", "Metadata")}
            (self._saved / f"{number:06}.bin").write_bytes(found["Body"].read())
            (self._saved / f"{number:06}.json").write_text(json.dumps({"Key": key, **head}))
        client.close()

    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self._state.s3_endpoint,
            region_name=self._state.region,
            aws_access_key_id=self._state.access_key_id,
            aws_secret_access_key=self._state.secret_access_key,
        )


class LogDisk:
    """The disk that the log is on, as the server has it mounted."""

    def __init__(self, state: State) -> None:
        mounted = Path(f"/proc/{state.read()['server_pid']}/root{state.disk}")
        self._ballast = mounted / "ballast"

    def fill(self) -> None:
        """Leave so little of it that the log takes no more records."""
        status = os.statvfs(self._ballast.parent)
        assert status.f_blocks * status.f_frsize <= 1 << 30, "the small disk is not mounted"
        size = status.f_bavail * status.f_frsize - _LEFT_FREE
        with self._ballast.open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, size)

    def free(self) -> None:
        self._ballast.unlink()


def main(fault: str, directory: Path) -> None:
    """Carry out one command on the deployment in the directory."""
    port = json.loads((directory / "state.json").read_text())["s3_port"]
    state = State(directory, port)
    commands = {
        "stop-s3": lambda: S3Server(state).stop(),
        "start-s3": lambda: S3Server(state).start(),
        "deny-s3": lambda: S3Server(state).require_rights(True),
        "allow-s3": lambda: S3Server(state).require_rights(False),
        "fill-log-disk": lambda: LogDisk(state).fill(),
        "free-log-disk": lambda: LogDisk(state).free(),
    }
    commands[fault]()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
