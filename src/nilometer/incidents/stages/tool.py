"""Tools: begun in one transaction, used outside of any, recorded in another.

An execution has one id over all its attempts, which is the idempotency key that a receiver gets.
What became of an attempt that nobody heard of again is found out, and never simply tried again. A
failure for good, or for the last time, is for the playbook where it says what to do then; where it
does not, the task is given up and waits for a person as a dead letter. So is what nobody can find
out, unless the step says that the playbook goes on whatever comes of it.

What a breaker puts off waits in its place, for as long as the step may take; the history says so
once each time that the breaker opens. After the step's time no attempt begins.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from sqlalchemy.orm import Session

from nilometer.access.types import CaptureMode
from nilometer.domain import clock
from nilometer.incidents.events import RetryScheduled, ToolExecutionCompleted, moment
from nilometer.incidents.history import History, Key
from nilometer.incidents.incident import Incident, Status, system
from nilometer.incidents.packs.pack import Playbook, Retries
from nilometer.incidents.playbooks.machine import (
    PlaybookFailed,
    StepResult,
    StepStatus,
    next_step,
)
from nilometer.incidents.stages.context import (
    Context,
    Packs,
    PackUnreadable,
    facts_of,
    live,
    results_of,
)
from nilometer.incidents.stages.failures import RecordsFailures
from nilometer.incidents.stages.stage import ChainStage, context_of, go_on, whole_or_part
from nilometer.incidents.tools.call import (
    Beginning,
    Begun,
    Deferred,
    Failed,
    Interrupted,
    Outcome,
    Over,
    Pending,
    Performed,
    Succeeded,
    ToolCall,
    Unknown,
    code_of,
)
from nilometer.incidents.tools.call import ErrorClass as ToolErrorClass
from nilometer.incidents.tools.executions import Executions
from nilometer.incidents.tools.executor import Executor
from nilometer.observability import metrics, tracing
from nilometer.observability.tracing import Span
from nilometer.workflows import stage
from nilometer.workflows.retries import JITTER
from nilometer.workflows.stage import Postponed
from nilometer.workflows.task import ErrorClass, Failure, Task

MAX_RECONCILIATIONS: Final = 20
"""How often it is asked what became of an attempt before a person has to find out."""

LONGEST_WAIT: Final = timedelta(days=1)
"""How long a step waits for a breaker that does not close, where it has no time of its own."""

GIVEN_UP: Final = "given_up"
"""The status of a step whose task is a dead letter."""

_RECONCILE_LONGEST = 300.0
_SHORTEST_WAIT = timedelta(seconds=1)
_NO_TIME_LEFT = "The next attempt would come after the step's time."
_ACTOR = system("tool")


@dataclass(frozen=True, slots=True)
class Started:
    """A call that was begun; one that is `over` needs nothing to be done."""

    beginning: Begun | Interrupted | Over
    received_at: datetime
    span: Span

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
        self.follow: Mapping[str, ChainStage] = {}

    def begin(
        self, session: Session, tasks: Sequence[Task], now: datetime
    ) -> list[Started | Postponed | None]:
        """See `workflows.stage.Effect`."""
        history = History(session, now)
        projects = live(session, {task.project_id for task in tasks})
        incidents = history.load((task.project_id, task.lane) for task in tasks)
        spans: dict[tuple[int, str, int], Span] = {}
        calls: dict[tuple[int, str, int], ToolCall] = {}
        for task in tasks:
            mode = projects.get(task.project_id)
            if mode is CaptureMode.ACCEPT and _wanted(task, incidents):
                incident = incidents[task.project_id, task.lane]
                incident.traceparent = task.trace_context or incident.traceparent
                _begin_again(history, incident, task)
                # One that is not begun after all never ends, and so is never told of.
                spans[task.key] = _span(task, incident)
                calls[task.key] = _call(task, incident, spans[task.key].traceparent)
        found = self._executions.begin(session, list(calls.values()), now)
        begun = dict(zip(calls, found, strict=True))
        started = [
            _started(history, incidents, task, begun[task.key], spans[task.key])
            if task.key in begun
            else _suspended(projects.get(task.project_id), now)
            for task in tasks
        ]
        history.flush()
        return started

    def perform(self, begun: Started) -> Performed:
        """See `workflows.stage.Effect`."""
        try:
            performed = self._performed(begun)
        except BaseException as error:
            begun.span.end(tracing.code_of(error))
            raise
        if not isinstance(performed, Pending):
            begun.span.end(code_of(performed))
        return performed

    def _performed(self, begun: Started) -> Performed:
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
        """See `workflows.stage.Effect`. What the playbooks do next is done at once, as the other
        stages do it."""
        if len(performed) > 1 or not self.follow:
            return self._record(session, performed, now, self.follow)
        return whole_or_part(
            session,
            lambda: self._record(session, performed, now, self.follow),
            lambda: self._record(session, performed, now, {}),
        )

    def _record(
        self,
        session: Session,
        performed: Sequence[Done],
        now: datetime,
        follow: Mapping[str, ChainStage],
    ) -> list[Failure | None]:
        history = History(session, now)
        context = context_of(history, self._packs, len(performed), follow)
        incidents = history.load((each.task.project_id, each.task.lane) for each in performed)
        asked = [(each.begun.call, each.outcome) for each in performed]
        outcomes = self._executions.record(session, asked, now)
        failures = [
            _recorded(context, each, incidents[each.task.project_id, each.task.lane], outcome)
            for each, outcome in zip(performed, outcomes, strict=True)
        ]
        with context.spans:
            if follow and history.tasks:
                projects = live(session, {project_id for project_id, _ in incidents})
                going = {
                    key: each
                    for key, each in incidents.items()
                    if projects.get(key[0]) is CaptureMode.ACCEPT
                }
                go_on(context, follow, going)
            history.flush()
        return failures

    def given_up(
        self, incident: Incident, task: Task, failure: Failure, now: datetime
    ) -> dict[str, Any]:
        """The step is not running any more."""
        if not _is_at(incident, task):
            return {}
        told = {"code": failure.code, "detail": failure.detail, "finished_at": moment(now)}
        return {"steps": _with_step(incident, task, status=GIVEN_UP, **told)}


def _wanted(task: Task, incidents: Mapping[Key, Incident]) -> bool:
    """Whether the incident still waits for this execution."""
    incident = incidents.get((task.project_id, task.lane))
    if incident is None or incident.status is not Status.IN_PROGRESS:
        return False
    return _is_at(incident, task)


def _suspended(mode: CaptureMode | None, now: datetime) -> Postponed | None:
    """What was claimed just before its project was suspended waits; nobody claims it until that
    ends."""
    if mode in (None, CaptureMode.ACCEPT):
        return None
    return Postponed(
        now, Failure("project_paused", "Its project is suspended.", ErrorClass.TRANSIENT)
    )


def _is_at(incident: Incident, task: Task) -> bool:
    """Whether the task's execution is that of its step."""
    step = incident.steps.get(task.payload["step"])
    return step is not None and step.get("execution_id") == task.payload["executionId"]


