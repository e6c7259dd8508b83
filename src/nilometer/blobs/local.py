"""Blobs as files that are durable when `put` returns.

The object is written to a temporary file outside the tree that is listed, fsynced, renamed into its
folder, and the folder is fsynced. A folder's own entry is fsynced before the first object in it is
acknowledged. A kill at any instant leaves a whole object or a temporary file that nobody reads.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from nilometer.blobs.backend import PAGE
from nilometer.blobs.bounded_threads import BoundedThreads
from nilometer.blobs.codec import EncodedObject, ObjectMetadata, epilogue
from nilometer.blobs.types import BlobNotFound, BlobsFull, BlobsUnavailable, Listed
from nilometer.errors import ConfigurationError

_TEMPORARIES = ".tmp"
_KNOWN_FOLDERS = 4096
_WRITE_BUFFER = 256 * 1024
_PROBE_BYTES = bytes(4096)
# What is kept free whatever the settings say: folders and other puts need room at the same moment.
_LEAST_FREE = 64 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

MAX_WAITING = 2048
"""Puts and reads that wait for the disk or are in it: as many as connections by default."""
MAX_WAITING_BYTES = 256 * 1024**2
"""What the puts among them hold in memory: as much as requests in flight by default."""


class LocalFiles:
    """A bucket in a directory of this machine; the directory's path never leaves this class.

    A put that would leave less than `disk_reserve` bytes free is refused; a probe fails when one of
    `max_put_bytes` would be.
    """

    scheme = "file"

    def __init__(
        self,
        root: Path,
        *,
        threads: int = 32,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        disk_reserve: int = 0,
        max_put_bytes: int = 0,
    ) -> None:
        self._root = root
        self._reserve = max(disk_reserve, _LEAST_FREE)
        self._max_put_bytes = max_put_bytes
        self._temporaries = root / _TEMPORARIES
        self._durable_folders: set[Path] = set()
        self._folders_lock = threading.Lock()
        try:
            _make_directories(self._temporaries)
        except OSError as error:
            raise ConfigurationError(
                f"the directory for blobs cannot be made: {error.strerror}", attr="blobs_url"
            ) from error
        # Threads wait in fsync, so there are many more than processors.
        self._threads = BoundedThreads(
            "blobs", threads=threads, max_jobs=MAX_WAITING, max_bytes=max_waiting_bytes
        )
        self._prober = BoundedThreads("blob-probe", threads=1, max_jobs=1, max_bytes=0)

    async def put(
        self, key: str, metadata: ObjectMetadata, size: int, encode: Callable[[], EncodedObject]
    ) -> EncodedObject:
        """Write the object and its metadata line durably.

        While the disk hangs, at most MAX_WAITING puts and `max_waiting_bytes` are held, and any
        further put is refused at once.
        """
        return await self._threads.run(lambda: self._put(key, metadata, encode), size=size)

    async def read_range(self, key: str, start: int, stop: int) -> tuple[bytes, int]:
        """Read a range; the file is open for this read only."""
        return await self._threads.run(lambda: self._read_range(self._root / key, start, stop))

    async def probe(self) -> None:
        """Write, fsync and remove a small file: fails on a full, read-only or lost disk.

        One at a time: while an earlier probe hangs, this raises BlobsUnavailable.
        """
        await self._prober.run(self._probe)

    def list_folders(self, folder: str) -> Iterator[str]:
        """The folders in a folder; what begins with a dot is not one."""
        with _translated(), _entries(self._root / folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    yield f"{folder}/{entry.name}" if folder else entry.name

    def list_objects(self, folder: str) -> Iterator[Sequence[Listed]]:
        """The files of a folder with their modification times."""
        with _translated(), _entries(self._root / folder) as entries:
            listed = _listed(folder, entries)
            while page := list(islice(listed, PAGE)):
                yield page

    def delete(self, keys: Sequence[str]) -> None:
        """Unlink the files, then fsync the folders they were in."""
        with _translated():
            paths = [self._root / key for key in keys]
            for path in paths:
                path.unlink(missing_ok=True)
            for folder in {path.parent for path in paths}:
                with suppress(FileNotFoundError):
                    _fsync_directory(folder)

    def remove_folder(self, folder: str) -> None:
        """Remove the directory if it is empty."""
        path = self._root / folder
        with suppress(OSError):
            path.rmdir()
            self._durable_folders.discard(path)

    def delete_temporaries(self, before: datetime) -> int:
        """Unlink temporary files last written before the instant."""
        deleted = 0
        with _translated(), _entries(self._temporaries) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if _modified(entry) < before:
                        Path(entry.path).unlink()
                        deleted += 1
        return deleted

    def close(self) -> None:
        """Finish the writes that have begun."""
        self._threads.close()
        self._prober.close()

    def _put(
        self, key: str, metadata: ObjectMetadata, encode: Callable[[], EncodedObject]
    ) -> EncodedObject:
        encoded = encode()
        target = self._root / key
        # Its own name: two processes may write one pack at once, and a kill may have left a part.
        temporary = self._temporaries / f"{target.name}-{secrets.token_hex(8)}"
        buffers = [*encoded.buffers, epilogue(metadata, encoded.parts)]
        with _translated():
            self._require_free(sum(map(len, buffers)))
            try:
                _write_durably(temporary, buffers)
                self._publish(temporary, target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return encoded

    def _require_free(self, size: int) -> None:
        if shutil.disk_usage(self._root).free < size + self._reserve:
            raise BlobsFull("the disk of the directory for blobs has no room")

    def _publish(self, temporary: Path, target: Path) -> None:
        known = target.exists()  # a pack put again has the same bytes, and rows may name it
        self._rename(temporary, target)
        try:
            _fsync_directory(target.parent)
        except OSError:
            if not known:
                target.unlink(missing_ok=True)  # not acknowledged, so it must not be there
            raise

    def _rename(self, temporary: Path, target: Path) -> None:
        folder = target.parent
        self._ensure_folder(folder)
        try:
            temporary.rename(target)
        except FileNotFoundError:  # the folder was empty and has just been removed
            self._durable_folders.discard(folder)
            self._ensure_folder(folder)
            temporary.rename(target)

    def _ensure_folder(self, folder: Path) -> None:
        """Make the folder and fsync its entry and its parents' entries, once.

        Also when it exists: another thread or process may have made it and not fsynced it yet.
        """
        if folder in self._durable_folders:
            return
        with self._folders_lock:
            if folder in self._durable_folders:
                return
            parent = self._root  # not made again: a disk that is not mounted must be an error
            for name in folder.relative_to(self._root).parts:
                with suppress(FileExistsError):
                    (parent / name).mkdir(mode=0o700)
                _fsync_directory(parent)
                parent /= name
            if len(self._durable_folders) >= _KNOWN_FOLDERS:
                self._durable_folders.clear()
            self._durable_folders.add(folder)

    def _read_range(self, path: Path, start: int, stop: int) -> tuple[bytes, int]:
        with _translated():
            try:
                file = path.open("rb", buffering=0)
            except FileNotFoundError:
                raise BlobNotFound("there is no such blob") from None
            with file:
                size = os.fstat(file.fileno()).st_size
                if start >= size:
                    raise BlobNotFound("there is no such blob")
                file.seek(start)
                return _read_exactly(file.read, min(stop, size) - start), size

    def _probe(self) -> None:
        path = self._temporaries / f"probe-{secrets.token_hex(8)}"
        with _translated():
            self._require_free(self._max_put_bytes)
            try:
                _write_durably(path, [_PROBE_BYTES])
            finally:
                path.unlink(missing_ok=True)


@contextmanager
def _translated() -> Generator[None]:
    """Turn the system's errors into BlobsUnavailable, without a path of this machine."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise BlobsFull("the disk of the directory for blobs is full") from error
        raise BlobsUnavailable(
            f"the directory for blobs does not work: {error.strerror or 'input/output error'}"
        ) from error


