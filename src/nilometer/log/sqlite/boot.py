"""Whether the operating system has gone on since a log was last open.

What a process wrote outlives its kill: the system has it in memory, if not on disk yet. Only when
the system itself goes down (power, a crash of the kernel, another machine), or a disk refuses what
it was to keep, can something be gone that was read back before.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from nilometer.log.sqlite import disk

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # random(4): new with every start of the system


class Boot:
    """A file in the log's directory that says under which run of the system it was last open.

    And which directory that was: a copy that is put back was perhaps made while it changed.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "boot"

    def goes_on(self) -> bool:
        """Whether the system has run without a break since `note`. False where that is unknown."""
        present = self._present()
        return present is not None and _read(self._path) == present

    def note(self) -> None:
        """The log is open now, under this run of the system."""
        if not self.goes_on():
            disk.write_durably(self._path, self._present() or "unknown\n")

    def distrust(self) -> None:
        """A write failed: the next start is as after a break."""
        with contextlib.suppress(OSError):  # the disk may take nothing at all any more
            self._path.unlink(missing_ok=True)

    def _present(self) -> str | None:
        boot_id = _read(_BOOT_ID)
        if boot_id is None:
            return None
        directory = self._path.parent.stat()
        return f"{boot_id.strip()} {directory.st_dev} {directory.st_ino}\n"


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return None
