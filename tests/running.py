"""A real `nilometer serve` in a process of its own, for tests and benchmarks."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests import forking
from tests.patience import within

T = TypeVar("T")
KEY = "nlm_user_for-automation-0123456789"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For `verify` of an HTTP client that meets no TLS: to load the authorities' certificates takes
longer than most requests of a test."""
_ADDRESS = re.compile(r"listens on (http://\S+):(\d+)")


def wait_until(condition: Callable[[], T], *, seconds: float = 30, what: str = "") -> T:
    """The first true value of the condition; AssertionError when the time, with the tests'
    patience, is over."""
    value = within(seconds, condition)
    assert value, f"not within {seconds} s: {what or condition}"
    return value


class Server:
    """One process over a data directory; start it again to see what survived.

    In tests it is forked from one that has imported Nilometer (see `tests.forking`), unless it is
    to start `cold`, or is run by another command, the `prefix`. `environment` is what it has beside
    that of the tests."""

    def __init__(
        self,
        data_dir: Path,
        prefix: list[str] | None = None,
        *,
        cold: bool = False,
        environment: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.data_dir = data_dir
        self.prefix = prefix or []
        self.cold = cold
        self.environment = environment or {}
        defaults = {"BOOTSTRAP_PERSONAL_KEY": KEY, "LOG_LEVEL": "warning", "OTLP_GRPC_PORT": 0}
        self.settings = defaults | settings
        self.output: list[str] = []

    def launch(self) -> subprocess.Popen[str] | forking.Forked:
        """The bare process, not waited for."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NILOMETER_")}
        environment |= {f"NILOMETER_{name}": str(value) for name, value in self.settings.items()}
        environment |= self.environment
        port = str(self.settings.get("PORT", 0))
        arguments = ["serve", "--port", port, "--data-dir", str(self.data_dir)]
        if forking.wanted and not self.cold and not self.prefix:
            return forking.fork(arguments, environment)
        return subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "nilometer", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def start(self) -> Server:
        """Launch it and wait until it says where it listens."""
        self.process = self.launch()
        try:
            self._read_address()
        except BaseException:
            self.process.kill()
            with self.process:  # closes its output, and waits
                raise
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()
        return self

    def _read_address(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output.append(line)
            if match := _ADDRESS.search(line):
                self.url, self.port = f"{match[1]}:{match[2]}", int(match[2])
                return
        raise AssertionError(f"serve ended with {self.process.wait()}: {''.join(self.output)}")

    def _drain(self) -> None:
        """Keep what it says until its end, and close what that came through: whoever ends the
        process, and however, nothing of it stays open."""
        assert self.process.stdout
        with self.process.stdout as said:
            self.output.extend(said)

    def wait_ready(self, role: str = "api", seconds: float = 60) -> Server:
        wait_until(lambda: self.ready(role), seconds=seconds, what=f"{role} ready: {self.output}")
        return self

    def ready(self, role: str) -> bool:
        url = f"{self.url}/_readiness"
        try:
            return (
                httpx.get(url, params={"role": role}, verify=NO_TLS, timeout=30).status_code == 200
            )
        except httpx.HTTPError:
            return False

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, verify=NO_TLS)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self._ended()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self._ended()

    def wait_dead(self, seconds: float = 60) -> int:
        """Wait for the process to end by itself (a failpoint kills it)."""
        return self._ended(seconds)

    def _ended(self, seconds: float = 60) -> int:
        """Its exit code. One that does not end in time is killed; the test fails all the same."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(seconds)
            self._reader.join(seconds)
            raise AssertionError(
                f"serve did not end within {seconds} s: {''.join(self.output)}"
            ) from None
        self._reader.join(seconds)
        return code

    def resident_bytes(self, peak: bool = False) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        field = "VmHWM" if peak else "VmRSS"
        return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


@contextmanager
def running(data_dir: Path, **settings: Any) -> Iterator[Server]:
    """A server that is ready in every role, stopped at the end however the block ends."""
    server = Server(data_dir, **settings).start()
    try:
        yield server.wait_ready()
    finally:
        if server.process.poll() is None:
            server.kill()
