"""A stage of the chain that works in the database alone, batch by batch."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import ClassVar, TypeVar

from sqlalchemy import exc
from sqlalchemy.orm import Session

from nilometer.errors import Unavailable
from nilometer.incidents import effort
from nilometer.incidents.history import History, Key
from nilometer.incidents.incident import Incident
from nilometer.incidents.stages.context import Context, Packs, Work, live
from nilometer.incidents.stages.failures import RecordsFailures
from nilometer.observability import tracing
from nilometer.observability.tracing import Kind, Spans
from nilometer.workflows.located import located
from nilometer.workflows.task import NewTask, Task

T = TypeVar("T")

_log = logging.getLogger(__name__)


class ChainStage(RecordsFailures):
    """What the stages have in common. A task whose incident is gone, or went another way, or whose
    project is being deleted, is done without an effect.

    `follow` are the stages that come after this one. What tasks lead to there is done at once, in
    the same transaction: the history is the same, and the database is asked once instead of once a
    stage. Should that fail for a task that comes alone, it is done again and not followed, so that
    a failure is that of the stage it happened in.
    """

    queue: ClassVar[str]
    kinds: ClassVar[frozenset[str]]
    """The types of events that it works on."""

    def __init__(self, packs: Packs) -> None:
        self.packs = packs
        self.follow: Mapping[str, ChainStage] = {}

    def work(self, session: Session, tasks: Sequence[Task], now: datetime) -> None:
        """See `workflows.stage.Stage`."""
        if len(tasks) > 1 or not self.follow:
            self._work(session, tasks, now, self.follow)
            return
        whole_or_part(
            session,
            lambda: self._work(session, tasks, now, self.follow),
            lambda: self._work(session, tasks, now, {}),
        )

    def _work(
        self,
        session: Session,
        tasks: Sequence[Task],
        now: datetime,
        follow: Mapping[str, ChainStage],
    ) -> None:
        history = History(session, now)
        context = context_of(history, self.packs, len(tasks), follow)
        projects = live(session, {task.project_id for task in tasks})
        incidents = history.load((task.project_id, task.lane) for task in tasks)
        with context.spans:
            for task in sorted(tasks, key=_place):
                incident = incidents.get((task.project_id, task.lane))
                if incident is not None and task.project_id in projects:
                    self.carry_out(context, _work_of(task, incident))
            go_on(context, follow, incidents)
            history.flush()

    @abstractmethod
    def do(self, context: Context, work: Work) -> None:
        """What is to be done about one incident: changes of the context's history."""

    def carry_out(self, context: Context, work: Work) -> None:
        """`do`, within a span: what it leads to belongs to that one."""
        if tracing.on():
            incident = work.incident
            told = {
                "nilometer.project.id": incident.project_id,
                "nilometer.exception.id": incident.id,
                "nilometer.event.type": work.kind,
            }
            span = tracing.started(f"process {self.queue}", work.trace_context, Kind.CONSUMER, told)
            context.spans.add(span)
            incident.traceparent = span.traceparent
        with effort.sharing() as allowance:
            self.do(context, work)
        context.spend(allowance.spent + allowance.made)


def whole_or_part(session: Session, whole: Callable[[], T], part: Callable[[], T]) -> T:
    """Do the whole; where that fails, nothing of it was done, and the part is. Raises what that
    raises; where it is the database that fails, at once."""
    try:
        with session.begin_nested():
            return whole()
    except Exception as error:
        if _ends_everything(error):
            raise
        _log.info("a task is done stage by stage: %s", located(error))
    return part()


def _ends_everything(error: Exception) -> bool:
    """Whether the transaction cannot go on: not where only what was written is at fault."""
    if isinstance(error, exc.DataError | exc.IntegrityError):
        return False
    return isinstance(error, exc.DBAPIError | Unavailable)


def context_of(
    history: History, packs: Packs, tasks: int, follow: Mapping[str, ChainStage]
) -> Context:
    """That of so many tasks and of the stages that follow. Of one alone what fails is done again,
    in parts."""
    if tasks > 1:
        return Context(history, packs, most=effort.MAX_WORK_OF_BATCH)
    return Context(history, packs, spans=Spans(tentative=bool(follow)))


def go_on(
    context: Context, follow: Mapping[str, ChainStage], incidents: Mapping[Key, Incident]
) -> None:
    """Do what these stages, in this order, have to do about these incidents because of what was
    changed so far, now. A later stage's tasks come from an earlier one. What takes long goes on in
    a transaction of its own."""
    history = context.history
    for queue, stage in follow.items():
        if len(incidents) == 1 and context.spent > effort.MAX_WORK:
            return
        mine: list[NewTask] = []
        others: list[NewTask] = []
        for task in history.tasks:
            known = task.queue == queue and (task.project_id, task.lane) in incidents
            (mine if known else others).append(task)
        history.tasks = others
        for task in mine:
            stage.carry_out(context, _work_of(task, incidents[task.project_id, task.lane]))


def _place(task: Task) -> tuple[int, str]:
    return task.project_id, task.lane


def _work_of(task: Task | NewTask, incident: Incident) -> Work:
    return Work(incident, task.kind, task.payload, task.causation_id, task.trace_context)
