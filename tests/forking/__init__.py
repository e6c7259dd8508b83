"""Processes of `nilometer` that need not import it: forked from one that has.

To import Nilometer takes longer than all else that a start does, and the tests start hundreds. Each
process of the tests has one that imported everything, opened nothing and runs no thread; what it
forks is a process of its own, with the arguments, environment and output of a new one. Whether a
new one starts is for the tests of starts, which ask for it: `Server(…, cold=True)`.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from tests.forking.messages import Code, Pid

wanted = False
"""Whether `Server` forks; the tests say so."""
_ROOT = Path(__file__).parents[2]


class Forked:
    """A process of `nilometer`, with what `subprocess.Popen` gives of one."""

    def __init__(self, pid: int, stdout: IO[str], status: int) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._status = status
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended: that of a signal is below zero."""
        deadline = time.monotonic() + (math.inf if timeout is None else timeout)
        while (code := self._wait(max(0, min(0.5, deadline - time.monotonic())))) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("nilometer", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing when it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _wait(self, seconds: float) -> int | None:
        with self._lock:
            if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
                self.returncode = Code.read(self._status)
                os.close(self._status)
            return self.returncode


class _Origin:
    """The process that all are forked from, of this one's own; it ends with it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
                cwd=_ROOT,
                env=_without_settings(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        atexit.register(self._end)

    def fork(
        self, arguments: Sequence[str], environment: Mapping[str, str], stdout: int, stderr: int
    ) -> tuple[int, int]:
        """The pid of the new process, and a pipe that says how it ended."""
        status, telling = os.pipe()
        request = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "directory": str(Path.cwd()),
        }
        with self._lock:
            told = [json.dumps(request).encode()]
            socket.send_fds(self._socket, told, [stdout, stderr, telling])
        os.close(telling)
        return Pid.read(status), status

    def _end(self) -> None:
        self._socket.close()
        self._process.wait(30)


def fork(arguments: Sequence[str], environment: Mapping[str, str]) -> Forked:
    """`nilometer ARGUMENTS…` in a session of its own, with this environment and no other. What it
    writes comes through `stdout`, its errors too."""
    output, outlet = os.pipe()
    pid, status = _origin().fork(arguments, environment, outlet, outlet)
    os.close(outlet)
    return Forked(pid, os.fdopen(output, encoding="utf-8"), status)


def run(
    arguments: Sequence[str], environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Let it run to its end; what it wrote, and its errors. It is killed when the seconds are
    over."""
    with TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        pid, status = _origin().fork(arguments, environment, stdout.fileno(), stderr.fileno())
        process = Forked(pid, stdout, status)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(
            ["nilometer", *arguments], code, stdout.read(), stderr.read()
        )


@cache
def _origin() -> _Origin:
    return _Origin()


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if not k.startswith("NILOMETER_")}
