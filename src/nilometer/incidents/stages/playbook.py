"""Playbooks: the best match is chosen, and its steps are carried out one after the other.

What each step came to is on the incident's row, so a playbook goes on from there, whoever has it in
hand. Steps that need nobody are done at once; a tool is asked for and its outcome awaited; a manual
step waits for a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from sqlalchemy import select

from nilometer.incidents import sla
from nilometer.incidents.events import (
    CommentAdded,
    ExceptionEscalated,
    ExceptionResolved,
    OwnerAssigned,
    Payload,
    PlaybookCompleted,
    PlaybookMatched,
    StepCompleted,
    StepExecutionRequested,
    ToolExecutionRequested,
    moment,
)
from nilometer.incidents.facts import Facts
from nilometer.incidents.history import Limit
from nilometer.incidents.incident import Incident, Status, system
from nilometer.incidents.packs.pack import Outcome, Pack
from nilometer.incidents.packs.pack import Playbook as PlaybookForm
from nilometer.incidents.playbooks.machine import (
    AddComment,
    AssignOwner,
    Escalate,
    Finished,
    PlaybookFailed,
    Record,
    RunTool,
    StepStatus,
    WaitManual,
    next_step,
)
from nilometer.incidents.playbooks.matching import match
from nilometer.incidents.policy import Decision, decide
from nilometer.incidents.stages.context import Context, Work, facts_of, results_of
from nilometer.incidents.stages.stage import ChainStage
from nilometer.incidents.tables import NAME_LENGTH, IncidentEventRow
from nilometer.incidents.tools.resolving import limits
from nilometer.incidents.triage import kept_of

NO_PLAYBOOK = "no_playbook"
PLAYBOOK_FAILED = "playbook_failed"
"""Rules by which a playbook, or that there is none, hands an incident to a person."""

_ACTOR = system("playbook")
_GOING = frozenset({Status.IN_PROGRESS, Status.TRIAGED})
_MATCHES = frozenset({"PolicyEvaluated", "ApprovalDecided"})
_JUDGED = "playbook"
"""The name of what the policy judged, among the facts of its decision."""


class Playbook(ChainStage):
    """See the module."""

    queue: ClassVar[str] = "playbook"
    kinds: ClassVar[frozenset[str]] = frozenset(
        {*_MATCHES, "PlaybookStepCompletionRequested", "ToolExecutionCompleted"}
    )

    def do(self, context: Context, work: Work) -> None:
        """Go on with the playbook of one, as far as it goes without anybody."""
        incident = work.incident
        if incident.status not in _GOING:
            return
        playbook = _chosen(context, work) if work.kind in _MATCHES else _begun(context, incident)
        if playbook is None:
            return
        if work.kind not in _MATCHES:
            _tell_result(context, work, playbook)
        while _carry_out(context, work, playbook):
            pass


def _chosen(context: Context, work: Work) -> PlaybookForm | None:
    """The playbook that the policy judged; without one the incident is a person's."""
    incident = work.incident
    pack, facts = context.judged_by(incident).pack, facts_of(incident, context.now)
    found = match(pack, facts)
    playbook, considered = found.playbook, [str(each) for each in found.considered]
    rule, reason = NO_PLAYBOOK, f"there is no playbook for {incident.exception_type}"
    decided = _decided(context, work)
    if _JUDGED not in decided:
        objection = _objection(pack, facts, work.kind)
        if objection is not None:
            playbook, rule, reason = None, objection.rule, objection.reason
    elif decided[_JUDGED] != (playbook and playbook.name):
        # By now another one fits, which nobody has judged.
        playbook = pack.playbook(decided[_JUDGED])
        considered = [
            f"{name}: {'' if name == decided[_JUDGED] else 'not '}what the policy judged"
            for name in (each.playbook for each in found.considered)
        ]
    if playbook is not None:
        told = PlaybookMatched(playbook.name, kept_of(considered))
        _change(context, work, told, to=Status.IN_PROGRESS, playbook=playbook.name, steps={})
        return playbook
    _change(
        context,
        work,
        PlaybookMatched(None, kept_of(considered)),
        ExceptionEscalated(rule, reason),
        to=Status.ESCALATED,
        playbook=None,
        reason=reason,
    )
    return None


