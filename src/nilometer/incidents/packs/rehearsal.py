"""What a pack would do with an exception, worked out without doing anything. Pure.

Every tool is taken to succeed, and a person to do what they are asked, unless a step is named among
those that fail: so all of a playbook's ways can be seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from nilometer.incidents.facts import NOT_TRIAGED, Facts, TriageFacts, with_type
from nilometer.incidents.incident import ActorKind, NewException
from nilometer.incidents.normalisation import Normalised, normalise, sla_seconds_of
from nilometer.incidents.packs.pack import Outcome, Pack
from nilometer.incidents.playbooks.machine import (
    Escalate,
    Finished,
    Next,
    PlaybookFailed,
    Record,
    StepResult,
    StepStatus,
    next_step,
)
from nilometer.incidents.playbooks.matching import Match, match
from nilometer.incidents.policy import Decision, decide, to_count
from nilometer.incidents.triage import Triaged, triage

ID = "rehearsal"
"""The incident's id."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A step: what would be done, and what it is taken to come to."""

    step: str
    action: str
    details: Mapping[str, Any]
    status: str


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The whole chain. `steps` is empty where the policy stops it; `ending` says how it ends."""

    normalised: Normalised
    triaged: Triaged
    sla_seconds: int | None
    decision: Decision
    match: Match
    steps: tuple[Rehearsed, ...]
    ending: str


def rehearse(
    pack: Pack,
    raised: NewException,
    *,
    project_id: int,
    now: datetime,
    failing: Collection[str] = (),
    counts: Mapping[str, int] | None = None,
    raised_by: ActorKind = ActorKind.KEY,
) -> Rehearsal:
    """Go through the chain. `counts` are of the rate caps, 0 where nothing is given."""
    read = normalise(pack, raised, project_id=project_id, now=now, raised_by=raised_by)
    facts = _facts(read, project_id, None, None)
    judged = triage(pack, facts)
    sla_seconds = sla_seconds_of(pack, judged.type, judged.severity, project_id)
    facts = _facts(read, project_id, judged, sla_seconds)
    counted = {each.name: 0 for each in to_count(pack, facts)} | dict(counts or {})
    decision = decide(pack, facts, counted)
    matched = match(pack, facts)
    steps, ending = _steps(decision, matched, facts, failing)
    return Rehearsal(read, judged, sla_seconds, decision, matched, steps, ending)


def _facts(
    read: Normalised, project_id: int, judged: Triaged | None, sla_seconds: int | None
) -> Facts:
    triaged = NOT_TRIAGED
    if judged is not None:
        triaged = TriageFacts(
            severity=judged.severity.value,
            confidence=judged.confidence,
            rules=list(judged.rules),
        )
    facts: Facts = {
        "exception": read.facts(),
        "incident": {"id": ID, "age_seconds": 0, "sla_seconds_left": sla_seconds, "attempts": 0},
        "triage": triaged,
        "steps": {},
        "tenant": {"id": project_id},
    }
    return facts if judged is None else with_type(facts, judged.type)


def _steps(
    decision: Decision, matched: Match, facts: Facts, failing: Collection[str]
) -> tuple[tuple[Rehearsed, ...], str]:
    if decision.outcome in (Outcome.BLOCK, Outcome.ESCALATE):
        return (), f"The policy stops the chain ({decision.outcome.value})."
    playbook = matched.playbook
    if playbook is None:
        return (), "No playbook fits: it is handed to a person."
    before = "After an approval: " if decision.outcome is Outcome.REQUIRE_APPROVAL else ""
    steps: list[Rehearsed] = []
    results: list[StepResult] = []
    while True:
        following = next_step(playbook, facts, results)
        if isinstance(following, Finished | PlaybookFailed):
            return tuple(steps), before + _ending(playbook.name, following)
        result = _result(following, failing)
        steps.append(_rehearsed(following, result))
        if isinstance(following, Escalate):
            return tuple(steps), f"{before}The playbook {playbook.name} hands it to a person."
        results.append(result)


def _result(following: Next, failing: Collection[str]) -> StepResult:
    assert not isinstance(following, Finished | PlaybookFailed)
    if isinstance(following, Record):
        return following.result
    if following.step in failing:
        return StepResult(following.step, StepStatus.FAILED, code="assumed", detail="Assumed.")
    return StepResult(following.step, StepStatus.SUCCEEDED)


def _rehearsed(following: Next, result: StepResult) -> Rehearsed:
    if isinstance(following, Record):
        details = {"code": result.code, "detail": result.detail}
        return Rehearsed(result.step, "nothing", details, result.status.value)
    details = asdict(following)
    details.pop("step")
    if "retries" in details:
        details["retries"] = details["retries"].model_dump()
    return Rehearsed(result.step, _action(following), details, result.status.value)


def _action(following: Next) -> str:
    return {
        "RunTool": "tool",
        "WaitManual": "manual",
        "AddComment": "comment",
        "AssignOwner": "assign",
        "Escalate": "escalate",
    }[type(following).__name__]


def _ending(name: str, following: Finished | PlaybookFailed) -> str:
    if isinstance(following, Finished):
        failed = f" ({', '.join(following.failed)} failed)" if following.failed else ""
        return f"The playbook {name} ends{failed}: it is resolved."
    recovered = f", {following.recovered_by} came after it" if following.recovered_by else ""
    return f"The playbook {name} fails at {following.step}{recovered}: a person is needed."
