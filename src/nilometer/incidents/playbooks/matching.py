"""Which playbook handles an incident: of those whose types and condition fit, the highest priority,
and of equal ones the first by name. Pure; what was considered is told with reasons."""

from __future__ import annotations

from dataclasses import dataclass

from nilometer.incidents.expressions import View, view
from nilometer.incidents.facts import Facts
from nilometer.incidents.packs.pack import Pack, Playbook
from nilometer.incidents.triage import holds


@dataclass(frozen=True, slots=True)
class Considered:
    """A playbook that was looked at, and why it was taken or not."""

    playbook: str
    fits: bool
    sentence: str

    def __str__(self) -> str:
        return f"{self.playbook}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Match:
    """The playbook, None where none fits, and all that were considered in the order of choice."""

    playbook: Playbook | None
    considered: tuple[Considered, ...]


def match(pack: Pack, facts: Facts, seen: View | None = None) -> Match:
    """Choose the playbook. `seen` is the view of the facts, where there is one already."""
    seen = seen or view(facts)
    chosen: Playbook | None = None
    considered: list[Considered] = []
    for playbook in sorted(pack.playbooks, key=lambda each: (-each.priority, each.name)):
        fits, sentence = _fits(playbook, facts, seen)
        if fits and chosen is None:
            chosen = playbook
            sentence = f"taken (priority {playbook.priority}): {sentence}"
        elif fits and chosen is not None:
            sentence = f"fits, but {chosen.name} comes first"
        considered.append(Considered(playbook.name, fits, sentence))
    return Match(chosen, tuple(considered))


def _fits(playbook: Playbook, facts: Facts, seen: View) -> tuple[bool, str]:
    kind = facts["exception"]["type"]
    if playbook.types and kind not in playbook.types:
        return False, f"not for {kind}"
    fits, told = holds(playbook.when, seen)
    return fits, playbook.when if fits else told
