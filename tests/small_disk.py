"""A file system of a few megabytes, for the tests of full disks.

It is mounted in a namespace of the program that is run on it, and gone with it.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

_MOUNT = 'mount -t tmpfs -o "size=$0" tmpfs "$1" && shift && exec "$@"'

_LARGEST = 1 << 30


def on_a_small_disk(directory: Path, size: str, command: list[str]) -> list[str]:
    """The command that runs `command` with a file system of `size` (4m, 512k) at `directory`.

    As root, or in a user namespace; where neither may mount, the test fails.
    """
    directory.mkdir(exist_ok=True)
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        trial = [*unshare, "sh", "-c", _MOUNT, size, str(directory)]
        if subprocess.run([*trial, "true"], capture_output=True, check=False).returncode == 0:
            return [*trial, *command]
    pytest.fail("neither root nor a user namespace may mount a tmpfs here")


def fill(ballast: Path) -> None:
    """Write the file until not a byte is free beside it; AssertionError on a disk that is not
    small, which is the machine's own: the small one is gone, and what it was for with it."""
    status = os.statvfs(ballast.parent)
    size = status.f_blocks * status.f_frsize
    assert size <= _LARGEST, f"{ballast.parent} is on a disk of {size} bytes, not on a small one"
    with ballast.open("wb", buffering=0) as file:
        for piece in (1 << 20, 1 << 12):
            with suppress(OSError):
                while True:
                    file.write(b"\0" * piece)
