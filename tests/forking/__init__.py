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
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Self

from tests.forking.messages import Code, Pid

wanted = False
"""Whether `Server` forks; the tests say so."""
_ROOT = Path(__file__).parents[2]
_KILL_SECONDS = 60


class _Status:
    """The pipe that tells how a process ended; closed once it has told."""

    def __init__(self, pipe: int) -> None:
        self._pipe = os.fdopen(pipe, "rb", buffering=0)

    def read(self, seconds: float) -> int | None:
        """The exit code; None when the process runs all this time. Raises ChildProcessError when
        nobody is left to tell."""
        if not select.select([self._pipe], [], [], seconds)[0]:
            return None
        with self._pipe:
            return Code.read(self._pipe.fileno())

    def close(self) -> bool:
        """Ask no more; whether it has not told yet, and so may still run."""
        if self._pipe.closed:
            return False
        with self._pipe:
            return not select.select([self._pipe], [], [], 0)[0]


class Forked:
    """A process of `nilometer`, with what `subprocess.Popen` gives of one.

    It is killed, and its output closed, when nobody holds it any more: a test that fails between
    the two leaves nothing behind that another test would stumble upon."""

    def __init__(self, arguments: Sequence[str], pid: int, stdout: IO[str], pipe: int) -> None:
        self.args = ["nilometer", *arguments]
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._status = _Status(pipe)
        self._output: Future[str] | None = None
        self._lock = threading.Lock()
        weakref.finalize(self, _let_go, pid, stdout, self._status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close its output, and wait until it has ended."""
        self.stdout.close()
        self.wait()

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended: that of a signal is below zero."""
        deadline = time.monotonic() + (math.inf if timeout is None else timeout)
        while (code := self._wait(max(0, min(0.5, deadline - time.monotonic())))) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """All that it writes, its errors among that, and that it has ended. When the seconds are
        over it still runs, and can be asked again."""
        if self._output is None:
            self._output = Future()
            threading.Thread(
                target=_read, args=(self.stdout, self._output), name="output", daemon=True
            ).start()
        try:
            output = self._output.result(timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        self.wait(timeout)
        return output, None

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
            if self.returncode is None:
                self.returncode = self._status.read(seconds)
            return self.returncode


def _read(stdout: IO[str], output: Future[str]) -> None:
    try:
        with stdout:
            output.set_result(stdout.read())
    except BaseException as error:
        output.set_exception(error)
        raise


def _let_go(pid: int, stdout: IO[str], status: _Status) -> None:
    if status.close():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    stdout.close()


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
        request = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "directory": str(Path.cwd()),
        }
        status, telling = os.pipe()
        try:
            with self._lock:
                told = [json.dumps(request).encode()]
                socket.send_fds(self._socket, told, [stdout, stderr, telling])
        finally:
            os.close(telling)
        try:
            return Pid.read(status), status
        except ChildProcessError:
            os.close(status)
            raise

    def _end(self) -> None:
        self._socket.close()
        self._process.wait(30)


def fork(arguments: Sequence[str], environment: Mapping[str, str]) -> Forked:
    """`nilometer ARGUMENTS…` in a session of its own, with this environment and no other. What it
    writes comes through `stdout`, its errors too."""
    output, outlet = os.pipe()
    stdout = os.fdopen(output, encoding="utf-8")
    try:
        pid, status = _origin().fork(arguments, environment, outlet, outlet)
    except BaseException:
        stdout.close()
        raise
    finally:
        os.close(outlet)
    return Forked(arguments, pid, stdout, status)


def run(
    arguments: Sequence[str], environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Let it run to its end; what it wrote, and its errors. It is killed when the seconds are
    over."""
    with TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        pid, status = _origin().fork(arguments, environment, stdout.fileno(), stderr.fileno())
        process = Forked(arguments, pid, stdout, status)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
            process.wait(_KILL_SECONDS)
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(process.args, code, stdout.read(), stderr.read())


@cache
def _origin() -> _Origin:
    return _Origin()


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if not k.startswith("NILOMETER_")}
