"""Tools: begun in one transaction, used outside of any, recorded in another.

An execution has one id over all its attempts, which is the idempotency key that a receiver gets.
What became of an attempt that nobody heard of again is found out, and never simply tried again. A
failure for good, or for the last time, is for the playbook where it says what to do then; where it
does not, the task is given up and waits for a person as a dead letter.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from sqlalchemy.orm import Session

from nilometer.domain import clock
from nilometer.incidents.events import RetryScheduled, ToolExecutionCompleted, moment
from nilometer.incidents.history import History, Key, Limit
from nilometer.incidents.incident import Incident, Status, system
from nilometer.incidents.packs.pack import Retries
from nilometer.incidents.playbooks.machine import (
    PlaybookFailed,
    StepResult,
    StepStatus,
    next_step,
)
from nilometer.incidents.stages.context import Context, Packs, facts_of, live, results_of
from nilometer.incidents.stages.failures import RecordsFailures
from nilometer.incidents.tools.call import (
    Beginning,
    Begun,
    Deferred,
    Failed,
    Interrupted,
    Outcome,
    Over,
    Performed,
    Succeeded,
    ToolCall,
    Unknown,
)
from nilometer.incidents.tools.executions import Executions
from nilometer.incidents.tools.executor import Executor
from nilometer.observability import metrics
from nilometer.workflows import stage
from nilometer.workflows.retries import JITTER
from nilometer.workflows.task import ErrorClass, Failure, Task

MAX_RECONCILIATIONS: Final = 20
"""How often it is asked what became of an attempt before a person has to find out."""

_RECONCILE_LONGEST = 300.0
_ACTOR = system("tool")


@dataclass(frozen=True, slots=True)
class Started:
    """A call that was begun; one that is `over` needs nothing to be done."""

    beginning: Begun | Interrupted | Over
    received_at: datetime

    @property
    def call(self) -> ToolCall:
        """The call."""
        return self.beginning.call


Done = stage.Performed[Started, Performed]


class Tool(RecordsFailures):
    """See the module."""

    queue: ClassVar[str] = "tool"
    kinds: ClassVar[frozenset[str]] = frozenset({"ToolExecutionRequested"})

    def __init__(self, packs: Packs, executions: Executions, executor: Executor) -> None:
        self._packs = packs
        self._executions = executions
        self._executor = executor

    def begin(self, session: Session, tasks: Sequence[Task], now: datetime) -> list[Started | None]:
        """See `workflows.stage.Effect`."""
        history = History(session, now)
        projects = live(session, {task.project_id for task in tasks})
        incidents = history.load((task.project_id, task.lane) for task in tasks)
        calls = {
            task.key: _call(task, incidents[task.project_id, task.lane])
            for task in tasks
            if task.project_id in projects and _wanted(task, incidents)
        }
        begun = self._executions.begin(session, list(calls.values()), now)
        by_key = dict(zip(calls, begun, strict=True))
        started = [_started(history, incidents, task, by_key.get(task.key)) for task in tasks]
        history.flush()
        return started

    def perform(self, begun: Started) -> Performed:
        """See `workflows.stage.Effect`."""
        beginning = begun.beginning
        if isinstance(beginning, Over):
            return beginning.outcome
        if isinstance(beginning, Interrupted):
            return self._executor.reconcile(beginning.call)
        if beginning.call.attempt == 1:
            seconds = (clock.now() - begun.received_at).total_seconds()
            metrics.INCIDENT_TOOL_SECONDS.observe(max(0, seconds))
        return self._executor.execute(beginning.call)

    def record(
        self, session: Session, performed: Sequence[Done], now: datetime
    ) -> list[Failure | None]:
        """See `workflows.stage.Effect`."""
        history = History(session, now)
        context = Context(history, self._packs)
        incidents = history.load((each.task.project_id, each.task.lane) for each in performed)
        asked = [(each.begun.call, each.outcome) for each in performed]
        outcomes = self._executions.record(session, asked, now)
        failures = [
            _recorded(context, each, incidents[each.task.project_id, each.task.lane], outcome)
            for each, outcome in zip(performed, outcomes, strict=True)
        ]
        history.flush()
        return failures


def _wanted(task: Task, incidents: Mapping[Key, Incident]) -> bool:
    """Whether the incident still waits for this execution."""
    incident = incidents.get((task.project_id, task.lane))
    if incident is None or incident.status is not Status.IN_PROGRESS:
        return False
    step = incident.steps.get(task.payload["step"])
    return step is not None and step.get("execution_id") == task.payload["executionId"]


def _call(task: Task, incident: Incident) -> ToolCall:
    facts = task.payload
    return ToolCall(
        project_id=task.project_id,
        incident_id=incident.id,
        execution_id=facts["executionId"],
        tool=facts["tool"],
        input=facts["input"],
        dry_run=facts["dryRun"],
        traceparent=incident.traceparent,
    )


def _started(
    history: History, incidents: Mapping[Key, Incident], task: Task, beginning: Beginning | None
) -> Started | None:
    if beginning is None:
        return None
    if isinstance(beginning, Deferred):
        _put_off(history, incidents[task.project_id, task.lane], task, beginning)
        return None
    return Started(beginning, incidents[task.project_id, task.lane].received_at)


def _put_off(history: History, incident: Incident, task: Task, deferred: Deferred) -> None:
    """Have the same asked for later, as a task of its own: this one was no attempt."""
    due_at = history.now + timedelta(seconds=deferred.retry_after)
    told = RetryScheduled("tool", task.attempts - 1, moment(due_at), deferred.code, deferred.detail)
    cause = history.change(incident, told, actor=_ACTOR, causation_id=task.causation_id)
    limit = task.limit_key and task.limit and Limit(task.limit_key, task.limit)
    history.ask(incident, "tool", task.kind, task.payload, cause, limit or None, due_at)


def _recorded(context: Context, done: Done, incident: Incident, outcome: Outcome) -> Failure | None:
    task, call = done.task, done.begun.call
    if isinstance(outcome, Unknown):
        return _unknown(task, outcome)
    if isinstance(outcome, Failed):
        failure = _failure(context, task, call, incident, outcome)
        if failure is not None:
            return failure
    _complete(context, task, call, incident, outcome)
    return None


def _unknown(task: Task, outcome: Unknown) -> Failure:
    """Ask again what became of it, or have a person say so."""
    if not outcome.reconcilable or task.attempts >= MAX_RECONCILIATIONS:
        return Failure(outcome.code, outcome.detail, ErrorClass.PERMANENT)
    wait = min(_RECONCILE_LONGEST, 2.0 ** min(task.attempts - 1, 10))
    return Failure(outcome.code, outcome.detail, ErrorClass.UNKNOWN, retry_after=_jittered(wait))


def _failure(
    context: Context, task: Task, call: ToolCall, incident: Incident, outcome: Failed
) -> Failure | None:
    """The failure after which the task is tried again, or given up; None where the playbook knows
    what to do about it."""
    retries = Retries.model_validate(task.payload["retries"])
    step = incident.steps[task.payload["step"]]
    tried = call.attempt - step.get("given_up_after", 0)
    if outcome.is_transient and tried < retries.attempts and not _too_late(task, step, context.now):
        wait = min(retries.longest_seconds, retries.initial_seconds * 2.0 ** min(tried - 1, 30))
        wait = max(_jittered(wait), outcome.retry_after or 0)
        return Failure(outcome.code, outcome.detail, ErrorClass.TRANSIENT, retry_after=wait)
    if _playbook_goes_on(context, task, incident, outcome):
        return None
    # Replayed, it has all its attempts before it again.
    given_up = {**step, "given_up_after": call.attempt}
    context.history.change(
        incident, actor=_ACTOR, steps={**incident.steps, task.payload["step"]: given_up}
    )
    return Failure(outcome.code, outcome.detail, ErrorClass.PERMANENT)


def _too_late(task: Task, step: Mapping[str, Any], now: datetime) -> bool:
    seconds = task.payload.get("timeoutSeconds")
    if seconds is None:
        return False
    return now >= datetime.fromisoformat(step["started_at"]) + timedelta(seconds=seconds)


def _playbook_goes_on(context: Context, task: Task, incident: Incident, outcome: Failed) -> bool:
    """Whether the playbook has something to do after this failure."""
    playbook = incident.playbook and context.judged_by(incident).pack.playbook(incident.playbook)
    if not playbook:
        return False
    step = task.payload["step"]
    failed = StepResult(step, StepStatus.FAILED, {}, outcome.code, outcome.detail)
    following = next_step(
        playbook, facts_of(incident, context.now), [*results_of(incident), failed]
    )
    recovers = any(each.name == step for each in playbook.recovery)
    return recovers or not isinstance(following, PlaybookFailed)


def _complete(
    context: Context, task: Task, call: ToolCall, incident: Incident, outcome: Succeeded | Failed
) -> None:
    name = task.payload["step"]
    succeeded = isinstance(outcome, Succeeded)
    status = StepStatus.SUCCEEDED if succeeded else StepStatus.FAILED
    code, detail = (None, None) if succeeded else (outcome.code, outcome.detail)
    ended = {
        **incident.steps.get(name, {}),
        "status": status.value,
        "output": outcome.output if succeeded else {},
        "attempts": call.attempt,
        "finished_at": moment(context.now),
        **({} if succeeded else {"code": code, "detail": detail}),
    }
    context.history.change(
        incident,
        ToolExecutionCompleted(
            execution_id=call.execution_id,
            step=name,
            tool=call.tool,
            outcome=status.value,
            attempts=call.attempt,
            code=code,
            detail=detail,
        ),
        actor=_ACTOR,
        causation_id=task.causation_id,
        steps={**incident.steps, name: ended},
    )


def _jittered(seconds: float) -> float:
    return seconds * (1 + JITTER * random.random())  # noqa: S311
