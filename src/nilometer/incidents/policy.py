"""Policy: whether an incident may be handled without a person. Pure; the decision names its rule.

Every guardrail is asked, and the most severe outcome counts: block, then escalate, then
require_approval, then allow; of several with the same outcome the first, in the order in which they
are asked. A guardrail that cannot be evaluated asks for an approval at least: nothing is allowed
because a payload was unlike what its author expected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from nilometer.incidents.expressions import NotEvaluable, View, expression, view
from nilometer.incidents.facts import Facts
from nilometer.incidents.incident import Severity
from nilometer.incidents.packs.pack import (
    Confidence,
    Guardrail,
    Names,
    Outcome,
    Override,
    Pack,
    Playbook,
    RateCap,
)
from nilometer.incidents.playbooks.matching import match

_RANK: Final = {outcome: rank for rank, outcome in enumerate(Outcome)}
DEFAULT_RULE: Final = "default"
REJECTED: Final = "rejected"
"""The rule by which a person is asked again about what a person rejected."""
NO_ENTITY: Final = "(no entity)"
"""Stands for the entity of an exception without one, so that no list of allowed ones lets it by."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule said; `outcome` is None where it had nothing against it."""

    rule: str
    outcome: Outcome | None
    reason: str
    approval_seconds: int | None = None

    def __str__(self) -> str:
        return f"{self.rule}: {self.outcome.value if self.outcome else 'passed'}, {self.reason}"


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome, the rule that it is by, and why. `approval_seconds` is how long an approval is
    waited for, None unless one is required; `separate_duties`: who raised the exception may not
    approve. `considered` has every rule that was asked. `playbook` is the name of the one that was
    judged, None where none fits: the decision is about no other."""

    outcome: Outcome
    rule: str
    reason: str
    approval_seconds: int | None
    separate_duties: bool
    considered: tuple[Verdict, ...]
    playbook: str | None


@dataclass(frozen=True, slots=True)
class Counted:
    """What has to be counted for a rate cap: how many incidents with this `value` of `per` were
    allowed in the last `window_seconds`. The count is passed to `decide` under `name`."""

    name: str
    per: str
    value: str
    window_seconds: int


def to_count(pack: Pack, facts: Facts) -> tuple[Counted, ...]:
    """What the rate caps of a pack need counted for this incident. `value` of a cap per playbook is
    the name of the one that matches, "" without one; of one per project it is ""."""
    rates = pack.policy.rates
    playbook = match(pack, facts).playbook if any(cap.per == "playbook" for cap in rates) else None
    return tuple(
        Counted(cap.name, cap.per, _counted_value(cap, facts, playbook), cap.window_seconds)
        for cap in rates
    )


_REJECTION: Final = (
    Verdict(REJECTED, Outcome.REQUIRE_APPROVAL, "a person rejected it before, so a person decides"),
)


def decide(
    pack: Pack, facts: Facts, counts: Mapping[str, int], *, rejected: bool = False
) -> Decision:
    """Decide. `counts` has a number for each of `to_count`; a missing one asks for an approval.
    `rejected`: a person has rejected it before, so that it is a person who may allow it."""
    override = pack.override(facts["tenant"]["id"])
    seen = view(facts)
    playbook = match(pack, facts, seen).playbook
    asked = _verdicts(pack, override, facts, seen, playbook, counts)
    considered = (*asked, *_REJECTION[: int(rejected)])
    against = [each for each in considered if each.outcome is not None]
    worst = max(
        against,
        key=lambda each: _RANK[each.outcome or Outcome.ALLOW],
        default=Verdict(DEFAULT_RULE, Outcome.ALLOW, "nothing is against it"),
    )
    outcome = worst.outcome or Outcome.ALLOW
    return Decision(
        outcome=outcome,
        rule=worst.rule,
        reason=worst.reason,
        approval_seconds=_approval_seconds(pack, override, worst, outcome),
        separate_duties=pack.policy.separate_duties,
        considered=considered,
        playbook=None if playbook is None else playbook.name,
    )


def _approval_seconds(
    pack: Pack, override: Override | None, verdict: Verdict, outcome: Outcome
) -> int | None:
    if outcome is not Outcome.REQUIRE_APPROVAL:
        return None
    own = None if override is None else override.approval_seconds
    return verdict.approval_seconds or own or pack.policy.approval_seconds


def _verdicts(
    pack: Pack,
    override: Override | None,
    facts: Facts,
    seen: View,
    playbook: Playbook | None,
    counts: Mapping[str, int],
) -> Iterator[Verdict]:
    if override is not None:
        yield from _lists(override.block, override.allow, "override.", facts, playbook)
    policy = pack.policy
    yield from _lists(policy.block, policy.allow, "", facts, playbook)
    for rule in policy.rules:
        if not rule.types or facts["exception"]["type"] in rule.types:
            yield _guarded(rule, seen)
    yield from _sure_enough(_confidence(pack, override), facts)
    yield from _approvals(pack, override, facts, playbook)
    for cap in policy.rates:
        yield _capped(cap, counts)


def _lists(
    block: Names, allow: Names, prefix: str, facts: Facts, playbook: Playbook | None
) -> Iterator[Verdict]:
    exception = facts["exception"]
    members = {
        "types": (exception["type"],),
        "source_systems": (exception["source_system"],),
        "entities": (exception["entity"] or NO_ENTITY,),
        "tools": () if playbook is None else playbook.tools,
    }
    for member, values in members.items():
        blocked: tuple[str, ...] = getattr(block, member)
        allowed: tuple[str, ...] = getattr(allow, member)
        if blocked:
            yield _listed(f"{prefix}block.{member}", values, blocked)
        if allowed:
            yield _unlisted(f"{prefix}allow.{member}", values, allowed)


def _listed(rule: str, values: tuple[str, ...], blocked: tuple[str, ...]) -> Verdict:
    found = next((value for value in values if value in blocked), None)
    if found is None:
        return Verdict(rule, None, "not on the list")
    return Verdict(rule, Outcome.BLOCK, f"{found} is on the list")


def _unlisted(rule: str, values: tuple[str, ...], allowed: tuple[str, ...]) -> Verdict:
    found = next((value for value in values if value not in allowed), None)
    if found is None:
        return Verdict(rule, None, "on the list")
    return Verdict(rule, Outcome.BLOCK, f"{found} is not on the list")


def _guarded(rule: Guardrail, seen: View) -> Verdict:
    reason = rule.reason or rule.when
    try:
        if expression(rule.when).holds(seen):
            return Verdict(rule.name, rule.outcome, reason, rule.approval_seconds)
    except NotEvaluable as error:
        if rule.outcome is Outcome.ALLOW:
            return Verdict(rule.name, None, f"could not be evaluated: {error.detail}")
        told = f"could not be evaluated, and so a person decides: {error.detail}"
        return Verdict(rule.name, Outcome.REQUIRE_APPROVAL, told, rule.approval_seconds)
    return Verdict(rule.name, None, f"not true: {rule.when}")


def _confidence(pack: Pack, override: Override | None) -> Confidence:
    own = None if override is None else override.confidence
    return own or pack.policy.confidence


def _sure_enough(thresholds: Confidence, facts: Facts) -> Iterator[Verdict]:
    sure = facts["triage"]["confidence"]
    for rule, below, outcome in (
        ("confidence.escalate_below", thresholds.escalate_below, Outcome.ESCALATE),
        ("confidence.approval_below", thresholds.approval_below, Outcome.REQUIRE_APPROVAL),
    ):
        if below > 0:
            is_below = sure < below
            reason = f"confidence {sure:g} is {'below' if is_below else 'not below'} {below:g}"
            yield Verdict(rule, outcome if is_below else None, reason)


def _approvals(
    pack: Pack, override: Override | None, facts: Facts, playbook: Playbook | None
) -> Iterator[Verdict]:
    own = None if override is None else override.approvals
    needed = pack.policy.approvals if own is None else own
    severity = facts["triage"]["severity"] or Severity.MEDIUM.value
    if needed:
        outcome = Outcome.REQUIRE_APPROVAL if severity in needed else None
        reason = f"severity {severity} {'needs' if outcome else 'needs no'} approval"
        yield Verdict("approvals", outcome, reason)
    risky = pack.policy.approval_tools
    if risky:
        used = () if playbook is None else playbook.tools
        found = next((tool for tool in used if tool in risky), None)
        reason = "the playbook uses none of them" if found is None else f"{found} needs approval"
        yield Verdict("approval_tools", Outcome.REQUIRE_APPROVAL if found else None, reason)


def _capped(cap: RateCap, counts: Mapping[str, int]) -> Verdict:
    rule, count = f"rates.{cap.name}", counts.get(cap.name)
    if count is None:
        return Verdict(rule, Outcome.REQUIRE_APPROVAL, "it could not be counted")
    reason = f"{count} of {cap.limit} per {cap.per} in {cap.window_seconds} s"
    return Verdict(rule, cap.outcome if count >= cap.limit else None, reason)


def _counted_value(cap: RateCap, facts: Facts, playbook: Playbook | None) -> str:
    exception = facts["exception"]
    if cap.per == "type":
        return exception["type"]
    if cap.per == "entity":
        return exception["entity"] or ""
    if cap.per == "playbook":
        return "" if playbook is None else playbook.name
    return ""
