"""The chain, put together: every stage, how often each task is tried, and the clock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.incidents.accept import KEYS_AT_ONCE, forget_keys
from nilometer.incidents.stages import expiry, sla
from nilometer.incidents.stages.context import Packs
from nilometer.incidents.stages.feedback import Feedback
from nilometer.incidents.stages.intake import Intake
from nilometer.incidents.stages.playbook import Playbook
from nilometer.incidents.stages.policy import Policy
from nilometer.incidents.stages.stage import ChainStage
from nilometer.incidents.stages.tool import Tool
from nilometer.incidents.stages.triage import Triage
from nilometer.incidents.tools.executions import Executions
from nilometer.incidents.tools.executor import Executor
from nilometer.workflows import dead_letters
from nilometer.workflows.loop import Loop
from nilometer.workflows.retries import RetryPolicies, RetryPolicy

_FEEDBACK = RetryPolicy(max_attempts=2, initial=0.5, cap=60)
# How often a tool is tried, and when, the playbook's step says: see `tool`.
_AS_THE_STAGE_SAYS = RetryPolicy(max_attempts=1_000_000, initial=0, cap=0)

RETRIES: Final = RetryPolicies(
    {
        "ExceptionIngested": RetryPolicy(max_attempts=5, initial=2, cap=600),
        "ReprocessRequested": RetryPolicy(max_attempts=5, initial=2, cap=600),
        "ToolExecutionRequested": _AS_THE_STAGE_SAYS,
        **dict.fromkeys(sorted(Feedback.kinds), _FEEDBACK),
    }
)
"""By the type of event that asks for a task (seed 003); others are tried three times."""

_AT_ONCE: Final = 200
_LOOK_SECONDS: Final = 1.0
_TIDY: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Chain:
    """The stages: those that work in the database alone, in their order, and the one that acts."""

    stages: tuple[ChainStage, ...]
    tool: Tool


def build(
    packs: Packs, executions: Executions, executor: Executor, *, joined: bool = True
) -> Chain:
    """The chain. `joined`: what a batch leads to in the stages after is done in its transaction, be
    it a batch of tools whose playbooks go on."""
    stages = (Intake(packs), Triage(packs), Policy(packs), Playbook(packs), Feedback(packs))
    tool = Tool(packs, executions, executor)
    if joined:
        tool.follow = {each.queue: each for each in stages}
        for place, stage in enumerate(stages):
            stage.follow = {each.queue: each for each in stages[place + 1 :]}
    return Chain(stages, tool)


_Due = Callable[[Session, datetime], bool]
_Sweep = Callable[[Session, datetime, int], int]
_SWEEPS: Final[tuple[tuple[_Due, _Sweep], ...]] = (
    (sla.due, sla.sweep),
    (expiry.due, expiry.sweep),
)


class Clock:
    """Looks every second for what time has brought about, in a thread of its own. Of all processes
    one does; `wake` is told the queues that were added to."""

    def __init__(
        self,
        database: Database,
        *,
        wake: Callable[[], None],
        alone: Callable[[], AbstractContextManager[bool]],
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database = database
        self._wake = wake
        self._alone = alone
        self._now = now
        self._tidied_at: datetime | None = None
        self._loop = Loop("incident-clock", self.look, _LOOK_SECONDS)

    def start(self) -> None:
        """Begin."""
        self._loop.start()

    def stop(self) -> None:
        """End after the look under way."""
        self._loop.stop()

    def look(self) -> bool:
        """Do what is due; whether there may be more. Raises DatabaseUnavailable."""
        with self._alone() as mine:
            if not mine:
                return False
            now = self._now()
            told = [self._swept(due, sweep, now) for due, sweep in _SWEEPS]
            if any(told):
                self._wake()
            self._tidy(now)
        return max(told) >= _AT_ONCE

    def _swept(self, due: _Due, sweep: _Sweep, now: datetime) -> int:
        with self._database.read(EVERY_ROW) as session:
            if not due(session, now):
                return 0
        with self._database.concurrent(EVERY_ROW) as session:
            return sweep(session, now, _AT_ONCE)

    def _tidy(self, now: datetime) -> None:
        """Delete what is kept for a time only. Where that fails it is tried again in an hour: it
        is in no haste, and may be what keeps the database from everybody else."""
        if self._tidied_at is not None and now - self._tidied_at < _TIDY:
            return
        self._tidied_at = now
        with self._database.session(EVERY_ROW) as session:
            more = forget_keys(session, now) >= KEYS_AT_ONCE
            dead_letters.prune(session, now)
        if more:  # others write meanwhile; the next look goes on
            self._tidied_at = None
