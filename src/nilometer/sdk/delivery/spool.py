"""Metrics on disk, until a store has them: JSON lines in small files, in a folder that any number
of processes may share.

    12345-9f3a6c1e.lock             held by the process that owns the files of this name
    12345-9f3a6c1e.00000001.jsonl   a segment: one metric a line
    dead-letters.jsonl              what a store refused for good, and why

A write returns when the lines are on disk (fsync). A line that a crash cut short was never promised
and is passed over. Files of a process that is gone, which is when its lock can be had, belong to
the one that renames them.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nilometer.errors import InvalidInput
from nilometer.sdk.delivery.records import METRICS, Form
from nilometer.sdk.file_locks import opened
from nilometer.sdk.seldom import Seldom
from nilometer.sdk.sinks.port import Record
from nilometer.sdk.turns import in_turns

_LOG = logging.getLogger(__name__)

MAX_SEGMENT_METRICS = 200
MAX_SEGMENT_BYTES = 512 * 1024
MAX_DEAD_BYTES = 16 * 1024 * 1024

_DEAD_LETTERS = "dead-letters"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND


class SpoolFull(Exception):
    """The spool has as many bytes as it may."""


@dataclass(slots=True)
class Segment:
    """One file: how many metrics it holds, and bytes of whole lines, which are what is read."""

    path: Path
    count: int
    size: int


class Spool:
    """The files of one process in a folder. Used by one thread at a time; raises OSError for what
    the disk refuses, and SpoolFull."""

    def __init__(self, directory: Path, most_bytes: int, form: Form = METRICS) -> None:
        self._directory = directory
        self._most = most_bytes
        self._form = form
        self._owner = _new_owner()
        self._lock: int | None = None
        self._number = 0
        self._bytes = 0
        self._seldom = Seldom(_LOG)

    def write(self, metrics: Sequence[Record]) -> Segment:
        """A new segment of these metrics, on disk when this returns."""
        self._open()
        text = _lines(metrics)
        self._check_room(len(text))
        path = self._next_path()
        try:
            _append(path, text, 0)
            _sync_folder(self._directory)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        self._bytes += len(text)
        return Segment(path, len(metrics), len(text))

    def extend(self, segment: Segment, metrics: Sequence[Record]) -> bool:
        """Add metrics to a segment; False when it is large enough, and they are not added."""
        text = _lines(metrics)
        if (
            segment.count + len(metrics) > MAX_SEGMENT_METRICS
            or segment.size + len(text) > MAX_SEGMENT_BYTES
        ):
            return False
        self._check_room(len(text))
        _append(segment.path, text, segment.size)
        segment.count += len(metrics)
        segment.size += len(text)
        self._bytes += len(text)
        return True

    def read(self, segment: Segment) -> list[Record]:
        """The metrics of a segment; lines that are none are left out. Raises FileNotFoundError for
        one that is gone; after any other OSError it may be tried again."""
        found: list[Record] = []
        *lines, _ = segment.path.read_bytes()[: segment.size].split(b"\n")
        for line in in_turns(lines):
            with suppress(InvalidInput):
                found.append(self._form.read(line))
        return found

    def remove(self, segment: Segment) -> None:
        """Let go of a segment."""
        segment.path.unlink(missing_ok=True)
        self._bytes -= segment.size

    def adopt(self) -> list[Segment]:
        """Take over what processes that are gone have left. What cannot be read or renamed stays as
        it is, for another time or another process."""
        if not self._directory.is_dir():
            return []
        adopted: list[Segment] = []
        owners = {path.name.partition(".")[0] for path in self._directory.glob("*-*.*")}
        for owner in sorted(owners - {self._owner, _DEAD_LETTERS}):
            try:
                adopted += self._adopt_from(owner)
            except OSError as error:
                self._tell(error)
        return adopted

    def bury(self, metrics: Sequence[tuple[Record, str]]) -> None:
        """Keep dead letters with their reasons, as long as there is room for such."""
        self._open()
        path = self._directory / f"{_DEAD_LETTERS}.jsonl"
        letters = [{"reason": reason, "metric": metric.to_dict()} for metric, reason in metrics]
        text = "".join(f"{json.dumps(letter)}\n" for letter in letters).encode()
        # Without a lock: another process that is stopped while it has that would stop this one.
        with os.fdopen(_opened(path), "ab", buffering=0) as file:
            size = file.tell()
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                text = b"\n" + text  # a crash cut the last one short
            if size + len(text) <= MAX_DEAD_BYTES:
                file.write(text)

    def close(self) -> None:
        """Leave what there is to the next process."""
        if self._lock is None:
            return
        with suppress(OSError):
            if not any(self._directory.glob(f"{self._owner}.*.jsonl")):
                self._lock_path(self._owner).unlink(missing_ok=True)
        # A child that was forked while it was opened may not know of it, and have a share in it.
        with suppress(OSError):
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        self.abandon()

    def abandon(self) -> None:
        """Close the lock alone: in a forked child, where it is the parent's."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open(self) -> None:
        """Own a name in the folder. One that is looking for what the dead have left may be faster
        at a new lock than its owner: then it is another name."""
        while self._lock is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._lock_path(self._owner)
            self._lock = lock = _opened(path)  # at once: a child that is forked now closes it
            try:
                owned = _locked(lock) and _is(lock, path)
            except OSError:
                self.abandon()
                raise
            if not owned:
                self.abandon()
                self._owner = _new_owner()

    def _check_room(self, size: int) -> None:
        if self._bytes + size > self._most:
            raise SpoolFull

    def _next_path(self) -> Path:
        self._number += 1
        return self._directory / f"{self._owner}.{self._number:08}.jsonl"

    def _lock_path(self, owner: str) -> Path:
        return self._directory / f"{owner}.lock"

    def _adopt_from(self, owner: str) -> list[Segment]:
        path = self._lock_path(owner)
        with opened(path, _FLAGS) as lock:
            if not (_locked(lock) and _is(lock, path)):
                return []  # it is alive, or another was faster
            segments = sorted(self._directory.glob(f"{owner}.*.jsonl"))
            found = [segment for old in segments if (segment := self._adopted(old))]
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return found

    def _adopted(self, old: Path) -> Segment | None:
        try:
            return self._taken(old)
        except FileNotFoundError:
            return None  # another was faster
        except OSError as error:
            self._tell(error)
            return None

    def _taken(self, old: Path) -> Segment | None:
        """A segment of another owner. Renamed last: with this one's name nobody else looks at it.
        A line that a crash cut short is no part of it, and what is added begins there."""
        self._open()
        text = old.read_bytes()
        size = text.rfind(b"\n") + 1
        if not size:
            old.unlink()
            return None
        path = self._next_path()
        old.rename(path)
        self._bytes += size
        return Segment(path, text.count(b"\n"), size)

    def _tell(self, error: OSError) -> None:
        self._seldom.warning("what a process has left cannot be taken over: %s", error.strerror)


def _lines(metrics: Sequence[Record]) -> bytes:
    return "".join(f"{metric.to_json()}\n" for metric in in_turns(metrics)).encode()


def _new_owner() -> str:
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _opened(path: Path) -> int:
    return os.open(path, _FLAGS | os.O_CLOEXEC, 0o600)


def _append(path: Path, text: bytes, size: int) -> None:
    """Add text to a file of so many bytes of whole lines, durably or not at all. What is behind
    them, of a write that was cut short, is cut off: it would be one line with the first of the
    text."""
    file = _opened(path)
    try:
        if os.fstat(file).st_size > size:
            os.ftruncate(file, size)
        view = memoryview(text)
        while view:
            view = view[os.write(file, view) :]
        os.fsync(file)
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise
    finally:
        os.close(file)


def _sync_folder(directory: Path) -> None:
    folder = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
