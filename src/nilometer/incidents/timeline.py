"""The timeline: an incident's history in sentences, one for each event. Consumes every type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from nilometer.incidents import events as e
from nilometer.incidents.events import IncidentEvent, Payload, Unread

_P = TypeVar("_P", bound=Payload)
Sentence = Callable[[Any], str]

SENTENCES: Final[dict[type[Payload], Sentence]] = {}
"""By payload, what is said of it."""


def sentence(event: IncidentEvent) -> str:
    """What happened, in one sentence."""
    payload = event.payload
    if isinstance(payload, Unread):
        return f"{payload.name} of version {payload.version}: a later release says what this is."
    return SENTENCES[type(payload)](payload)


def _of(kind: type[_P], told: Callable[[_P], str]) -> None:
    SENTENCES[kind] = cast("Sentence", told)


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else "."


def _normalized(told: e.ExceptionNormalized) -> str:
    by = f"pack {told.pack} version {told.pack_version}" if told.pack else "no pack"
    about = f" about {told.entity}" if told.entity else ""
    until = f", to be done by {told.sla_deadline}" if told.sla_deadline else ""
    left_out = f", {len(told.redacted)} places redacted" if told.redacted else ""
    return f"Read by {by} as {told.exception_type}{about}{until}{left_out}."


def _matched(told: e.PlaybookMatched) -> str:
    if told.playbook is None:
        return f"No playbook fits: {len(told.considered)} considered."
    return f"Playbook {told.playbook} chosen of {len(told.considered)}."


def _completed(told: e.ToolExecutionCompleted) -> str:
    times = "1 attempt" if told.attempts == 1 else f"{told.attempts} attempts"
    why = f" ({told.code})" if told.code else ""
    return f"Tool {told.tool} {told.outcome} after {times}{why}{_because(told.detail)}"


def _requested(told: e.ToolExecutionRequested) -> str:
    how = " in a dry run" if told.dry_run else ""
    return f"Tool {told.tool} is to be used for step {told.step}{how}."


def _step(told: e.StepExecutionRequested) -> str:
    if told.manual:
        return f"Step {told.step} is for a person{_because(told.instructions)}"
    return f"Step {told.step} of {told.playbook} begins ({told.action})."


def _assigned(told: e.OwnerAssigned) -> str:
    return f"Assigned to {told.owner}." if told.owner else f"No longer {told.before}'s."


def _feedback(told: e.FeedbackCaptured) -> str:
    how = "without a person" if told.automatic else "with a person"
    return f"{told.outcome.capitalize()} {how} after {told.seconds:.1f} s; SLA {told.sla}."


_of(
    e.ExceptionIngested,
    lambda told: f"{told.exception_type} raised by {told.source_system}.",
)
_of(e.ExceptionNormalized, _normalized)
_of(
    e.DuplicateDetected,
    lambda told: f"The same as {told.duplicate_of}, within {told.window_seconds} s.",
)
_of(
    e.TriageCompleted,
    lambda told: (
        f"Judged {told.severity} with confidence {told.confidence:g}"
        f"{_because('; '.join(told.reasons))}"
    ),
)
_of(
    e.PolicyEvaluated,
    lambda told: f"Policy: {told.outcome} by rule {told.rule}{_because(told.reason)}",
)
_of(
    e.ApprovalRequested,
    lambda told: (
        f"Approval needed by rule {told.rule} until {told.expires_at}{_because(told.reason)}"
    ),
)
_of(e.ApprovalDecided, lambda told: f"Approval {told.outcome}{_because(told.note)}")
_of(e.PlaybookMatched, _matched)
_of(
    e.PlaybookRecalculationRequested,
    lambda told: f"The playbook is to be chosen anew{_because(told.reason)}",
)
_of(
    e.ReprocessRequested,
    lambda told: f"The chain begins again (run {told.run}){_because(told.reason)}",
)
_of(e.StepExecutionRequested, _step)
_of(e.StepCompleted, lambda told: f"Step {told.step} {told.status}{_because(told.detail)}")
_of(
    e.PlaybookStepCompletionRequested,
    lambda told: f"Step {told.step} was said to have {told.status}{_because(told.note)}",
)
_of(e.ToolExecutionRequested, _requested)
_of(e.ToolExecutionCompleted, _completed)
_of(
    e.RetryScheduled,
    lambda told: (
        f"{told.stage.capitalize()} failed ({told.code}), attempt {told.attempts}; "
        f"again at {told.due_at}{_because(told.detail)}"
    ),
)
_of(
    e.DeadLettered,
    lambda told: (
        f"{told.stage.capitalize()} was given up after {told.attempts} attempts "
        f"({told.code}){_because(told.detail)}"
    ),
)
_of(
    e.DeadLetterReplayed,
    lambda told: f"The dead letter of {told.stage} was {told.outcome}{_because(told.reason)}",
)
_of(e.SLAImminent, lambda told: f"Little time is left until the deadline, {told.deadline}.")
_of(e.SLAExpired, lambda told: f"The deadline has passed: {told.deadline}.")
_of(
    e.PlaybookCompleted,
    lambda told: f"Playbook {told.playbook} {told.status}{_because(told.detail)}",
)
_of(e.ExceptionBlocked, lambda told: f"Blocked by {told.rule}{_because(told.reason)}")
_of(e.ExceptionEscalated, lambda told: f"Handed to a person by {told.rule}{_because(told.reason)}")
_of(e.ExceptionResolved, lambda told: f"Resolved{_because(told.reason)}")
_of(e.CommentAdded, lambda told: f"Comment: {told.text}")
_of(e.OwnerAssigned, _assigned)
_of(e.FeedbackCaptured, _feedback)
