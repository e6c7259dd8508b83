"""A server's process: found again by pid and start time, stopped with its children."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.patience import within

# A server may outlive the object that launched it, and what `subprocess` keeps of a running process
# must not be thrown away.
_launched: list[subprocess.Popen[bytes]] = []


# Stands in a log before what each launch says.
_LAUNCH = b"--- launched\n"


class ServerError(Exception):
    """A server that cannot be started or stopped; the sentence says why and what to do."""


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition became true within the time."""
    return within(seconds, condition)


def started_at(pid: int) -> int | None:
    """When a living process started, in the kernel's ticks since boot; None for a dead one.

    A pid alone may belong to another process by now; pid and start time together do not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def descendants(pid: int) -> list[int]:
    """The process and all that it started, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found.extend(children.get(each, []))
    return found


class ServerProcess:
    """One process of a server, with its pid file and its log in the server's folder.

    With an `owner` (a pid) it is meant to end with it: `orphaned` tells when it did not."""

    def __init__(self, folder: Path, owner: int | None = None) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        self._file = folder / "pid.json"
        self._owner = owner
        self._child: subprocess.Popen[bytes] | None = None

    def launch(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        directory: Path | None = None,
    ) -> None:
        """Start it in a session of its own, as `user` when one is named (root only)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        group = pwd.getpwnam(user).pw_gid if user else None
        with self.log.open("ab") as log:
            log.write(_LAUNCH)
            log.flush()
            self._child = subprocess.Popen(
                [str(part) for part in command],
                env=os.environ | dict(environment or {}),
                cwd=directory or self.folder,
                user=user,
                group=group,
                extra_groups=[] if user else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _launched.append(self._child)
        self._record(self._child.pid)

    def _record(self, pid: int) -> None:
        record = {"pid": pid, "started": started_at(pid)}
        if self._owner:
            record |= {"owner": self._owner, "owner_started": started_at(self._owner)}
        unfinished = self._file.with_suffix(".new")
        unfinished.write_text(json.dumps(record))
        unfinished.rename(self._file)

    def _recorded(self) -> dict[str, int]:
        try:
            return json.loads(self._file.read_text())
        except FileNotFoundError:
            return {}

    @property
    def pid(self) -> int | None:
        """The pid while the process lives, also when another program launched it."""
        if self._child is not None and self._child.poll() is None:
            return self._child.pid
        record = self._recorded()
        alive = record and started_at(record["pid"]) == record["started"] is not None
        return record["pid"] if alive else None

    def orphaned(self) -> bool:
        """Whether it lives and the process that it belonged to does not."""
        record = self._recorded()
        if self.pid is None or "owner" not in record:
            return False
        return started_at(record["owner"]) != record["owner_started"]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and its children."""
        first = self.pid
        for pid in descendants(first) if first else []:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 30) -> None:
        """Ask the process to end, and wait; after `seconds`, kill it with its children."""
        if pid := self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            self.send(signal.SIGCONT)
            if not wait_for(lambda: self.pid is None, seconds):
                self.kill()
        self._file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it and its children as a power cut would, and wait until all are gone."""
        if not (first := self.pid):
            return
        family = [(pid, started_at(pid)) for pid in descendants(first)]
        self.send(signal.SIGKILL)
        if not wait_for(lambda: self._gone(family), 30):
            raise ServerError(f"Processes {[pid for pid, _ in family]} do not die.")
        self._file.unlink(missing_ok=True)

    def _gone(self, family: list[tuple[int, int | None]]) -> bool:
        if self._child is not None and self._child.poll() is None:
            return False
        return all(started is None or started_at(pid) != started for pid, started in family)

    def said(self, text: str) -> bool:
        """Whether its log has this text since the last launch."""
        return text.encode() in self.log.read_bytes().rpartition(_LAUNCH)[2]

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])
