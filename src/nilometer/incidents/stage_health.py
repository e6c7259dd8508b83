"""How the stages of the chain keep up, over every tenant: for the operator of the deployment."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from sqlalchemy import Table, case, func, select
from sqlalchemy.orm import Session

from nilometer.access.tables import Project
from nilometer.access.types import CaptureMode
from nilometer.incidents.events import REGISTRY
from nilometer.workflows import outbox
from nilometer.workflows.tables import TaskRow
from nilometer.workflows.task import TaskState

LATE_SECONDS: Final = 60
"""A stage is behind whose oldest task was due longer ago."""

_T: Final = cast("Table", TaskRow.__table__).c
_SUSPENDED: Final = select(Project.id).where(Project.capture_mode != CaptureMode.ACCEPT)


@dataclass(frozen=True, slots=True)
class StageHealth:
    """What one stage has before it. `due` may be claimed now (or wait for their turn in a lane),
    `delayed` wait for their time, or for the end of a suspension, `leased` are in workers' hands,
    `lost` were in the hands of one that is heard of no more, `dead` are dead letters.
    `oldest_due_at` is of the due and the lost.
    """

    due: int = 0
    delayed: int = 0
    leased: int = 0
    lost: int = 0
    dead: int = 0
    oldest_due_at: datetime | None = None

    def seconds_behind(self, now: datetime) -> float:
        """Since when the oldest task could have been done."""
        if self.oldest_due_at is None:
            return 0
        return max(0, (now - self.oldest_due_at).total_seconds())


@dataclass(frozen=True, slots=True)
class ChainHealth:
    """Every stage by its queue, and what the log was not told yet: how much, and since when."""

    stages: dict[str, StageHealth]
    untold: int
    untold_since: datetime | None

    def keeps_up(self, now: datetime) -> bool:
        """Whether nothing waits for longer than it should."""
        untold = (now - self.untold_since).total_seconds() if self.untold_since else 0
        behind = (stage.seconds_behind(now) for stage in self.stages.values())
        return max([untold, *behind]) < LATE_SECONDS


def chain_health(session: Session, now: datetime) -> ChainHealth:
    """How the chain stands; the session must see every row. Stages without a task are there."""
    over = (_T.due_at <= now) & _T.project_id.not_in(_SUSPENDED)
    standing = case(
        (_T.state == TaskState.DEAD, "dead"),
        ((_T.state == TaskState.LEASED) & over, "lost"),
        (_T.state == TaskState.LEASED, "leased"),
        (over, "due"),
        else_="delayed",
    )
    query = (
        select(_T.queue, standing, func.count(), func.min(_T.due_at))
        .where(_T.state != TaskState.DISCARDED)
        .group_by(_T.queue, standing)
    )
    found: dict[str, dict[str, tuple[int, datetime | None]]] = defaultdict(dict)
    for queue, name, count, oldest in session.execute(query):
        found[queue][name] = count, oldest
    names = {queue for kind in REGISTRY.values() for queue in kind.consumers}
    stages = {name: _stage(found[name]) for name in sorted(names | set(found))}
    return ChainHealth(stages, *outbox.waiting(session))


def _stage(counts: dict[str, tuple[int, datetime | None]]) -> StageHealth:
    late = [at for name in ("due", "lost") if (at := counts.get(name, (0, None))[1])]
    return StageHealth(
        **{name: count for name, (count, _) in counts.items()},
        oldest_due_at=min(late, default=None),
    )
