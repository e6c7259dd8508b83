"""A playbook as a pure machine: what was recorded of its steps so far gives what comes next.

Nothing is remembered in between, so a playbook goes on from any prefix of its results as if it had
never stopped. Who calls it carries the next thing out, records what it came to, and asks again.
There are no loops: a playbook ends after as many results as it has steps, at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from nilometer.incidents.expressions import NotEvaluable, View, expression, view
from nilometer.incidents.facts import Facts, StepFacts, with_steps
from nilometer.incidents.packs.pack import Playbook, Retries, Step
from nilometer.incidents.playbooks.templates import NotRendered, render


class StepStatus(StrEnum):
    """What a step came to."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class StepResult:
    """What was recorded of a step. Of one step the first result counts."""

    step: str
    status: StepStatus
    output: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class RunTool:
    """Call the tool with this input, at most `retries.attempts` times."""

    step: str
    tool: str
    input: Mapping[str, Any] = field(repr=False)
    dry_run: bool
    retries: Retries
    timeout_seconds: float | None


@dataclass(frozen=True, slots=True)
class WaitManual:
    """A person is to do something, and says when it is done. After `timeout_seconds` it failed."""

    step: str
    instructions: str
    assignee: str | None
    timeout_seconds: float | None


@dataclass(frozen=True, slots=True)
class AddComment:
    """Say this on the incident; the step has then succeeded."""

    step: str
    text: str


@dataclass(frozen=True, slots=True)
class AssignOwner:
    """Make this one the incident's owner; the step has then succeeded."""

    step: str
    owner: str


@dataclass(frozen=True, slots=True)
class Escalate:
    """Hand the incident to a person, and end the playbook."""

    step: str
    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """Nothing is to be done: record this result, which needed nobody, and ask again. A step that is
    skipped, or that failed because its condition or its parameters have no value."""

    result: StepResult

    @property
    def step(self) -> str:
        """Of the result."""
        return self.result.step


@dataclass(frozen=True, slots=True)
class Finished:
    """Every step came to its end. `failed` are the steps that failed and did not stop it."""

    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlaybookFailed:
    """A step failed and the playbook ended; `recovered_by` is the step of recovery that came after
    it and succeeded."""

    step: str
    code: str
    detail: str
    recovered_by: str | None = None


Next = (
    RunTool | WaitManual | AddComment | AssignOwner | Escalate | Record | Finished | PlaybookFailed
)
"""What comes next."""


def next_step(playbook: Playbook, facts: Facts, results: Sequence[StepResult]) -> Next:
    """What comes next after these results. The steps of `facts` are put in place from them."""
    by_step: dict[str, StepResult] = {}
    for result in results:
        by_step.setdefault(result.step, result)
    failed: list[str] = []
    for step in playbook.steps:
        result = by_step.get(step.name)
        if result is None:
            return _begin(step, _view(facts, by_step))
        if result.status is StepStatus.FAILED:
            if step.on_failure != "continue":
                return _after_failure(playbook, step, result, facts, by_step)
            failed.append(step.name)
    return Finished(tuple(failed))


def results_of(steps: Mapping[str, StepFacts]) -> list[StepResult]:
    """The results that a fact document's steps stand for."""
    return [
        StepResult(name, StepStatus(step["status"]), step["output"])
        for name, step in steps.items()
        if step["status"] in set(StepStatus)
    ]


def _after_failure(
    playbook: Playbook,
    step: Step,
    result: StepResult,
    facts: Facts,
    by_step: Mapping[str, StepResult],
) -> Next:
    recovery = next((each for each in playbook.recovery if each.name == step.on_failure), None)
    recovered = None if recovery is None else by_step.get(recovery.name)
    if recovery is not None and recovered is None:
        return _begin(recovery, _view(facts, by_step))
    done = recovered is not None and recovered.status is StepStatus.SUCCEEDED
    return PlaybookFailed(
        step.name,
        result.code or "step_failed",
        result.detail or "The step failed.",
        recovered_by=recovered.step if recovered is not None and done else None,
    )


def _view(facts: Facts, by_step: Mapping[str, StepResult]) -> View:
    steps: dict[str, StepFacts] = {
        name: {"status": result.status.value, "output": result.output}
        for name, result in by_step.items()
    }
    return view(with_steps(facts, steps))


def _begin(step: Step, seen: View) -> Next:
    if step.when is not None:
        try:
            if not expression(step.when).holds(seen):
                return _recorded(step, StepStatus.SKIPPED, "condition_false", step.when)
        except NotEvaluable as error:
            detail = f"Its condition could not be evaluated: {error.detail}."
            return _recorded(step, StepStatus.FAILED, "condition_invalid", detail)
    try:
        return _action(step, seen)
    except NotRendered as error:
        detail = f"Its parameters could not be filled in: {error.detail}."
        return _recorded(step, StepStatus.FAILED, error.code, detail)


def _recorded(step: Step, status: StepStatus, code: str, detail: str) -> Record:
    return Record(StepResult(step.name, status, code=code, detail=detail))


def _action(step: Step, seen: View) -> Next:
    if step.tool is not None:
        given = render(step.params, seen)
        return RunTool(
            step.name, step.tool, given, step.dry_run, step.retries, step.timeout_seconds
        )
    if step.manual is not None:
        assignee = render(step.manual.assignee, seen)
        return WaitManual(
            step.name,
            _text(render(step.manual.instructions, seen)),
            None if assignee is None else _text(assignee),
            step.timeout_seconds,
        )
    if step.comment is not None:
        return AddComment(step.name, _text(render(step.comment, seen)))
    if step.assign is not None:
        return AssignOwner(step.name, _text(render(step.assign, seen)))
    return Escalate(step.name, _text(render(step.escalate, seen)))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise NotRendered("it must be a text that is not empty")
    return value
