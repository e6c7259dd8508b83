"""The embedded profile's data directory: the disk, the tables and the engine."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from nilometer.database.engine import Database
from nilometer.database.migrate import standing
from nilometer.doctor.clickhouse_schema import judged as judged_store
from nilometer.doctor.finding import Check, Verdict, failed, in_units, ok, skipped, warning
from nilometer.doctor.postgres import judged as judged_database
from nilometer.log.sqlite.disk import free_bytes
from nilometer.settings import Settings

DIRECTORY = "data.directory"
_ENGINE_SECONDS = 60.0
"""Opening the engine reads the names of all its parts: it takes longer than a question does."""


class Embedded:
    """Everything that one directory holds. Nothing is made in it that stays."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = settings.data_dir.resolve()

    def checks(self) -> list[Check]:
        """The checks of this part."""
        after = (DIRECTORY,)
        restore = "Restore the data directory from a copy, or name another with --data-dir."
        return [
            Check(DIRECTORY, self.directory),
            Check("data.disk", self.disk, needs=after),
            Check("data.database", self.database, needs=after, remedy=restore),
            Check("data.store", self.store, needs=after, remedy=restore, seconds=_ENGINE_SECONDS),
        ]

    def directory(self) -> Verdict:
        """It can be written, or made."""
        problem = unwritable(self._path)
        if problem:
            return failed(
                f"The data directory {self._path} cannot be used: {problem}.",
                "Give it to the user that runs Nilometer, or choose another with --data-dir.",
            )
        if not self._path.exists():
            return ok(f"The data directory {self._path} is made by the first start.")
        return ok(f"The data directory {self._path} can be written.")

    def disk(self) -> Verdict:
        """Room above the reserve, for the log at its largest."""
        place = existing(self._path)
        free, reserve = free_bytes(place), self._settings.disk_reserve
        log = _size_of(self._path / "log")
        room = free - reserve
        coming = max(0, self._settings.log_max_bytes - log)
        remedy = "Free some disk, or lower NILOMETER_LOG_MAX_BYTES and NILOMETER_DISK_RESERVE."
        if room <= 0:
            return failed(
                f"{in_units(free)} of the disk are free, which is less than the reserve of "
                f"{in_units(reserve)}: capture answers 503.",
                remedy,
            )
        if log >= self._settings.log_max_bytes:
            return failed(
                f"The log has reached its limit of {in_units(self._settings.log_max_bytes)}: "
                "capture answers 503.",
                "See why the store does not take what waits (nilometer log lag), or raise "
                "NILOMETER_LOG_MAX_BYTES.",
            )
        if room < coming:
            return warning(
                f"{in_units(free)} of the disk are free; the log may grow by {in_units(coming)}.",
                remedy,
            )
        return ok(f"{in_units(free)} of the disk are free; {in_units(reserve)} are in reserve.")

    def database(self) -> Verdict:
        """The version of the tables of accounts. Nothing is migrated."""
        file = self._path / "nilometer.db"
        if not file.exists():
            return _made_later(file.name)
        with closing(Database(self._settings.effective_database_url)) as database:
            return judged_database(standing(database))

    def store(self) -> Verdict:
        """The engine opens, and the version of its tables; or a server has it open."""
        directory = self._path / "clickhouse"
        if not (directory / "engine").exists():
            return _made_later("the store")
        with _held(self._path) as owner:
            if owner:
                return ok(f"A server runs on it (process {owner}); its readiness tells of it.")
            told = _ask_engine(directory / "engine")
        if told is None:
            return failed(
                "The store's engine cannot be opened.",
                "See what `nilometer serve` logs; a broken store is filled again from copies.",
            )
        return judged_store(told["record"])


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(each for each in (path, *path.parents) if each.exists())


def unwritable(path: Path) -> str:
    """Why a directory cannot be written or made, in the system's words; empty when it can."""
    place = existing(path)
    if not place.is_dir():
        return f"{place} is not a directory"
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"nilometer")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return (error.strerror or "input/output error").lower()
    return ""


def _made_later(what: str) -> Verdict:
    return skipped(DIRECTORY, f"There is no data yet; the first start makes {what}.")


def _size_of(directory: Path) -> int:
    if not directory.exists():
        return 0
    return sum(entry.stat().st_size for entry in os.scandir(directory) if entry.is_file())


@contextmanager
def _held(path: Path) -> Generator[str]:
    """Hold the data directory for the length of the block, so that no server opens the engine
    meanwhile. The process that has it already, instead of the lock, where there is one."""
    lock = path / "lock"
    if not lock.exists():
        yield ""
        return
    with lock.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            yield file.read().strip() or "unknown"
            return
        yield ""


def _ask_engine(path: Path) -> dict[str, Any] | None:
    """What the engine over this directory tells, from a process of its own: one that a broken part
    or a kill ends without harm. None when it cannot be opened."""
    command = [sys.executable, "-m", "nilometer.doctor.engine_process", str(path)]
    try:
        done = subprocess.run(  # noqa: S603  (ours)
            command, check=False, capture_output=True, timeout=_ENGINE_SECONDS - 2
        )
    except subprocess.TimeoutExpired:
        return None
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if done.returncode == 0 and lines else None
