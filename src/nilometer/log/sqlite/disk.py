"""Durable steps on a local disk, and what its errors mean."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from pathlib import Path

from nilometer.errors import ConfigurationError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def sync_directory(directory: Path) -> None:
    """Make the directory's entries durable: creations, renames and removals so far."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the file's content durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, text: str) -> None:
    """Write a small file so that after a crash it is there whole or not at all."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text)
    sync_file(temporary)
    temporary.replace(path)
    sync_directory(path.parent)


def remove_durably(path: Path) -> None:
    """Remove the file so that no crash brings it back."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def free_bytes(directory: Path) -> int:
    """Bytes that this process may still write to the directory's file system."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def is_no_room(error: BaseException, directory: Path) -> bool:
    """Whether the error only says that the disk, or a quota on it, is full.

    After such an error nothing was half-written and trying again later is safe. SQLite reports a
    full disk as SQLITE_FULL, but a quota as a plain write error: a write of our own tells the two
    apart. A failed sync is never "no room": the kernel may have dropped the pages.
    """
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    code = getattr(error, "sqlite_errorcode", None)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE):
        return True
    return code == sqlite3.SQLITE_IOERR_WRITE and _probe_refused(directory)


def _probe_refused(directory: Path) -> bool:
    probe = directory / "probe.new"
    try:
        probe.write_bytes(b"\0" * 65536)
        sync_file(probe)
    except OSError as error:
        return error.errno in _NO_ROOM
    finally:
        probe.unlink(missing_ok=True)
    return False


class DirectoryLock:
    """Keeps a directory to one holder, in this process or any other of this machine.

    `flock` and not `lockf`: it also keeps out a second holder in the same process, and closing an
    unrelated descriptor of the file does not release it. The kernel releases it when we die.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise ConfigurationError(
                f"the log in {directory} is already open in process {holder or 'unknown'}; "
                "stop that process or use another data directory"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next holder in."""
        os.close(self._descriptor)
