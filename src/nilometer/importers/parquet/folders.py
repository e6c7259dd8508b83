"""Folders under a root, reached by their open parents and never through a symbolic link.

Each name is one part of a path, and each step opens it relative to the folder before, so that
nothing that is renamed or put in the way meanwhile leads a write elsewhere: at the worst it fails.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from nilometer.errors import InvalidInput, NilometerError, Unavailable

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LINKED = "a symbolic link, or no folder, is in the way of"
TEMPORARY = ".tmp"
"""How the name of a file ends that is not whole yet."""


@contextmanager
def locked(root: Path, names: tuple[str, ...]) -> Generator[int]:
    """The folder `names` under `root`, made where it is missing, for the length of the block its
    caller's alone among those that come through here: its descriptor.

    Blocks until others are done. Raises InvalidInput where something else than folders is on the
    way, or where the folder was moved away while it was held: what was written may then be nowhere
    that a reader looks.
    """
    _check(names)
    opened = [_root(root)]
    try:
        for name in names:
            opened.append(_below(opened[-1], name))
        folder = opened[-1]
        fcntl.flock(folder, fcntl.LOCK_EX)
        _sweep(folder)
        yield folder
        _check_still_there(opened, names)
    finally:
        for each in reversed(opened):
            os.close(each)


@contextmanager
def reading(folder: int, name: str) -> Generator[BinaryIO | None]:
    """A file of a folder; None where there is none. Raises InvalidInput for a link."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise _refused(error, name) from None
    with os.fdopen(file, "rb") as opened:
        yield opened


@contextmanager
def found(root: Path, names: tuple[str, ...], file: str) -> Generator[BinaryIO | None]:
    """A file in the folder `names` under `root`, for who reads only; None where it or a folder is
    missing. Raises InvalidInput for a link on the way."""
    _check(names)
    opened: list[int] = []
    try:
        try:
            opened.append(os.open(root, _FOLDER))
            for name in names:
                opened.append(os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=opened[-1]))
        except FileNotFoundError:
            yield None
            return
        except OSError as error:
            raise _refused(error, file) from None
        with reading(opened[-1], file) as there:
            yield there
    finally:
        for each in reversed(opened):
            os.close(each)


@contextmanager
def replacing(folder: int, name: str) -> Generator[BinaryIO]:
    """A new file that takes the name, durably, when the block ends without an error."""
    temporary = f".{name}.{secrets.token_hex(8)}{TEMPORARY}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=folder), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def remove(folder: int, name: str) -> None:
    """Delete a file, if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _check(names: tuple[str, ...]) -> None:
    for name in names:
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise InvalidInput(f"{name!a} is not one part of a path", code="unsafe_path")


def _below(parent: int, name: str) -> int:
    """A folder in another, made where it is missing."""
    try:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
            os.fsync(parent)
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        raise _refused(error, name) from None


def _root(root: Path) -> int:
    """The folder that the others are in, made where it is missing."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(root, _FOLDER)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise InvalidInput(f"there can be no folder {root}: {why}", code="no_folder") from None


def _refused(error: OSError, name: str) -> NilometerError:
    """What the way to a file is refused for: a link on it, or what the machine has not."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENOENT):
        return InvalidInput(f"{_LINKED} {name}", code="unsafe_path")
    return Unavailable(f"{name} cannot be opened: {os.strerror(error.errno or 0)}")


def _sweep(folder: int) -> None:
    """Delete what writers that were killed have left: whoever holds the lock is the only one."""
    for name in os.listdir(folder):
        if name.startswith(".") and name.endswith(TEMPORARY):
            os.unlink(name, dir_fd=folder)


def _check_still_there(opened: list[int], names: tuple[str, ...]) -> None:
    for parent, name, folder in zip(opened, names, opened[1:], strict=False):
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            found = None
        if found is None or not os.path.samestat(found, os.fstat(folder)):
            raise InvalidInput(f"{name} was moved while it was written", code="unsafe_path")
