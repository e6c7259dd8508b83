"""Bytes handed to the engine as a file, because that is how it takes an insert and tells its fate.

The engine has three ways in. Data inside the statement would let a prompt meet the SQL parser.
chDB's streaming insert (`send_insert`) reports success for rows that were never written when the
write itself fails (chdb 4.4: on a full disk, `rows_written` and no error). `FROM INFILE` does
neither. Where the system can, the file is anonymous memory: nothing is left of it after a kill.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def spooled(data: bytes, directory: Path) -> Generator[str]:
    """The path of a file that holds the data, for the length of the block.

    `directory` is used only where there are no memory files (outside Linux). Raises OSError.
    """
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile(dir=directory) as file:
            file.write(data)
            file.flush()
            yield file.name
        return
    descriptor = os.memfd_create("nilometer-insert", os.MFD_CLOEXEC)
    try:
        _write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
