"""A small disk that outlives the processes on it, for servers that a full one ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.clickhouse import PASSWORD, USER, ClickHouseServer
from tests.servers.kafka import KafkaServer
from tests.servers.server import ROOT
from tests.small_disk import fill, on_a_small_disk


class SmallDisk:
    """Mounted where only the processes that `enter` leads to see it; kept by one that waits."""

    def __init__(self, directory: Path, size: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        command = on_a_small_disk(directory, size, ["sh", "-c", "echo mounted && exec sleep 3600"])
        self._keeper = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == "mounted\n"
        self.enter = ["nsenter", f"--target={self._keeper.pid}", "--mount"]
        if "-rm" in command:
            self.enter += ["--user", "--preserve-credentials"]

    @property
    def place(self) -> Path:
        """The disk, as this process may look at it."""
        return Path(f"/proc/{self._keeper.pid}/root{self._directory}")

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte is free for the length of the block."""
        ballast = self.place / "ballast"
        try:
            fill(ballast)
            yield
        finally:
            ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it, and of all that was on it."""
        self._keeper.kill()
        self._keeper.wait()
        assert self._keeper.stdout is not None
        self._keeper.stdout.close()


class KafkaOnASmallDisk(KafkaServer):
    """What it stores is on the disk; the rest of its folder is not."""

    def __init__(self, folder: Path, port: int | None = None, owner: int | None = None) -> None:
        self.disk = SmallDisk(folder / "disk", "96m")
        super().__init__(folder, port, owner, {"log.dirs": str(folder / "disk" / "log")})

    def _format(self) -> None:
        if not (self.disk.place / "log" / "meta.properties").exists():
            super()._format()

    def _java(self, heap: str, main: str, *arguments: str) -> list[str]:
        return [*self.disk.enter, *super()._java(heap, main, *arguments)]

    def wipe(self) -> None:
        self.disk.close()
        super().wipe()


class ClickHouseOnASmallDisk(ClickHouseServer):
    """The fixture of ClickHouse, its data on the disk: with room for what a slow machine sends
    until the disk is filled, 2 MB a second with the parts that merges leave behind."""

    def __init__(self, folder: Path, port: int | None = None, owner: int | None = None) -> None:
        self.disk = SmallDisk(folder / "disk", "512m")
        super().__init__(folder, port, owner)

    def launch(self) -> None:
        fixture = [sys.executable, "-m", "tests.clickhouse_server", "--port", str(self.port)]
        fixture += ["--data", str(self.folder / "disk" / "data")]
        user = ["--user", f"{USER}:{PASSWORD}:all"]
        where = {"PYTHONPATH": str(ROOT)}  # whoever enters the disk is nowhere
        self.process.launch([*self.disk.enter, *fixture, *user], environment=where)

    def wipe(self) -> None:
        self.disk.close()
        super().wipe()
