"""What senders name may be anything; what is wrong with one thing silences no other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from nilometer.alerts.condition import Reading
from nilometer.alerts.firing import settle
from nilometer.alerts.kinds import Kind
from nilometer.alerts.rule import AlertRule, Condition, RaisedAs
from nilometer.alerts.rules import AlertRules, StoredRule
from nilometer.budgets.raising import Raised
from nilometer.database.engine import Database
from nilometer.errors import Unavailable

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def rule(database: Database, project_id: int) -> StoredRule:
    condition = Condition(Decimal("0.5"), timedelta(minutes=5))
    told = AlertRule(
        "",
        "errors",
        kind=Kind.ERROR_RATE,
        dimension="user",
        condition=condition,
        raised_as=RaisedAs("errors", "high"),
    )
    return AlertRules(database).add(project_id, told)


def measured(share: int, *subjects: str) -> list[Reading]:
    return [Reading(each, Decimal(share), 100, {"seen": each}) for each in subjects]


def test_a_name_with_nul_fires_once_and_recovers_and_so_do_the_others(
    database: Database, rule: StoredRule
) -> None:
    broken = measured(1, "good", "a\0b")
    assert settle(database, rule, broken, NOON) == 2
    assert settle(database, rule, broken, NOON) == 0
    assert settle(database, rule, measured(0, "good", "a\0b"), NOON) == 2


def refusing(session: object, project_id: int, raised: Raised) -> None:
    if "bad" in raised.payload["title"]:
        raise ValueError


def test_what_is_wrong_with_one_keeps_no_other_from_being_told(
    database: Database, rule: StoredRule
) -> None:
    broken = measured(1, "first", "bad", "last")
    assert settle(database, rule, broken, NOON, refusing) == 2
    alerts = AlertRules(database).alerts(rule.project_id)
    assert {each.subject for each in alerts} == {"first", "last"}


def test_a_database_that_is_away_is_nobodys_fault(database: Database, rule: StoredRule) -> None:
    asked: list[str] = []

    def away(session: object, project_id: int, raised: Raised) -> None:
        asked.append(raised.payload["title"])
        raise Unavailable("away", retry_after=1)

    with pytest.raises(Unavailable):
        settle(database, rule, measured(1, "first", "last"), NOON, away)
    assert len(asked) == 1
