"""Whether a call may be made: what budgets with a hard stop say, as of what is stored.

A check sees every call that is stored when it begins, and none that is not: calls whose usage is
still on its way pass. So as many go beyond a limit as were allowed before the last call within it
was stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.evaluation import Evaluation, assess
from nilometer.budgets.store import Budgets
from nilometer.budgets.watch import SpendOf
from nilometer.domain import clock


@dataclass(frozen=True, slots=True)
class Standing:
    """All budgets with a hard stop that calls of a project may count for, at one moment."""

    at: datetime
    evaluations: Sequence[Evaluation]

    @property
    def is_global(self) -> bool:
        """Whether calls of other projects count, too."""
        return any(each.budget.scope.kind is ScopeKind.GLOBAL for each in self.evaluations)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of a call: it may be made unless a budget that it counts for has nothing left.
    `evaluations` are those that it counts for, or may where a value was not given."""

    allowed: bool
    evaluations: Sequence[Evaluation]


def standing(budgets: Budgets, spend_of: SpendOf, project_id: int) -> Standing:
    """How a project's budgets with a hard stop stand now. Raises DatabaseUnavailable, the store's
    errors, and NotFound."""
    found = budgets.stopping(project_id)
    organizations = {each.organization_id for each in found if each.is_global}
    projects = [each for one in organizations for each in budgets.projects_of(one)]
    now = clock.now()
    assessments = assess(spend_of(project_id, projects), [each.budget for each in found], now)
    return Standing(now, [each.current for each in assessments])


def verdict(known: Standing, subject: Mapping[ScopeKind, str]) -> Verdict:
    """What is said of a call with these values. One that is not given says nothing: a budget of a
    job neither forbids a call of which no job is known, nor is left out."""
    concerned = [
        each for each in known.evaluations if _counts(each.budget.scope, subject) is not False
    ]
    stopped = any(each.stops and _counts(each.budget.scope, subject) for each in concerned)
    return Verdict(not stopped, concerned)


def _counts(scope: BudgetScope, subject: Mapping[ScopeKind, str]) -> bool | None:
    """Whether a call counts for a scope; None where that is not known."""
    if scope.kind in (ScopeKind.GLOBAL, ScopeKind.PROJECT):
        return True
    value = subject.get(scope.kind)
    if value is None:
        return None
    return (value.lower() if scope.kind is ScopeKind.SERVICE else value) == scope.value
