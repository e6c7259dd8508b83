"""Who works on what: tasks are claimed in batches, under a lease, fairly over projects.

A claim is one short transaction. Of each lane it takes the first task alone, and nothing while
another of the lane is in somebody's hands, waits for its next attempt, or is dead. Projects take
turns, a claim goes on where the one before it stopped, and each turn is worth the project's weight:
one that floods a queue gets what the others leave.

A worker that is heard of no more loses its lease, and the task goes to whoever claims it next; one
that was only slow finds its lease gone and settles nothing.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, cast
from uuid import uuid4

from sqlalchemy import Row, Table, text
from sqlalchemy.orm import Session

from nilometer.database.bulk import Bulk
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.workflows.candidates import Candidates, Kinds
from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import Task, TaskState

LEASE = timedelta(seconds=30)
"""How long a worker may keep a task without a word. Longer than clocks of workers differ."""

MOST_PROJECTS = 64
"""How many projects one claim looks at."""

_NOTHING: Mapping[int, int] = MappingProxyType({})

_TASKS = cast("Table", TaskRow.__table__)
_LEASED = (
    *("state", "lease", "due_at", "attempts", "losses"),
    *("project_id", "lane", "sequence"),
)
_LEASE_TASK = Bulk(
    "UPDATE tasks SET state = ?, lease = ?, due_at = ?, attempts = ?, losses = ? "
    "WHERE project_id = ? AND lane = ? AND sequence = ?",
    [_TASKS.c[name] for name in _LEASED],
)
# Claims of a queue with caps count what others have: one at a time.
_CLAIMS = 0x6E696C70
_TURN = text("SELECT pg_advisory_xact_lock(:claims, hashtext(:queue))")


def everybody_alike(project_id: int) -> int:  # noqa: ARG001
    """The weight of a project unless something else is said."""
    return 1


@dataclass(frozen=True, slots=True)
class Sharing:
    """How projects share a queue.

    - `weight_of`: a project's share of a batch for which many wait, relative to the others'; at
      least 1.
    - `places`: how many tasks this worker has in hand at most, where one project must not have them
      all: of what the others leave it gets half, and of all of them as much as each of those that
      want some, with one such part over. So there is always room for one that comes later, however
      many hang. None where tasks are soon done.
    - `keyed`: whether tasks of this queue have a `limit_key`.
    """

    weight_of: Callable[[int], int] = everybody_alike
    places: int | None = None
    keyed: bool = False


class Claims:
    """Claims the tasks of one queue. Blocks; for one thread at a time, beside any number of others
    and other processes. Every method raises DatabaseUnavailable."""

    def __init__(
        self,
        database: Database,
        queue: str,
        sharing: Sharing | None = None,
        *,
        lease: timedelta = LEASE,
        kinds: Kinds = None,
    ) -> None:
        """Tasks of other kinds than `kinds`, if it is given, are left for a worker that knows them:
        while workers are replaced, the newer ones enqueue what the older never heard of."""
        self._database = database
        self._queue = queue
        self._sharing = sharing or Sharing()
        self._lease = lease
        self._candidates = Candidates(queue, serves_many=database.path is None, kinds=kinds)
        self._after = -1
        self._suspects_next = True

    def due(self, now: datetime) -> bool:
        """Whether a claim could find something."""
        with self._database.read(EVERY_ROW) as session:
            return bool(self._candidates.projects(session, -1, now, 1))

    def claim(self, places: int, now: datetime, mine: Mapping[int, int] = _NOTHING) -> list[Task]:
        """At most so many tasks, each of another lane, whose lease begins now. `mine` is how many
        tasks of each project this worker has in hand already.

        One that a worker died with twice comes alone, every other time: should it be what kills
        them, it takes no other along.
        """
        with self._database.concurrent(EVERY_ROW) as session:
            if self._sharing.keyed and self._database.path is None:
                session.execute(_TURN, {"claims": _CLAIMS, "queue": self._queue})
            in_hand = self._in_hand(session, now, mine)
            self._suspects_next = not self._suspects_next
            if self._suspects_next:
                suspect = self._candidates.suspect(session, now)
                if suspect is not None and in_hand.admits(suspect):
                    return self._take(session, [suspect], now)
            return self._fair(session, places, in_hand, now)

    def _fair(self, session: Session, places: int, in_hand: _InHand, now: datetime) -> list[Task]:
        waiting = self._turns(session, now)
        in_hand.share_with(waiting)
        if waiting:
            whole = len(waiting) < min(MOST_PROJECTS, places)
            self._after = waiting[0] if whole else waiting[:places][-1]
        taken: list[Task] = []
        while waiting and len(taken) < places:
            shares = self._shares(waiting, places - len(taken))
            allowed = {each: min(share, in_hand.room_of(each)) for each, share in shares.items()}
            allowed = {each: share for each, share in allowed.items() if share > 0}
            found = self._candidates.of(session, allowed, now, in_hand.full) if allowed else []
            taken += self._take(session, [row for row in found if in_hand.admits(row)], now)
            # Who has less than its share has no more. At a limit there may be more behind it.
            counts = Counter(row.project_id for row in found)
            more = [each for each, share in allowed.items() if counts[each] == share]
            waiting = waiting[len(shares) :] + more
        return taken

    def _turns(self, session: Session, now: datetime) -> list[int]:
        """Whose turn it is: each claim begins further on than the one before."""
        projects = self._candidates.projects(session, self._after, now, MOST_PROJECTS)
        if len(projects) < MOST_PROJECTS and self._after >= 0:
            others = self._candidates.projects(session, -1, now, MOST_PROJECTS - len(projects))
            projects += [each for each in others if each <= self._after]
        return projects

    def _shares(self, waiting: Sequence[int], places: int) -> dict[int, int]:
        """How many of the places each project gets, in this order until there are none left."""
        weights = {each: max(1, self._sharing.weight_of(each)) for each in waiting}
        shares: dict[int, int] = {}
        left, weight = places, sum(weights.values())
        for project in waiting[:places]:
            shares[project] = share = min(left, max(1, left * weights[project] // weight))
            left, weight = left - share, weight - weights[project]
            if not left:
                break
        return shares

    def _in_hand(self, session: Session, now: datetime, mine: Mapping[int, int]) -> _InHand:
        in_hand = _InHand(self._sharing.places, mine)
        if self._sharing.keyed:
            for row in self._candidates.in_hand(session, now):
                in_hand.count_key(row.project_id, row.limit_key, row.key_limit)
        return in_hand

    def _take(self, session: Session, rows: Sequence[Row[Any]], now: datetime) -> list[Task]:
        if not rows:
            return []
        lease, until = str(uuid4()), now + self._lease
        tasks = [_task(row, lease, until) for row in rows]
        _LEASE_TASK.run(session, map(_leased, tasks))
        return tasks


class _InHand:
    """What is in hand of a queue, as far as it is capped: of a project by this worker, of a key by
    all of them."""

    def __init__(self, places: int | None, mine: Mapping[int, int]) -> None:
        self._places = places
        self._share = places or 0
        self._projects = Counter(mine)
        self._keys: Counter[tuple[int, str]] = Counter()
        self.full: set[tuple[int, str]] = set()
        """The keys, each of a project, of which no more may be claimed."""

    def count_key(self, project_id: int, key: str | None, limit: int | None) -> None:
        if key is not None and limit is not None:
            self._keys[project_id, key] += 1
            if self._keys[project_id, key] >= limit:
                self.full.add((project_id, key))

    def share_with(self, waiting: Iterable[int]) -> None:
        """These projects want places, as those do that have some."""
        if self._places is not None:
            self._share = self._places // (len({*waiting, *+self._projects}) + 1)

    def room_of(self, project_id: int) -> int:
        """How many more of a project may be claimed; of one that has none, one at least."""
        if self._places is None:
            return sys.maxsize
        own = self._projects[project_id]
        left = self._places - self._projects.total() + own
        return max(1, min(left // 2, self._share)) - own

    def admits(self, row: Row[Any]) -> bool:
        """Whether this one may be claimed; then it is counted."""
        key = row.project_id, row.limit_key
        if key in self.full or self.room_of(row.project_id) <= 0:
            return False
        if row.key_limit is not None and self._keys[key] >= row.key_limit:
            self.full.add(key)
            return False
        self._projects[row.project_id] += 1
        self.count_key(row.project_id, row.limit_key, row.key_limit)
        return True


def _task(row: Row[Any], lease: str, until: datetime) -> Task:
    """An attempt that a worker died in is not counted again: what came of it is not known."""
    lost = row.state is TaskState.LEASED
    return Task(
        project_id=row.project_id,
        queue=row.queue,
        lane=row.lane,
        sequence=row.sequence,
        kind=row.kind,
        payload=row.payload,
        attempts=row.attempts + (not lost),
        losses=row.losses + lost,
        lease=lease,
        due_at=until,
        created_at=row.created_at,
        limit_key=row.limit_key,
        limit=row.key_limit,
        causation_id=row.causation_id,
        trace_context=row.trace_context,
    )


def _leased(task: Task) -> tuple[Any, ...]:
    changed = TaskState.LEASED, task.lease, task.due_at, task.attempts, task.losses
    return *changed, *task.key