def _with_step(incident: Incident, task: Task, **changes: Any) -> dict[str, Any]:
    """The incident's steps, with changes of the task's own."""
    name = task.payload["step"]
    return {**incident.steps, name: {**incident.steps[name], **changes}}


def _begin_again(history: History, incident: Incident, task: Task) -> None:
    """Replayed, a step runs again, and has all its time before it."""
    step = incident.steps[task.payload["step"]]
    if step["status"] != GIVEN_UP:
        return
    left = {name: step[name] for name in step.keys() - {"code", "detail", "finished_at", "put_off"}}
    again = {**left, "status": "running", "replayed_at": moment(history.now)}
    history.change(incident, actor=_ACTOR, steps={**incident.steps, task.payload["step"]: again})


def _span(task: Task, incident: Incident) -> Span:
    """From the beginning of a call until it is performed."""
    told = {
        "nilometer.project.id": incident.project_id,
        "nilometer.exception.id": incident.id,
        "nilometer.event.type": task.kind,
        "nilometer.tool.attempt": task.attempts,
    }
    return tracing.started("process tool", incident.traceparent, tracing.Kind.CONSUMER, told)


def _call(task: Task, incident: Incident, traceparent: str | None) -> ToolCall:
    facts = task.payload
    return ToolCall(
        project_id=task.project_id,
        incident_id=incident.id,
        execution_id=facts["executionId"],
        tool=facts["tool"],
        input=facts["input"],
        dry_run=facts["dryRun"],
        traceparent=traceparent,
        until=_waits_until(task, incident),
        ends=None if facts.get("timeoutSeconds") is None else _waits_until(task, incident),
    )


def _started(
    history: History,
    incidents: Mapping[Key, Incident],
    task: Task,
    beginning: Beginning,
    span: Span,
) -> Started | Postponed:
    incident = incidents[task.project_id, task.lane]
    if isinstance(beginning, Deferred):
        return _put_off(history, incident, task, beginning)
    return Started(beginning, incident.received_at, span)


def _put_off(history: History, incident: Incident, task: Task, deferred: Deferred) -> Postponed:
    """Have it wait in its place: this was no attempt. Told once, however often it is put off."""
    due_at = history.now + timedelta(seconds=deferred.retry_after)
    due_at = min(due_at, max(_waits_until(task, incident), history.now + _SHORTEST_WAIT))
    because = f"{deferred.code} {deferred.since and moment(deferred.since)}"
    if incident.steps[task.payload["step"]].get("put_off") != because:
        attempts = max(0, task.attempts - 1)
        history.change(
            incident,
            RetryScheduled("tool", attempts, moment(due_at), deferred.code, deferred.detail),
            actor=_ACTOR,
            causation_id=task.causation_id,
            steps=_with_step(incident, task, put_off=because),
        )
    return Postponed(due_at, Failure(deferred.code, deferred.detail, ErrorClass.TRANSIENT))


