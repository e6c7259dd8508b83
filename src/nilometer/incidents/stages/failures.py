"""What an incident's history says when one of its tasks failed: tried again, or given up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from sqlalchemy.orm import Session

from nilometer.incidents.events import DeadLettered, RetryScheduled, moment
from nilometer.incidents.history import History, lock
from nilometer.incidents.incident import Incident, Status, system
from nilometer.incidents.lifecycle import AT_REST
from nilometer.workflows.task import Failure, Task

_BEFORE: Final = {
    "intake": Status.RECEIVED,
    "triage": Status.OPEN,
    "policy": Status.TRIAGED,
    "tool": Status.IN_PROGRESS,
}
"""By queue, where an incident is whose task waits there."""


class RecordsFailures:
    """The part of a stage that `workflows.stage.Failures` asks for. A stage has a `queue`."""

    queue: ClassVar[str]

    def lock(self, session: Session, tasks: Sequence[Task]) -> None:
        """The incidents of these tasks: a person's decision locks its incident, and then drops the
        tasks of it."""
        lock(session, ((task.project_id, task.lane) for task in tasks))

    def retried(
        self, session: Session, task: Task, failure: Failure, due_at: datetime, now: datetime
    ) -> None:
        """It failed and is tried again then."""
        told = RetryScheduled(
            self.queue, task.attempts, moment(due_at), failure.code, failure.detail
        )
        history = History(session, now)
        for incident in history.load([(task.project_id, task.lane)]).values():
            incident.traceparent = task.trace_context or incident.traceparent
            history.change(
                incident,
                told,
                actor=system(self.queue),
                causation_id=task.causation_id,
                failures=incident.failures + 1,
            )
        history.flush()

    def died(self, session: Session, task: Task, failure: Failure, now: datetime) -> None:
        """It is given up. The incident has failed, unless it had come to its end before."""
        told = DeadLettered(
            stage=self.queue,
            task_id=task.id,
            attempts=task.attempts,
            code=failure.code,
            detail=failure.detail,
            error_class=failure.error_class.value,
        )
        history = History(session, now)
        for incident in history.load([(task.project_id, task.lane)]).values():
            incident.traceparent = task.trace_context or incident.traceparent
            fails = incident.status not in AT_REST
            history.change(
                incident,
                told,
                actor=system(self.queue),
                causation_id=task.causation_id,
                to=Status.FAILED if fails else None,
                failures=incident.failures + 1,
                reason=f"{self.queue}: {failure.detail}" if fails else incident.reason,
                **(self.given_up(incident, task, failure, now) if fails else {}),
            )
        history.flush()

    def given_up(
        self,
        incident: Incident,  # noqa: ARG002
        task: Task,  # noqa: ARG002
        failure: Failure,  # noqa: ARG002
        now: datetime,  # noqa: ARG002
    ) -> dict[str, Any]:
        """What else of its incident changes: columns by name."""
        return {}


def status_before(queue: str, incident: Incident) -> Status | None:
    """Where an incident was before its task of this queue was given up; None for where it is."""
    if incident.status is not Status.FAILED:
        return None
    return _BEFORE.get(queue, Status.IN_PROGRESS if incident.playbook else Status.TRIAGED)
