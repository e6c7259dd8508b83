"""Files that processes open, lock (flock) and close at once, and forks.

A lock belongs to what was opened, and a child that is forked meanwhile has a share in that: who
closes the file alone leaves it locked for as long as the child lives.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

_OPEN: dict[int, int] = {}
"""The files that are open now, and which thread has each."""


@contextmanager
def opened(path: Path, flags: int) -> Generator[int]:
    """The file; where it is made, it is its owner's alone. At the end it is unlocked and closed.
    Raises OSError."""
    file = os.open(path, flags | os.O_CLOEXEC, 0o600)
    _OPEN[file] = threading.get_ident()
    try:
        yield file
    finally:
        # Forgotten first: a child that is forked a moment later must not close what has its number
        # by then. What a child knows nothing of is its parent's, to unlock too.
        if _OPEN.pop(file, None) is not None:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)


def _leave_to_the_parent() -> None:
    """In a forked child: close what other threads had open, of which there are none here. It stays
    locked while the parent is at it, and no longer, should that be killed."""
    here = threading.get_ident()
    for file, thread in _OPEN.items():
        if thread != here:
            with suppress(OSError):
                os.close(file)
    _OPEN.clear()


os.register_at_fork(after_in_child=_leave_to_the_parent)