def _recorded(context: Context, done: Done, incident: Incident, outcome: Outcome) -> Failure | None:
    task, call = done.task, done.begun.call
    done.begun.span.end(code_of(outcome))  # of a change that was made just now
    incident.traceparent = call.traceparent or incident.traceparent
    if isinstance(outcome, Unknown):
        failure = _unknown(context, task, incident, outcome)
        if failure is not None:
            return failure
        told = outcome.code, outcome.detail, ToolErrorClass.PERMANENT
        outcome = Failed(*told, asked=outcome.asked)
    elif isinstance(outcome, Failed):
        judged = _failure(context, task, call, incident, outcome)
        if isinstance(judged, Failure):
            return judged
        outcome = judged
    _complete(context, task, call, incident, outcome)
    return None


def _unknown(context: Context, task: Task, incident: Incident, outcome: Unknown) -> Failure | None:
    """Ask again what became of it, or have a person say so; None where the step says that the
    playbook goes on all the same."""
    goes_on = _continues(context, task, incident)
    ends = not outcome.reconcilable or task.attempts >= MAX_RECONCILIATIONS
    if goes_on and (ends or _too_late(task, incident, context.now)):
        return None
    if ends:
        return Failure(outcome.code, outcome.detail, ErrorClass.PERMANENT)
    wait = min(_RECONCILE_LONGEST, 2.0 ** min(task.attempts - 1, 10))
    return Failure(outcome.code, outcome.detail, ErrorClass.UNKNOWN, retry_after=_jittered(wait))


def _failure(
    context: Context, task: Task, call: ToolCall, incident: Incident, outcome: Failed
) -> Failure | Failed:
    """The failure after which the task is tried again, or given up; what failed, where the playbook
    knows what to do about it. Nobody waits for an attempt that would come too late."""
    retries = Retries.model_validate(task.payload["retries"])
    step = incident.steps[task.payload["step"]]
    tried = call.attempt - step.get("given_up_after", 0)
    if outcome.is_transient and tried < retries.attempts:
        wait = min(retries.longest_seconds, retries.initial_seconds * 2.0 ** min(tried - 1, 30))
        wait = max(_jittered(wait), outcome.retry_after or 0)
        if not _too_late(task, incident, context.now + timedelta(seconds=wait)):
            return Failure(outcome.code, outcome.detail, ErrorClass.TRANSIENT, retry_after=wait)
        outcome = replace(outcome, detail=f"{outcome.detail} {_NO_TIME_LEFT}")
    if _playbook_goes_on(context, task, incident, outcome):
        return outcome
    # Replayed, it has all its attempts before it again.
    given_up = {**step, "given_up_after": call.attempt}
    context.history.change(
        incident, actor=_ACTOR, steps={**incident.steps, task.payload["step"]: given_up}
    )
    return Failure(outcome.code, outcome.detail, ErrorClass.PERMANENT)


def _too_late(task: Task, incident: Incident, now: datetime) -> bool:
    return task.payload.get("timeoutSeconds") is not None and now >= _waits_until(task, incident)


def _waits_until(task: Task, incident: Incident) -> datetime:
    """Until when the step may take, from its beginning or from its last replay."""
    step, seconds = incident.steps[task.payload["step"]], task.payload.get("timeoutSeconds")
    began = datetime.fromisoformat(step.get("replayed_at") or step["started_at"])
    return began + (LONGEST_WAIT if seconds is None else timedelta(seconds=seconds))


def _playbook_of(context: Context, incident: Incident) -> Playbook | None:
    """The playbook that the incident is in; None where its pack cannot be read: what came of a tool
    is kept all the same, and a failure is then a person's."""
    if incident.playbook is None:
        return None
    try:
        return context.judged_by(incident).pack.playbook(incident.playbook)
    except PackUnreadable:
        return None


def _continues(context: Context, task: Task, incident: Incident) -> bool:
    """Whether the playbook goes on whatever comes of the step."""
    playbook = _playbook_of(context, incident)
    steps = playbook.steps if playbook else ()
    return any(s.name == task.payload["step"] and s.on_failure == "continue" for s in steps)


def _playbook_goes_on(context: Context, task: Task, incident: Incident, outcome: Failed) -> bool:
    """Whether the playbook has something to do after this failure."""
    playbook = _playbook_of(context, incident)
    if playbook is None:
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
