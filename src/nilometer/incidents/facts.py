"""The fact document: all that a pack's expressions see of an incident, and nothing else.

It is JSON: texts, numbers, booleans, lists and objects, so that the same facts give the same answer
anywhere. There is no secret in it. Money is decimal text; `double(exception.amount) > 100.0`
compares it. `steps` has what each step of the playbook came to, by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypedDict


class RaisedByFacts(TypedDict):
    """What raised the exception: `key` (whoever has one: that is their word), `rule` (it was
    measured here) or `system`. No sender writes it."""

    kind: str


class ExceptionFacts(TypedDict):
    """The exception, normalised. `occurred_at` is RFC 3339; `payload` is redacted. All but
    `raised_by` is what the sender says."""

    type: str
    source_system: str
    severity: str | None
    domain: str | None
    entity: str | None
    amount: str | None
    occurred_at: str
    payload: Mapping[str, Any]
    raised_by: RaisedByFacts


class IncidentFacts(TypedDict):
    """The incident. `sla_seconds_left` is negative once the deadline has passed, None without."""

    id: str
    age_seconds: int
    sla_seconds_left: int | None
    attempts: int


class TriageFacts(TypedDict):
    """What triage said; `severity` is None before. `rules` are the names of those that matched."""

    severity: str | None
    confidence: float
    rules: list[str]


class StepFacts(TypedDict):
    """What a step came to: `succeeded`, `failed` or `skipped`, and what its tool gave."""

    status: str
    output: Mapping[str, Any]


class TenantFacts(TypedDict):
    """Whose incident it is."""

    id: int


class Facts(TypedDict):
    """The whole document."""

    exception: ExceptionFacts
    incident: IncidentFacts
    triage: TriageFacts
    steps: Mapping[str, StepFacts]
    tenant: TenantFacts


MEMBERS: Final[Mapping[str, frozenset[str] | None]] = {
    "exception": frozenset(ExceptionFacts.__annotations__),
    "incident": frozenset(IncidentFacts.__annotations__),
    "triage": frozenset(TriageFacts.__annotations__),
    "steps": None,
    "tenant": frozenset(TenantFacts.__annotations__),
}
"""The members of each part; None where they are the pack's own names."""

NOT_TRIAGED: Final[TriageFacts] = {"severity": None, "confidence": 0.0, "rules": []}
"""Before triage."""


def with_type(facts: Facts, exception_type: str) -> Facts:
    """The same facts of an exception of another type."""
    if facts["exception"]["type"] == exception_type:
        return facts
    return {**facts, "exception": {**facts["exception"], "type": exception_type}}


def with_steps(facts: Facts, steps: Mapping[str, StepFacts]) -> Facts:
    """The same facts with what the steps came to."""
    return {**facts, "steps": steps}