def _decided(context: Context, work: Work) -> Mapping[str, Any]:
    """The facts of the policy's last decision. An earlier release did not tell the playbook."""
    if work.kind == "PolicyEvaluated":
        return work.payload
    incident = work.incident
    query = (
        select(IncidentEventRow.payload)
        .where(
            IncidentEventRow.project_id == incident.project_id,
            IncidentEventRow.incident_id == incident.id,
            IncidentEventRow.type == "PolicyEvaluated",
        )
        .order_by(IncidentEventRow.sequence.desc())
        .limit(1)
    )
    return context.session.scalar(query) or {}


def _objection(pack: Pack, facts: Facts, kind: str) -> Decision | None:
    """What the policy has against the playbook that matches now, where nobody knows which one it
    judged. What a person approved may need an approval; the rates were counted before."""
    decision = decide(pack, facts, dict.fromkeys((cap.name for cap in pack.policy.rates), 0))
    approved = decision.outcome is Outcome.REQUIRE_APPROVAL and kind == "ApprovalDecided"
    return None if decision.outcome is Outcome.ALLOW or approved else decision


def _begun(context: Context, incident: Incident) -> PlaybookForm | None:
    """The playbook that the incident is in, as it was when it began."""
    if incident.playbook is None:
        return None
    return context.judged_by(incident).pack.playbook(incident.playbook)


def _tell_result(context: Context, work: Work, playbook: PlaybookForm) -> None:
    """What a tool or a person did is on the row; here the history says that the step is over."""
    name = work.payload["step"]
    step = work.incident.steps[name]
    _change(context, work, StepCompleted(playbook.name, name, step["status"], step.get("detail")))


def _carry_out(context: Context, work: Work, playbook: PlaybookForm) -> bool:
    """Do what comes next; whether something may come after it without waiting."""
    incident = work.incident
    following = next_step(playbook, facts_of(incident, context.now), results_of(incident))
    if isinstance(following, RunTool):
        _run_tool(context, work, playbook, following)
    elif isinstance(following, WaitManual):
        _wait(context, work, playbook, following)
    elif isinstance(following, Escalate):
        _escalate(context, work, playbook, following)
    elif isinstance(following, Finished | PlaybookFailed):
        _finish(context, work, playbook, following)
    else:
        _done_at_once(context, work, playbook, following)
        return True
    return False


def _done_at_once(
    context: Context,
    work: Work,
    playbook: PlaybookForm,
    following: AddComment | AssignOwner | Record,
) -> None:
    incident, step = work.incident, following.step
    if isinstance(following, Record):
        result = following.result
        ended = _ended(context, result.status, result.code, result.detail)
        told = StepCompleted(playbook.name, step, result.status.value, result.detail)
        _change(context, work, told, steps={**incident.steps, step: ended})
        return
    columns: dict[str, Any] = {}
    said: Payload
    if isinstance(following, AddComment):
        said = CommentAdded(following.text)
    else:
        owner = following.owner[:NAME_LENGTH]
        said, columns = OwnerAssigned(owner, incident.owner), {"owner": owner}
    _change(
        context,
        work,
        StepExecutionRequested(playbook.name, step, _action(following), manual=False),
        said,
        StepCompleted(playbook.name, step, StepStatus.SUCCEEDED.value),
        steps={**incident.steps, step: _ended(context, StepStatus.SUCCEEDED)},
        **columns,
    )


def _run_tool(context: Context, work: Work, playbook: PlaybookForm, asked: RunTool) -> None:
    incident = work.incident
    # Its place in the run names it: the same however often it is attempted, another one each run.
    execution_id = f"{incident.id}.{incident.run}.{len(incident.steps) + 1}"
    begun = {
        "status": "running",
        "tool": asked.tool,
        "execution_id": execution_id,
        "started_at": moment(context.now),
    }
    _change(
        context,
        work,
        StepExecutionRequested(playbook.name, asked.step, "tool", manual=False),
        ToolExecutionRequested(execution_id, asked.step, asked.tool, asked.dry_run),
        limit=_limit(context, incident.project_id, asked.tool),
        details={
            "input": asked.input,
            "retries": asked.retries.model_dump(),
            "timeoutSeconds": asked.timeout_seconds,
        },
        step=asked.step,
        steps={**incident.steps, asked.step: begun},
    )


