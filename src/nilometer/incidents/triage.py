"""Triage: of which type an exception is and how severe, by the pack's rules and with reasons.

Pure and total: every exception gets a type, a severity and a confidence, whatever its payload is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nilometer.incidents.expressions import NotEvaluable, View, expression, view
from nilometer.incidents.facts import Facts, with_type
from nilometer.incidents.incident import Severity
from nilometer.incidents.packs.pack import Classification, Pack, TriageRule

OVERRIDDEN: Final = 1.0
STATED: Final = 0.7
OF_THE_TYPE: Final = 0.6
UNKNOWN: Final = 0.3
"""How sure triage is of a severity by where it is from, unless a rule says so itself."""

NOT_TRUE: Final = "not true"
MAX_WORDS: Final = 200
"""Characters of a sentence that is kept with each exception."""
MAX_KEPT: Final = 40
"""Sentences that are, of one decision."""

_ORDER: Final = {severity: place for place, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True)
class Reason:
    """What one rule said: whether it matched, and why, in a sentence."""

    rule: str
    matched: bool
    sentence: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Triaged:
    """What was judged. `rules` are the names of the rules that matched; `reasons` has every rule
    that was asked, in order, and at the end what decided the severity."""

    type: str
    severity: Severity
    confidence: float
    rules: tuple[str, ...]
    reasons: tuple[Reason, ...]


def triage(pack: Pack, facts: Facts) -> Triaged:
    """Judge an exception. Of its severity decide, the first that says one: the tenant's override,
    the highest of the matching rules, the sender, the type, and else it is medium."""
    reasons: list[Reason] = []
    kind = _classified(pack, facts, reasons)
    facts = with_type(facts, kind)
    seen = view(facts)
    matched = [rule for rule in pack.triage.rules if _asked(rule, kind, seen, reasons)]
    severity, confidence, decided = _decided(pack, facts, kind, matched)
    reasons.append(decided)
    names = tuple(each.rule for each in reasons[:-1] if each.matched)
    return Triaged(kind, severity, confidence, names, tuple(reasons))


def _classified(pack: Pack, facts: Facts, reasons: list[Reason]) -> str:
    stated = facts["exception"]["type"]
    if not pack.triage.classify:
        return stated
    seen = view(facts)
    for rule in pack.triage.classify:
        if _classifies(rule, seen, reasons):
            return rule.type
    return stated


def _classifies(rule: Classification, seen: View, reasons: list[Reason]) -> bool:
    matched, told = holds(rule.when, seen)
    reasons.append(Reason(rule.name, matched, f"it is of type {rule.type}" if matched else told))
    return matched


def _asked(rule: TriageRule, kind: str, seen: View, reasons: list[Reason]) -> bool:
    if rule.types and kind not in rule.types:
        return False
    matched, told = holds(rule.when, seen)
    said = f"{rule.severity.value}: {rule.reason or rule.when}"
    reasons.append(Reason(rule.name, matched, said if matched else told))
    return matched


def _decided(
    pack: Pack, facts: Facts, kind: str, matched: list[TriageRule]
) -> tuple[Severity, float, Reason]:
    override = pack.override(facts["tenant"]["id"])
    own = None if override is None else override.severities.get(kind)
    if own is not None:
        return own, OVERRIDDEN, _because("override", own, "the tenant's own for this type")
    if matched:
        severity = max((rule.severity for rule in matched), key=_ORDER.__getitem__)
        confidence = max(rule.confidence for rule in matched if rule.severity is severity)
        return severity, confidence, _because("severity", severity, "the highest that a rule says")
    stated = facts["exception"]["severity"]
    if stated is not None and stated in set(Severity):
        said = Severity(stated)
        return said, STATED, _because("severity", said, "the sender's; no rule matched")
    known = pack.type_named(kind)
    if known is not None and known.severity is not None:
        return known.severity, OF_THE_TYPE, _because("severity", known.severity, "the type's")
    sentence = "nobody says how severe it is"
    return Severity.MEDIUM, UNKNOWN, _because("severity", Severity.MEDIUM, sentence)


def _because(rule: str, severity: Severity, sentence: str) -> Reason:
    return Reason(rule, matched=True, sentence=f"{severity.value}, {sentence}")


def in_few_words(sentence: str) -> str:
    """A sentence as it is kept with each exception."""
    said = sentence.partition(f"{NOT_TRUE}: ")[0] + NOT_TRUE if NOT_TRUE in sentence else sentence
    return said if len(said) <= MAX_WORDS else f"{said[: MAX_WORDS - 1]}…"


def kept_of(sentences: Sequence[str]) -> list[str]:
    """So many of the sentences as are kept, each in few words: the first and the last ones."""
    left = len(sentences) - MAX_KEPT
    few = [in_few_words(each) for each in sentences]
    if left <= 0:
        return few
    half = MAX_KEPT // 2
    return [*few[:half], f"({left} more were asked)", *few[-half:]]


def holds(condition: str, seen: View) -> tuple[bool, str]:
    """Whether a condition is true, and if not, why not."""
    try:
        if expression(condition).holds(seen):
            return True, "true"
    except NotEvaluable as error:
        return False, f"could not be evaluated: {error.detail}"
    return False, f"{NOT_TRUE}: {condition}"
