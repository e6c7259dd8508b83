"""What the servers have in common: start until healthy, stop, kill, pause."""

from __future__ import annotations

import contextlib
import fcntl
import random
import shutil
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self

from tests.servers.process import ServerError, ServerProcess, wait_for

ROOT = Path(__file__).parents[2]
BUILD = ROOT / ".build"
SERVICES = BUILD / "services"


def is_free(port: int) -> bool:
    """Whether nothing listens on the port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(end: int = 32000) -> int:
    """A free port from 20000, below those that the kernel gives to clients: so that none takes it
    while its server is stopped, and no client that connects there meets itself."""
    while not is_free(port := random.randrange(20000, end)):
        pass
    return port


class Server(ABC):
    """One server over a folder; what it stores survives `stop`, `kill` and a second `start`."""

    name: ClassVar[str]
    default_port: ClassVar[int]
    # Whether tests share one of these.
    for_tests: ClassVar[bool] = True
    start_seconds: ClassVar[float] = 60
    stop_seconds: ClassVar[float] = 30
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, folder: Path, port: int | None = None, owner: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.process = ServerProcess(folder, owner)

    @property
    @abstractmethod
    def address(self) -> str:
        """What a client connects to."""

    @abstractmethod
    def prepare(self) -> None:
        """Write its configuration, and on the first start its empty data."""

    @abstractmethod
    def launch(self) -> None:
        """Start its process."""

    @abstractmethod
    def healthy(self) -> bool:
        """Whether it answers a client."""

    def ports(self) -> list[int]:
        """Every port that it listens on."""
        return [self.port]

    @property
    def running(self) -> bool:
        return self.process.pid is not None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One program at a time starts or stops it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def start(self) -> Self:
        """Start it and wait until it is healthy; nothing when it is."""
        with self._alone():
            if not self.running:
                self._check_ports()
                self.prepare()
                self.launch()
            self.wait_healthy()
        return self

    def _check_ports(self) -> None:
        # Just after a kill the kernel may still be closing what the process listened on.
        if not wait_for(lambda: all(map(is_free, self.ports())), 1):
            taken = [port for port in self.ports() if not is_free(port)]
            raise ServerError(
                f"{self.name} needs port {taken[0]}, and another program listens on it. "
                f"Stop that program (ss -ltnp 'sport = :{taken[0]}' names it), then try again."
            )

    def wait_healthy(self, seconds: float | None = None) -> Self:
        """Wait until it answers; ServerError with the end of its log when it ends or hangs."""
        wait_for(lambda: not self.running or self.healthy(), seconds or self.start_seconds)
        if not self.running:
            raise ServerError(f"{self.name} ended at its start:\n{self.process.tail()}")
        if not self.healthy():
            raise ServerError(
                f"{self.name} runs but does not answer on {self.address}:\n{self.process.tail()}"
            )
        return self

    def stop(self) -> None:
        """End it in order; kill it when it takes longer than `stop_seconds`."""
        with self._alone():
            self.process.stop(self.stop_signal, self.stop_seconds)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()

    def pause(self) -> None:
        """Freeze it: the kernel still accepts its connections, and nothing answers."""
        self.process.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send(signal.SIGCONT)

    def wipe(self) -> None:
        """Remove what it stored. It must not run."""
        with self._alone():
            for path in self.folder.iterdir():
                if path.name != "lock":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