def _limit(context: Context, project_id: int, tool: str) -> Limit:
    known: dict[tuple[int, str], Limit] = context.notes.setdefault("limits", {})
    key = (project_id, tool)
    if key not in known:
        known[key] = Limit(*limits(context.session, [key])[key])
    return known[key]


def _wait(context: Context, work: Work, playbook: PlaybookForm, asked: WaitManual) -> None:
    incident, seconds = work.incident, asked.timeout_seconds
    begun = {
        "status": "waiting",
        "instructions": asked.instructions,
        "started_at": moment(context.now),
    }
    events: list[Payload] = [
        StepExecutionRequested(playbook.name, asked.step, "manual", True, asked.instructions)
    ]
    columns: dict[str, Any] = {}
    if asked.assignee is not None:
        owner = asked.assignee[:NAME_LENGTH]
        events.append(OwnerAssigned(owner, incident.owner))
        columns["owner"] = owner
    _change(
        context,
        work,
        *events,
        to=Status.WAITING,
        step=asked.step,
        steps={**incident.steps, asked.step: begun},
        waits_until=None if seconds is None else context.now + timedelta(seconds=seconds),
        reason=f"the step {asked.step} is for a person",
        **columns,
    )


def _escalate(context: Context, work: Work, playbook: PlaybookForm, asked: Escalate) -> None:
    _change(
        context,
        work,
        StepExecutionRequested(playbook.name, asked.step, "escalate", manual=False),
        StepCompleted(playbook.name, asked.step, StepStatus.SUCCEEDED.value),
        PlaybookCompleted(playbook.name, "escalated", asked.reason),
        ExceptionEscalated(f"playbook {playbook.name}", asked.reason),
        to=Status.ESCALATED,
        step=None,
        steps={**work.incident.steps, asked.step: _ended(context, StepStatus.SUCCEEDED)},
        reason=asked.reason,
    )


def _finish(
    context: Context, work: Work, playbook: PlaybookForm, ended: Finished | PlaybookFailed
) -> None:
    incident = work.incident
    if isinstance(ended, PlaybookFailed):
        how = f", recovered by {ended.recovered_by}" if ended.recovered_by else ""
        reason = f"step {ended.step} of {playbook.name} failed{how}: {ended.detail}"
        _change(
            context,
            work,
            PlaybookCompleted(playbook.name, StepStatus.FAILED.value, reason),
            ExceptionEscalated(PLAYBOOK_FAILED, reason),
            to=Status.ESCALATED,
            step=None,
            reason=reason,
        )
        return
    left = f", without {', '.join(ended.failed)}" if ended.failed else ""
    reason = f"playbook {playbook.name} came to its end{left}"
    _change(
        context,
        work,
        PlaybookCompleted(playbook.name, StepStatus.SUCCEEDED.value, reason),
        ExceptionResolved(reason),
        to=Status.RESOLVED,
        step=None,
        reason=reason,
        closed_at=context.now,
        automatic=not incident.touched,
        **sla.ended(incident, context.now),
    )


def _action(following: AddComment | AssignOwner) -> str:
    return "comment" if isinstance(following, AddComment) else "assign"


def _ended(
    context: Context, status: StepStatus, code: str | None = None, detail: str | None = None
) -> dict[str, Any]:
    said = {"code": code, "detail": detail} if code or detail else {}
    return {"status": status.value, "finished_at": moment(context.now), **said}


def _change(
    context: Context,
    work: Work,
    *events: Payload,
    to: Status | None = None,
    limit: Limit | None = None,
    details: dict[str, Any] | None = None,
    **columns: Any,
) -> None:
    """A change by this stage. Each is caused by the one before it."""
    if work.incident.first_action_at is None and "steps" in columns and columns["steps"]:
        columns["first_action_at"] = context.now
    work.causation_id = context.history.change(
        work.incident,
        *events,
        actor=_ACTOR,
        causation_id=work.causation_id,
        to=to,
        limit=limit,
        details=details,
        **columns,
    )
