"""The process that the others are forked from: `python -m tests.forking SOCKET`."""

from __future__ import annotations

import gc
import json
import os
import runpy
import select
import socket
import sys
import time
from importlib import import_module
from pathlib import Path

from tests.forking.messages import Code, Pid

_IMPORTED = (
    "nilometer.cli.app",
    "nilometer.cli.migrate_data",
    "nilometer.cli.serve",
    "nilometer.serve",
    "nilometer.process",
    "nilometer.api.app",
    "nilometer.clickhouse.network",
    "clickhouse_connect",
    "confluent_kafka",
    "numpy",
    "obstore",
    "psycopg",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
)
"""What the start of either profile imports, but for the embedded store's engine: it starts threads
when it is imported, and what is forked has one thread only."""


class Origin:
    """Forks what it is asked for, and tells how each ended, until nobody can ask any more."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._poll = select.poll()
        self._poll.register(requests, select.POLLIN)
        self._telling: dict[int, tuple[int, int]] = {}
        """By the descriptor of a running process: its pid, and the pipe for its exit code."""

    def fork(self) -> None:
        """Return in each new process, ready to run; end in the first when the socket is closed."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor != self._requests.fileno():
                    self._reap(descriptor)
                elif self._forked():
                    return

    def _forked(self) -> bool:
        data, (stdout, stderr, telling) = _received(self._requests)
        pid = os.fork()
        if pid == 0:
            self._forget()
            _become(json.loads(data), stdout, stderr)
            Pid.write(telling, os.getpid())
            os.close(telling)
            return True
        os.close(stdout)
        os.close(stderr)
        descriptor = os.pidfd_open(pid)
        self._poll.register(descriptor, select.POLLIN)
        self._telling[descriptor] = (pid, telling)
        return False

    def _reap(self, descriptor: int) -> None:
        pid, telling = self._telling.pop(descriptor)
        self._poll.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        try:
            Code.write(telling, os.waitstatus_to_exitcode(status))
        except BrokenPipeError:
            pass  # nobody asks
        finally:
            os.close(telling)

    def _forget(self) -> None:
        """Close what a new process must not have."""
        self._requests.close()
        for descriptor, (_, pipe) in self._telling.items():
            os.close(descriptor)
            os.close(pipe)


def _received(requests: socket.socket) -> tuple[bytes, list[int]]:
    """A request; where its process writes, and its errors, and the pipe that tells of it."""
    data, descriptors, flags, _ = socket.recv_fds(requests, 1 << 20, 3)
    if not data:
        sys.exit()
    assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
    return data, descriptors


def _become(request: dict[str, object], stdout: int, stderr: int) -> None:
    os.setsid()
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    os.chdir(str(request["directory"]))
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    time.tzset()
    sys.argv[1:] = request["arguments"]  # type: ignore[call-overload]


if __name__ == "__main__":
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # or numpy starts one
    for name in _IMPORTED:
        import_module(name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, (
        "a thread would be lost, not its locks"
    )
    gc.collect()
    gc.freeze()
    Origin(socket.socket(fileno=int(sys.argv[1]))).fork()
    runpy.run_module("nilometer", run_name="__main__", alter_sys=True)