@contextmanager
def _entries(directory: Path) -> Generator[Iterable[os.DirEntry[str]]]:
    """The directory's entries; none when there is no such directory."""
    try:
        entries = os.scandir(directory)
    except FileNotFoundError:
        yield ()
        return
    with entries:
        yield entries


def _listed(folder: str, entries: Iterable[os.DirEntry[str]]) -> Iterator[Listed]:
    for entry in entries:
        with suppress(FileNotFoundError):
            if entry.is_file(follow_symlinks=False):
                size = entry.stat(follow_symlinks=False).st_size
                yield Listed(f"{folder}/{entry.name}", _modified(entry), size)


def _modified(entry: os.DirEntry[str]) -> datetime:
    return datetime.fromtimestamp(entry.stat(follow_symlinks=False).st_mtime, UTC)


def _write_durably(path: Path, buffers: Sequence[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb", buffering=_WRITE_BUFFER) as file:
        file.writelines(buffers)
        file.flush()
        os.fsync(file.fileno())


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_directories(directory: Path) -> None:
    """Make the directory and its missing parents, each one's entry fsynced."""
    if directory.is_dir():
        return
    _make_directories(directory.parent)
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    _fsync_directory(directory.parent)


def _read_exactly(read: Callable[[int], bytes], size: int) -> bytes:
    pieces: list[bytes] = []
    while size > 0 and (piece := read(size)):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
