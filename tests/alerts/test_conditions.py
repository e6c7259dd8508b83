"""Conditions: what follows from what is measured, and that each breach is told once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from nilometer.access.accounts import Accounts
from nilometer.alerts.condition import Reading, Standing, Step, breaks, step
from nilometer.alerts.firing import settle
from nilometer.alerts.kinds import MEASURES, Kind, Source
from nilometer.alerts.rule import AlertRule, Condition, RaisedAs
from nilometer.alerts.rules import AlertRules, StoredRule
from nilometer.alerts.watch import RuleWatch
from nilometer.budgets.raising import Raised
from nilometer.clickhouse.store import StoreUnavailable
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import InvalidInput, NotFound
from nilometer.notifications.tables import DeliveryRow
from nilometer.usage.groups import Groups
from nilometer.usage.query import UsageQuery
from tests.running import wait_until

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def rule(**given: Any) -> AlertRule:
    """Fires when half of the calls of a service fail."""
    condition = {"threshold": Decimal("0.5"), "window": 5 * MINUTE, "min_calls": 10}
    condition |= {name: given.pop(name) for name in ("holds_for", "cooldown") if name in given}
    values = {"kind": Kind.ERROR_RATE, "dimension": "service", "condition": Condition(**condition)}
    return AlertRule("", **{"name": "outage", **values, **given})


def reading(measured: str, subject: str = "openai", calls: int = 100) -> Reading:
    return Reading(subject, Decimal(measured), calls, {"errors": "7"})


class Heard:
    """Takes exceptions, in memory; what the database undoes is not undone here."""

    def __init__(self) -> None:
        self.raised: list[Raised] = []
        self.broken = False

    def __call__(self, session: Session, project_id: int, raised: Raised) -> str:
        if self.broken:
            raise RuntimeError("killed")
        self.raised.append(raised)
        return f"exception {len(self.raised)}"


def told(database: Database) -> list[dict[str, Any]]:
    with database.read(EVERY_ROW) as session:
        rows = session.scalars(select(DeliveryRow).order_by(DeliveryRow.created_at))
        return [row.notification for row in rows]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def stored(database: Database, project_id: int, channel: str) -> StoredRule:
    raised_as = RaisedAs("provider_outage", "high")
    return AlertRules(database).add(project_id, rule(raised_as=raised_as, channels=(channel,)))


def test_a_condition_breaks_at_its_threshold_and_by_enough_calls() -> None:
    assert breaks(rule(), reading("0.5"))
    assert not breaks(rule(), reading("0.499999999999"))
    assert not breaks(rule(), reading("1", calls=9))
    below = rule(kind=Kind.QUALITY, dimension="metric")
    assert [breaks(below, reading(each)) for each in ("0.49", "0.5")] == [True, False]


def test_what_follows_is_said_by_how_it_stood() -> None:
    held = rule(holds_for=2 * MINUTE, cooldown=10 * MINUTE)
    pending = Standing(since=NOON - MINUTE)
    ripe = Standing(since=NOON - 2 * MINUTE)
    for standing, broken, follows in (
        (Standing(), False, Step.NOTHING),
        (Standing(), True, Step.BEGIN),
        (pending, True, Step.NOTHING),
        (pending, False, Step.RECOVER),
        (ripe, True, Step.FIRE),
        (Standing(ripe.since, last_fired_at=NOON - 9 * MINUTE), True, Step.NOTHING),
        (Standing(ripe.since, last_fired_at=NOON - 10 * MINUTE), True, Step.FIRE),
        (Standing(ripe.since, fired=True), True, Step.NOTHING),
        (Standing(ripe.since, fired=True), False, Step.RECOVER),
    ):
        assert step(held, standing, broken=broken, now=NOON) is follows
    assert step(rule(), Standing(), broken=True, now=NOON) is Step.FIRE  # at once


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=40), st.integers(0, 4))
def test_whatever_happens_a_breach_fires_once_and_only_after_it_held(
    looks: list[tuple[bool, int]], holds: int
) -> None:
    watched = rule(holds_for=holds * MINUTE)
    standing, now, broken_since = Standing(), NOON, None
    for broken, minutes in looks:
        now += minutes * MINUTE
        broken_since = (broken_since or now) if broken else None
        follows = step(watched, standing, broken=broken, now=now)
        if follows is Step.FIRE:
            assert not standing.fired
            assert broken_since is not None
            assert now - broken_since >= holds * MINUTE
            standing = Standing(broken_since, fired=True, last_fired_at=now)
        elif follows is Step.BEGIN:
            standing = Standing(now)
        elif follows is Step.RECOVER:
            assert not broken
            standing = Standing()
        if broken_since is not None and now - broken_since >= holds * MINUTE:
            assert standing.fired


def test_a_breach_is_told_once_whoever_looks_recovers_and_is_told_again(
    database: Database, stored: StoredRule, heard: Heard
) -> None:
    def look(measured: str, minutes: int = 0) -> int:
        return settle(database, stored, [reading(measured)], NOON + minutes * MINUTE, heard)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: look("0.6"), range(16))) == 1
    assert len(heard.raised) == 1
    [first] = AlertRules(database).alerts(stored.project_id)
    assert (first.subject, first.measured, first.calls, first.fired_at) == (
        *("openai", Decimal("0.6"), 100, NOON),
    )
    assert first.exception_id == "exception 1"
    assert look("0.9", 1) == 0
    assert look("0.1", 2) == 1
    assert look("0.1", 3) == 0
    assert look("0.7", 4) == 1
    newest, oldest = AlertRules(database).alerts(stored.project_id)
    assert oldest.recovered_at == NOON + 2 * MINUTE
    assert (newest.fired_at, newest.recovered_at) == (NOON + 4 * MINUTE, None)
    kinds = [each["type"] for each in told(database)]
    assert kinds == ["alert.fired", "alert.recovered", "alert.fired"]
    raised = heard.raised[0]
    assert (raised.exception_type, raised.severity) == ("provider_outage", "high")
    assert raised.payload["service"] == "openai"
    assert raised.payload["errors"] == "7"
    assert raised.payload["measured"] == "0.6"
    assert len({each.key for each in heard.raised}) == 2


def test_each_subject_breaks_for_itself_and_one_that_is_gone_has_recovered(
    database: Database, stored: StoredRule, heard: Heard
) -> None:
    both = [reading("1"), reading("1", "anthropic")]
    assert settle(database, stored, both, NOON, heard) == 2
    assert settle(database, stored, [both[0]], NOON + MINUTE, heard) == 1
    [still] = [
        each for each in AlertRules(database).alerts(stored.project_id) if not each.recovered_at
    ]
    assert still.subject == "openai"
    assert "Nothing more was measured." in told(database)[-1]["text"]


def test_a_value_that_is_named_others_is_told_beside_the_sum_of_the_others(
    database: Database, stored: StoredRule, heard: Heard
) -> None:
    rest = Reading("others", Decimal(9), 20, {"others": "7"}, of_others=True)
    assert settle(database, stored, [rest], NOON) == 1
    named = Reading("others", Decimal(5), 20)
    assert settle(database, stored, [rest, named], NOON) == 1
    assert settle(database, stored, [rest], NOON) == 1
    standing = AlertRules(database).alerts(stored.project_id)
    assert {(each.subject, each.recovered_at is None) for each in standing} == {
        ("others", True),
        ("others", False),
    }


def test_what_does_not_hold_for_long_enough_is_told_to_nobody(
    database: Database, project_id: int, channel: str, heard: Heard
) -> None:
    del channel
    rules = AlertRules(database)
    held = rules.add(project_id, rule(holds_for=2 * MINUTE, raised_as=RaisedAs("x", "low")))
    assert settle(database, held, [reading("1")], NOON, heard) == 0
    [pending] = rules.alerts(project_id)
    assert pending.fired_at is None
    assert settle(database, held, [reading("0")], NOON + MINUTE, heard) == 0
    assert rules.alerts(project_id) == []
    assert settle(database, held, [reading("1")], NOON + 2 * MINUTE, heard) == 0
    assert settle(database, held, [reading("0.8")], NOON + 4 * MINUTE, heard) == 1
    [fired] = rules.alerts(project_id)
    assert (fired.broken_at, fired.measured) == (NOON + 2 * MINUTE, Decimal("0.8"))
    assert len(heard.raised) == len(told(database)) == 1


def test_an_alert_its_exception_and_what_is_told_are_one_transaction(
    database: Database, stored: StoredRule, heard: Heard
) -> None:
    heard.broken = True
    with pytest.raises(RuntimeError):
        settle(database, stored, [reading("1")], NOON, heard)
    assert AlertRules(database).alerts(stored.project_id) == told(database) == []
    heard.broken = False
    AlertRules(database).remove(stored.project_id, stored.rule.id)
    assert settle(database, stored, [reading("1")], NOON, heard) == 0
    assert heard.raised == []


def test_a_rule_without_exceptions_raises_none(
    database: Database, project_id: int, heard: Heard
) -> None:
    quiet = AlertRules(database).add(project_id, rule(channels=()))
    assert settle(database, quiet, [reading("1")], NOON, heard) == 1
    assert heard.raised == told(database) == []


def test_the_watch_looks_by_each_rule_when_its_kind_is_due(
    database: Database, project_id: int, heard: Heard
) -> None:
    other = Accounts(database).create_project("other").project_id
    rules = AlertRules(database)
    for project in (project_id, other):
        rules.add(project, rule(raised_as=RaisedAs("x", "low")))
    leak = Condition(Decimal(1), 5 * MINUTE)
    slow = rules.add(project_id, AlertRule("", "leak", kind=Kind.LEAKED_KEY, condition=leak))
    looked: list[str] = []
    times = iter(range(1000))

    def readings(each: StoredRule, now: datetime) -> list[Reading]:
        looked.append(each.rule.id)
        if each.project_id == other:
            raise StoreUnavailable("down")
        return [reading("1", "")]

    rounds: list[None] = []

    @contextmanager
    def alone() -> Iterator[bool]:
        rounds.append(None)
        yield True

    def usage(project: int, query: UsageQuery) -> Groups:
        raise AssertionError("no rule is of days")

    watch = RuleWatch(
        database,
        usage,
        readings,
        raising=heard,
        alone=alone,
        interval=0.001,
        now=lambda: NOON + next(times) * timedelta(seconds=1),
    )
    watch.start()
    wait_until(lambda: len(rounds) >= 4)
    watch.stop()
    assert len(heard.raised) == 1  # the other's project waits
    assert looked.count(slow.rule.id) == 1  # once a minute


def test_rules_of_every_kind_are_kept_as_they_were_given(
    database: Database, project_id: int
) -> None:
    rules = AlertRules(database)
    for kind, measure in MEASURES.items():
        condition = Condition(Decimal("1.25"), MINUTE, 3, 2 * MINUTE, 4 * MINUTE)
        of_days = measure.source is Source.DAYS
        given = AlertRule(
            "",
            f"a {kind}",
            kind=kind,
            condition=None if of_days else condition,
            filters={"model": "m"} if "model" in measure.dimensions else {},
            raised_as=RaisedAs("a.type", "critical"),
        )
        added = rules.add(project_id, given)
        assert added in rules.list(project_id)
        for name in ("kind", "condition", "filters", "raised_as", "sensitivity"):
            assert getattr(added.rule, name) == getattr(given, name), (kind, name)
    rules.forget(project_id)
    assert rules.list(project_id) == []


@pytest.mark.parametrize(
    ("wrong", "attr"),
    [
        ({"condition": None}, "threshold"),
        ({"kind": Kind.SPEND_UNUSUAL}, "threshold"),
        ({"dimension": "metric"}, "dimension"),
        ({"kind": Kind.DEAD_LETTERS}, "dimension"),
        ({"kind": Kind.MISSING_TRAFFIC}, "value"),
        ({"filters": {"service": "x"}}, "filters"),
        ({"filters": {"moon": "x"}}, "filters"),
        ({"filters": {"model": ""}}, "filters"),
        ({"filters": {"model": "\n"}}, "filters"),
        ({"holds_for": timedelta(days=8)}, "for_seconds"),
        ({"cooldown": timedelta(seconds=-1)}, "cooldown_seconds"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(wrong: dict[str, Any], attr: str) -> None:
    with pytest.raises(InvalidInput) as error:
        rule(**wrong)
    assert error.value.attr == attr


@pytest.mark.parametrize(
    ("wrong", "attr"),
    [
        ({"threshold": Decimal("NaN")}, "threshold"),
        ({"threshold": Decimal(-1)}, "threshold"),
        ({"threshold": Decimal("1e-19")}, "threshold"),
        ({"window": timedelta(seconds=59)}, "window_seconds"),
        ({"min_calls": -1}, "min_calls"),
    ],
)
def test_a_condition_that_cannot_be_is_refused(wrong: dict[str, Any], attr: str) -> None:
    with pytest.raises(InvalidInput) as error:
        Condition(**({"threshold": Decimal(1), "window": MINUTE} | wrong))
    assert error.value.attr == attr
    for exception_type, severity in (("", "low"), ("1", "low"), ("a", "worst"), ("é", "low")):
        with pytest.raises(InvalidInput):
            RaisedAs(exception_type, severity)


def test_alerts_of_a_rule_are_those_of_ones_own(database: Database, stored: StoredRule) -> None:
    settle(database, stored, [reading("1")], NOON)
    rules = AlertRules(database)
    assert len(rules.alerts(stored.project_id, rule_id=stored.rule.id)) == 1
    other = Accounts(database).create_project("other").project_id
    assert rules.alerts(other) == []
    with pytest.raises(NotFound):
        rules.alerts(other, rule_id=stored.rule.id)
