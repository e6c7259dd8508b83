"""What becomes of a condition when it is looked at: pure, given what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from hashlib import sha256

from nilometer.alerts.rule import AlertRule


@dataclass(frozen=True, slots=True)
class Reading:
    """What a rule measured of one thing: `subject` tells it from the others of the rule, `calls` is
    how much was counted for it. `facts` are shown and sent on; they hold no content. `of_others`:
    it stands for all that are not told one by one, whatever its subject's name is. `late`: it is of
    what came late, and breaks the rule beside what came in time."""

    subject: str
    measured: Decimal
    calls: int
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    of_others: bool = False
    late: bool = False

    @property
    def digest(self) -> str:
        """What it is known by: SHA-256 of its subject. That of the others, or of what is late, is
        of no subject that there can be: none that is kept holds NUL."""
        name = "\0others" if self.of_others else self.subject
        return digest_of(f"\0late\0{name}" if self.late else name)


def digest_of(subject: str) -> str:
    """SHA-256 of a subject, hexadecimal."""
    return sha256(subject.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a condition stood when it was looked at before: broken since when, fired or not yet; and
    when it fired last, in this breach or an earlier one."""

    since: datetime | None = None
    fired: bool = False
    last_fired_at: datetime | None = None


class Step(Enum):
    """What is done: nothing; a breach begins, fires, or ends. One may begin and fire at once."""

    NOTHING = "nothing"
    BEGIN = "begin"
    FIRE = "fire"
    RECOVER = "recover"


def breaks(rule: AlertRule, reading: Reading) -> bool:
    """Whether what was measured is beyond the rule's threshold, and by enough."""
    condition = rule.condition
    if condition is None or reading.calls < condition.min_calls:
        return False
    if rule.measure.below:
        return reading.measured < condition.threshold
    return reading.measured >= condition.threshold


def step(rule: AlertRule, standing: Standing, *, broken: bool, now: datetime) -> Step:
    """What follows for a breach that stood so, now that the condition is broken or is not."""
    if rule.condition is None:
        return Step.NOTHING
    if not broken:
        return Step.NOTHING if standing.since is None else Step.RECOVER
    if standing.fired:
        return Step.NOTHING
    if _may_fire(rule, standing, now):
        return Step.FIRE
    return Step.BEGIN if standing.since is None else Step.NOTHING


def _may_fire(rule: AlertRule, standing: Standing, now: datetime) -> bool:
    assert rule.condition is not None, "it has been asked"
    since, last = standing.since or now, standing.last_fired_at
    if now - since < rule.condition.holds_for:
        return False
    return last is None or now - last >= rule.condition.cooldown
