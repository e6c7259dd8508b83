"""A rehearsal as it is shown: as text for a person, as JSON for a program. The same every time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from nilometer.incidents.packs.rehearsal import Rehearsal, Rehearsed


def as_json(rehearsal: Rehearsal) -> dict[str, Any]:
    """One document with everything."""
    read, judged, decision = rehearsal.normalised, rehearsal.triaged, rehearsal.decision
    playbook = rehearsal.match.playbook
    return {
        "normalised": {
            **read.facts(),
            "redacted": list(read.redacted),
            "fingerprint": read.fingerprint,
            "window_seconds": read.window_seconds,
        },
        "triage": {
            "type": judged.type,
            "severity": judged.severity.value,
            "confidence": judged.confidence,
            "rules": list(judged.rules),
            "reasons": [
                {"rule": each.rule, "matched": each.matched, "reason": each.sentence}
                for each in judged.reasons
            ],
        },
        "sla_seconds": rehearsal.sla_seconds,
        "policy": {
            "outcome": decision.outcome.value,
            "rule": decision.rule,
            "reason": decision.reason,
            "approval_seconds": decision.approval_seconds,
            "considered": [
                {
                    "rule": each.rule,
                    "outcome": None if each.outcome is None else each.outcome.value,
                    "reason": each.reason,
                }
                for each in decision.considered
            ],
        },
        "playbook": None if playbook is None else playbook.name,
        "considered": [
            {"playbook": each.playbook, "fits": each.fits, "reason": each.sentence}
            for each in rehearsal.match.considered
        ],
        "steps": [
            {"step": each.step, "action": each.action, **each.details, "status": each.status}
            for each in rehearsal.steps
        ],
        "ending": rehearsal.ending,
    }


def as_text(rehearsal: Rehearsal) -> str:
    """Lines that follow the chain."""
    return "\n".join(_lines(rehearsal))


def _lines(rehearsal: Rehearsal) -> Iterator[str]:
    read, judged, decision = rehearsal.normalised, rehearsal.triaged, rehearsal.decision
    yield f"Exception {judged.type} from {read.source_system}" + (
        f", about {read.entity}" if read.entity else ""
    )
    for place in read.redacted:
        yield f"  redacted {place}"
    if read.fingerprint:
        yield f"  the same within {read.window_seconds} s: {read.fingerprint[:16]}"
    yield f"Triage: {judged.severity.value}, confidence {judged.confidence:g}"
    for reason in judged.reasons:
        yield f"  {_mark(fires=reason.matched)} {reason}"
    if rehearsal.sla_seconds is not None:
        yield f"  to be done within {rehearsal.sla_seconds} s"
    yield f"Policy: {decision.outcome.value}, by {decision.rule}: {decision.reason}"
    for verdict in decision.considered:
        yield f"  {_mark(fires=verdict.outcome is not None)} {verdict}"
    playbook = rehearsal.match.playbook
    yield f"Playbook: {'none' if playbook is None else playbook.name}"
    for each in rehearsal.match.considered:
        yield f"  {_mark(fires=each.fits)} {each}"
    for number, step in enumerate(rehearsal.steps, 1):
        yield from _step(number, step)
    yield rehearsal.ending


def _step(number: int, step: Rehearsed) -> Iterator[str]:
    if step.action == "nothing":
        yield f"  {number}. {step.step}: {step.status}, {step.details['detail']}"
        return
    assumed = "" if step.status == "succeeded" else f", assumed to have {step.status}"
    tool = f" {step.details['tool']}" if step.action == "tool" else ""
    dry = " (dry run)" if step.details.get("dry_run") else ""
    yield f"  {number}. {step.step}: {step.action}{tool}{dry}{assumed}"
    shown = step.details.get("input") if step.action == "tool" else step.details
    yield from _members(shown or {})


def _members(details: Mapping[str, Any]) -> Iterator[str]:
    for name, value in details.items():
        if value is not None:
            yield f"       {name} = {orjson.dumps(value).decode()}"


def _mark(*, fires: bool) -> str:
    return "+" if fires else "-"
