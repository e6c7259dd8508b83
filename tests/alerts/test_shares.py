"""Of the time that rules may take every project has its share."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from nilometer.alerts.kinds import Kind
from nilometer.alerts.rule import AlertRule, Condition
from nilometer.alerts.rules import StoredRule
from nilometer.alerts.watch import RuleWatch
from nilometer.errors import Unavailable

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Watched:
    """A watch over rules, each of which takes its seconds, and every look fails: nothing is told,
    and no database is asked."""

    def __init__(self, **seconds: tuple[int, float]) -> None:
        self.rules = [stored(name, project) for name, (project, _) in seconds.items()]
        self.seconds = {name: each for name, (_, each) in seconds.items()}
        self.time, self.looks = 0.0, Counter[str]()
        self.watch = RuleWatch(
            None,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            self.measured,
            interval=30,
            now=lambda: NOON + timedelta(seconds=self.time),
            timer=lambda: self.time,
        )
        self.watch._rules = self  # type: ignore[assignment]

    def everything(self) -> list[StoredRule]:
        return self.rules

    def measured(self, rule: StoredRule, now: datetime) -> list[None]:
        self.time += self.seconds[rule.rule.id]
        self.looks[rule.rule.id] += 1
        raise Unavailable("not now")

    def round(self) -> float:
        """How long a round takes."""
        begun = self.time
        self.watch._round()
        took, self.time = self.time - begun, self.time + 30
        return took


def stored(name: str, project_id: int) -> StoredRule:
    often = Condition(Decimal(1), timedelta(hours=1))
    rule = AlertRule(name, name, kind=Kind.ERROR_RATE, dimension="service", condition=often)
    return StoredRule(rule, project_id, NOON)


@pytest.fixture
def watched() -> Watched:
    slow = {f"slow{number}": (1, 1.0) for number in range(50)}
    return Watched(**slow, quick1=(2, 0.1), quick2=(2, 0.1), quick3=(2, 0.1), other=(3, 0.5))


def test_a_project_whose_rules_are_slow_delays_no_other(watched: Watched) -> None:
    for rounds in range(1, 4):
        assert watched.round() <= 7
        assert [watched.looks[each] for each in ("quick1", "quick3", "other")] == [rounds] * 3


def test_each_rule_has_its_turn_before_any_has_a_second(watched: Watched) -> None:
    for _ in range(12):
        watched.round()
        slow = [watched.looks[f"slow{number}"] for number in range(50)]
        assert max(slow) - min(slow) <= 1
    assert min(slow) >= 1


def test_many_projects_that_are_slow_get_one_rule_each_at_least() -> None:
    rules = {f"p{project}r{each}": (project, 2.0) for project in range(9) for each in range(4)}
    watched = Watched(**rules)
    assert watched.round() == 18
    assert {name[:2] for name in watched.looks} == {f"p{project}" for project in range(9)}
