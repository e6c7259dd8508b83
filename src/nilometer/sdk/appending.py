"""Appending to a file of lines that several processes share: whole lines, under a lock, synced."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from nilometer.sdk.file_locks import opened


@contextmanager
def locked(path: Path, *, follow: bool = True) -> Generator[int]:
    """The file, open and locked; it is made, for its owner alone, where there is none. Another
    process may have renamed it between opening and locking: then it is opened again. Raises OSError
    for what is no regular file (a pipe would be waited for) and, unless links are to be followed,
    for a link."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK
    flags |= 0 if follow else os.O_NOFOLLOW
    while True:
        with opened(path, flags) as file:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(f"{path.name} is no regular file")
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_current(file, path):
                yield file
                return


def append(file: int, text: bytes) -> int:
    """Add lines to a locked file, durably or, with an OSError, not at all: the size that it has
    then. A line that a crash cut short before them is ended."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        text = b"\n" + text
    try:
        view = memoryview(text)
        while view:
            view = view[os.write(file, view) :]
        os.fsync(file)
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise
    return size + len(text)


def _is_current(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
