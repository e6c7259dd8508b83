"""The embedded profile's data directory: one process at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO

from nilometer.errors import ConfigurationError


class DataDirectory:
    """The directory, created if missing, locked until `close` or the end of the process.

    Raises ConfigurationError when it cannot be written or another process has it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        try:
            if not self.path.exists():
                self.path.mkdir(parents=True, mode=0o700)
                _make_durable(self.path.parent)
            self._lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise ConfigurationError(
                f"The data directory {self.path} cannot be used: {error.strerror}. "
                "Choose another with --data-dir."
            ) from None
        self._take(self._lock)

    def _take(self, lock: TextIO) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise ConfigurationError(
                f"The data directory {self.path} is in use by another nilometer (process {owner}). "
                "Stop that one, or choose another directory with --data-dir."
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()

    def close(self) -> None:
        """Let another process have the directory."""
        self._lock.close()


def _make_durable(directory: Path) -> None:
    """fsync a directory: what it names survives a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
