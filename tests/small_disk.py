"""A file system of a few megabytes, for the tests of full disks.

It is mounted in a namespace of the program that is run on it, and gone with it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_MOUNT = 'mount -t tmpfs -o "size=$0" tmpfs "$1" && shift && exec "$@"'


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
