"""A stage of the chain that works in the database alone, batch by batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from sqlalchemy.orm import Session

from nilometer.incidents import effort
from nilometer.incidents.history import History, Key
from nilometer.incidents.incident import Incident
from nilometer.incidents.stages.context import Context, Packs, Work, live
from nilometer.incidents.stages.failures import RecordsFailures
from nilometer.observability import tracing
from nilometer.observability.tracing import Kind
from nilometer.workflows.task import NewTask, Task


class ChainStage(RecordsFailures):
    """What the stages have in common. A task whose incident is gone, or went another way, or whose
    project is being deleted, is done without an effect.

    `follow` are the stages that come after this one. When several tasks come together, what they
    lead to there is done at once, in the same transaction: the history is the same, and the
    database is asked once instead of once a stage. A task that comes alone is not followed, so that
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
        history = History(session, now)
        context = Context(history, self.packs, several=len(tasks) > 1)
        projects = live(session, {task.project_id for task in tasks})
        incidents = history.load((task.project_id, task.lane) for task in tasks)
        with context.spans:
            for task in sorted(tasks, key=_place):
                incident = incidents.get((task.project_id, task.lane))
                if incident is not None and task.project_id in projects:
                    self._do(context, _work(task, incident))
            if len(tasks) > 1:
                self._go_on(context, incidents)
            history.flush()

    @abstractmethod
    def do(self, context: Context, work: Work) -> None:
        """What is to be done about one incident: changes of the context's history."""

    def _go_on(self, context: Context, incidents: Mapping[Key, Incident]) -> None:
        """Do what the following stages have to, now. A later stage's tasks come from this."""
        history = context.history
        for queue, stage in self.follow.items():
            mine = [task for task in history.tasks if task.queue == queue]
            if mine:
                history.tasks = [task for task in history.tasks if task.queue != queue]
                for task in mine:
                    incident = incidents[task.project_id, task.lane]
                    stage._do(context, _work(task, incident))  # noqa: SLF001  (a stage's own)

    def _do(self, context: Context, work: Work) -> None:
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


def _place(task: Task) -> tuple[int, str]:
    return task.project_id, task.lane


def _work(task: Task | NewTask, incident: Incident) -> Work:
    return Work(incident, task.kind, task.payload, task.causation_id, task.trace_context)
