"""Starts, stops, kills and pauses the fixture, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

_END_SECONDS = 90
"""An engine ends its inserts and merges first: long, on a slow machine with a slow disk."""

USERS = (
    "default:quite-secret:all",
    "writer:wr1ter's:write",
    "reader:re@der:read",
    "fenced:fenc3d:fenced",
)


class ClickHouseServer:
    """One process of the fixture over a directory, on a port that stays its own."""

    def __init__(self, directory: Path, certificate: Path | None = None) -> None:
        self.directory = directory
        self.certificate = certificate
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> ClickHouseServer:
        """Start it, on the same port as before, and wait until it answers."""
        command = [sys.executable, "-m", "tests.clickhouse_server", "--data", str(self.directory)]
        command += ["--port", str(self.port), "--until-eof"]
        for user in USERS:
            command += ["--user", user]
        if self.certificate is not None:
            command += ["--certificate", str(self.certificate)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("listens on"), f"the fixture ended with {self._process.wait()}"
        self.port = int(line.rpartition(":")[2])
        return self

    def url(self, user: str = "default", password: str = "quite-secret", **options: str) -> str:
        """Where it is, as Nilometer's settings name it."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        secret = quote(password, safe="")
        return f"clickhouse://{user}:{secret}@127.0.0.1:{self.port}/nilometer?{query}"

    def stop(self) -> None:
        """Let it end in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash does."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """From now on connections are accepted (by the system) and never answered."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # every thread of it

    def resume(self) -> None:
        """Go on after `pause`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        with process:  # which closes what leads to it
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
