"""Run as a program: dies at named points of the chain, is started again, and says what came of it.

It imports once and forks, because a process that imports takes longer than all that it then does.
What a tool brings about is a line in a file: it survives who wrote it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from sqlalchemy import select

from nilometer import failpoints
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.incidents.accept import accept
from nilometer.incidents.backlog import Backlog
from nilometer.incidents.raising import Raise, Raising
from nilometer.incidents.tables import IncidentRow
from nilometer.incidents.tools.call import Succeeded, ToolCall
from nilometer.workflows.enqueueing import count_waiting
from tests.database.migrated import migrated
from tests.incidents.handling import ALICE, PACK, Handling, contiguous, order

EXCEPTIONS = 3
LEASE = timedelta(seconds=30)
ANSWERED = "incident_accepted"


class Effects:
    """Tools whose effects are lines of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def execute(self, call: ToolCall) -> Succeeded:
        with self._path.open("a") as file:
            file.write(f"{call.execution_id}\n")
        return Succeeded({})

    def reconcile(self, call: ToolCall) -> Succeeded:
        return Succeeded({}) if self.counts()[call.execution_id] else self.execute(call)

    def counts(self) -> Counter[str]:
        return Counter(self._path.read_text().split()) if self._path.exists() else Counter()


def handling(folder: Path, *, joined: bool) -> Handling:
    """The chain over a folder's database, which is made the first time."""
    path = folder / "nilometer.db"
    database = migrated(path) if not path.exists() else reopened(path)
    made = Handling(database, joined=joined)
    made.tools = Effects(folder / "effects")  # type: ignore[assignment]
    made.use(PACK, lease=LEASE)
    return made


def reopened(path: Path):
    from nilometer.database.engine import Database

    return Database(f"sqlite:///{path}")


def forked(work) -> int:
    """Do this in a process of its own; how it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def begin(folder: Path, joined: bool) -> None:
    made = handling(folder, joined=joined)
    with closing(made.database):
        ids = [each.exception_id for each in made.accept(*(order(n) for n in range(EXCEPTIONS)))]
        (folder / "ids").write_text(json.dumps(ids))


def work(folder: Path, joined: bool, later: timedelta, actions: str) -> None:
    made = handling(folder, joined=joined)
    made.now = clock.now() + later
    failpoints.configure(actions)
    made.run()


def found(folder: Path, joined: bool) -> dict[str, object]:
    made = handling(folder, joined=joined)
    ids = json.loads((folder / "ids").read_text())
    counts = made.tools.counts()  # type: ignore[attr-defined]
    told = {
        "statuses": [made.incident(each).status.value for each in ids],
        "effects": sorted(counts.values()),
        "contiguous": all(contiguous(made.events(each)) for each in ids),
        "types": sorted({len(made.types(each)) for each in ids}),
        "left": made.waiting(),
    }
    made.database.close()
    return told


def scenario(folder: Path, point: str, nth: int, joined: bool) -> dict[str, object]:
    """Die at the nth hit of a point, then go on in new processes once the leases have ended."""
    folder.mkdir()
    begun = forked(lambda: begin(folder, joined))
    died = forked(lambda: work(folder, joined, timedelta(), f"{point}=kill@{nth}"))
    ended = forked(lambda: work(folder, joined, 2 * LEASE, ""))
    return {"codes": [begun, died, ended], **found(folder, joined)}


def raised(folder: Path, points: str) -> list[str]:
    """Ask for one exception under a key, as a request does; the ids that it was answered."""
    made = reopened(folder / "nilometer.db")
    failpoints.configure(points)
    with closing(made):
        raising = Raising(made, accept, Backlog(count_waiting, most=1000), wake=lambda _: None)
        asked = Raise(1, [order()], ALICE, "the-key", None, 100)
        answer = asyncio.run(raising.accepted(asked))
        raising.close()
    return [each.exception_id for each in answer]


def answered(folder: Path) -> dict[str, object]:
    """Die once a request is committed and before it is answered; then have it repeated."""
    folder.mkdir()
    handling(folder, joined=True).database.close()
    died = forked(lambda: raised(folder, "incident_accepted=kill"))
    repeated = raised(folder, "")
    made = reopened(folder / "nilometer.db")
    with closing(made), made.read(EVERY_ROW) as session:
        kept = list(session.scalars(select(IncidentRow.id)))
    return {"code": died, "answered": repeated, "kept": kept}


def main() -> None:
    folder = Path(sys.argv[1])
    results = {}
    for name in sys.argv[2:]:
        if name == ANSWERED:
            results[name] = answered(folder / name)
            continue
        point, nth, joined = name.split(",")
        results[name] = scenario(folder / name, point, int(nth), joined == "joined")
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
