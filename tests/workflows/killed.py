"""Processes that are killed where something is committed, and what the next ones find.

    python -m tests.workflows.killed DIRECTORY

For each point a child works on tasks until it kills itself there, and another works until nothing
is left. Prints, as JSON, how each child ended, how often each effect was performed and recorded,
and what the log got. One interpreter forks them all, because a start takes seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import text

from nilometer import failpoints
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.incidents import relay
from nilometer.incidents.relay import Relay
from nilometer.workflows import settling
from nilometer.workflows.effect_runner import EffectRunner
from nilometer.workflows.enqueueing import enqueue
from nilometer.workflows.outbox import Notice, publish
from nilometer.workflows.runner import Running
from nilometer.workflows.stage_runner import StageRunner
from nilometer.workflows.task import NewTask
from tests.database.migrated import migrated
from tests.log.logs import open_log
from tests.workflows.queues import Recording

POINTS = (
    *("stage_worked", "stage_settled", "tool_begun", "tool_performed", "tool_recorded"),
    "outbox_appended",
)
LANES = 6
_LONGEST = 60.0


class Acting(Recording):
    """Notes in a file what it performed; publishes what it recorded."""

    def __init__(self, file: Path) -> None:
        super().__init__(queue="tool")
        self._file = file

    def begin(self, session: Any, tasks: Any, now: Any) -> list[str]:
        return [task.lane for task in tasks]

    def perform(self, begun: str) -> str:
        with self._file.open("a") as file:
            file.write(f"{begun}\n")
        return begun

    def record(self, session: Any, performed: Any, now: Any) -> list[None]:
        publish(session, [_notice(each.task.lane, 2) for each in performed])
        return [None for _ in performed]


def main(directory: Path) -> None:
    found = {point: _tried(directory / point, point) for point in POINTS}
    sys.stdout.write(json.dumps(found))


def _tried(directory: Path, point: str) -> dict[str, Any]:
    directory.mkdir()
    tasks = [NewTask(1, "work", f"lane-{each}", 1, "kind") for each in range(LANES)]
    with (
        closing(migrated(directory / "nilometer.db")) as database,
        database.session(EVERY_ROW) as session,
    ):
        enqueue(session, tasks, clock.now())
    ends = [_child(directory, f"{point}=kill"), _child(directory, "")]
    lines = (directory / "performed").read_text().split()
    with closing(open_log(directory / "log")) as log:
        records = log.consumer("test").poll(max_records=1000, max_bytes=1 << 20, timeout=0)
    return {
        "ends": ends,
        "performed": {lane: lines.count(lane) for lane in lines},
        "told": [record.payload.decode() for record in records],
    }


def _child(directory: Path, points: str) -> int:
    """How it ended: 0, or the signal that killed it."""
    pid = os.fork()
    if pid == 0:
        try:
            failpoints.configure(points)
            _work(directory)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _work(directory: Path) -> None:
    database = Database(f"sqlite:///{directory}/nilometer.db")
    log = open_log(directory / "log")

    def act(session: Any, task: Any) -> None:
        enqueue(session, [NewTask(1, "tool", task.lane, 2, "kind")], clock.now())
        publish(session, [_notice(task.lane, 1)])

    running = Running(interval=0.02)
    parts = (
        StageRunner(database, Recording(act), running),
        EffectRunner(database, Acting(directory / "performed"), running, places=4),
        Relay(database, log, alone=lambda: database.alone(relay.NAME), interval=0.02),
    )
    with database.session(EVERY_ROW) as session:
        settling.take_back(session, clock.now())
    for part in parts:
        part.start()
    deadline = time.monotonic() + _LONGEST
    while _left(database) and time.monotonic() < deadline:
        time.sleep(0.02)
    for part in parts:
        part.stop()
    log.close()


def _left(database: Database) -> bool:
    query = "SELECT (SELECT count(*) FROM tasks) + (SELECT count(*) FROM outbox)"
    with database.read(EVERY_ROW) as session:
        return bool(session.scalar(text(query)))


def _notice(lane: str, sequence: int) -> Notice:
    told = f"{lane} {sequence}"
    return Notice(1, lane, sequence, f"{lane}-{sequence}", clock.now(), told.encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
