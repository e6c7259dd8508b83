"""Alert rules on the server: unusual days are found in the calls, told once, and told of."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from nilometer.access.accounts import Accounts
from nilometer.access.types import Scope
from nilometer.alerts import unusual as unusual_days
from nilometer.alerts.anomalies import Anomaly, Sensitivity
from nilometer.alerts.condition import Reading
from nilometer.alerts.days import tell
from nilometer.alerts.rule import AlertRule
from nilometer.alerts.rules import AlertRules, StoredRule
from nilometer.alerts.tables import UnusualDayRow
from nilometer.alerts.unusual import MAX_VALUES, Finding, unusual
from nilometer.alerts.watch import RuleWatch
from nilometer.clickhouse.store import StoreUnavailable
from nilometer.database.engine import Database, DatabaseUnavailable
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.domain.usage_metric import AIUsageMetric
from nilometer.errors import InvalidInput, NotFound
from nilometer.notifications.tables import DeliveryRow
from nilometer.query.usage import Usage
from nilometer.usage.fold import Row, fold
from nilometer.usage.groups import Groups, dimensions_of, latencies_of, values_of
from nilometer.usage.query import UsageQuery
from tests.api.world import World
from tests.usage.metrics import metric

TODAY = date(2026, 11, 21)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Spent:
    """Metrics, asked by the pure rules of the contract."""

    def __init__(self) -> None:
        self.metrics: list[AIUsageMetric] = []
        self.down = False

    def on(self, days_ago: int, cost: str, **more: str) -> None:
        at = NOON - timedelta(days=days_ago)
        self.metrics.append(metric(timestamp=at, cost_usd=Decimal(cost), **more))

    def __call__(self, query: UsageQuery) -> Groups:
        if self.down:
            raise StoreUnavailable("down")
        days = set(query.days)
        rows = [
            Row(dimensions_of(each), values_of(each), latencies_of(each))
            for each in self.metrics
            if each.date in days
        ]
        return fold(query, rows)


@pytest.fixture
def spent() -> Spent:
    """Ten dollars a day of ada, one of bob."""
    made = Spent()
    for day in range(1, 40):
        made.on(day, "10", user_id="ada")
        made.on(day, "1", user_id="bob")
    return made


def rule(**given: object) -> AlertRule:
    return AlertRule("", **({"name": "spikes"} | given))  # type: ignore[arg-type]


def count(database: Database, table: type) -> int:
    with database.read(EVERY_ROW) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_the_day_of_a_spike_is_found_for_who_caused_it(spent: Spent) -> None:
    spent.on(0, "5", user_id="ada")
    spent.on(0, "8", user_id="bob")
    [found] = unusual(spent, rule(dimension="user"), TODAY)
    assert (found.value, found.day, found.anomaly.value, found.anomaly.expected) == (
        *("bob", TODAY, 8, 1),
    )
    assert unusual(spent, rule(dimension="user", value="ada"), TODAY) == []
    [named] = unusual(spent, rule(dimension="user", value="bob"), TODAY)
    assert named == found
    assert unusual(spent, rule(), TODAY) == []  # 13 where 11 are usual
    spent.on(0, "20")
    [whole] = unusual(spent, rule(), TODAY)
    assert (whole.value, whole.anomaly.value) == ("", 33)
    assert unusual(spent, rule(dimension="service", value="OpenAI"), TODAY)[0].value == "openai"


def test_the_day_that_is_looked_at_is_not_in_its_own_baseline(spent: Spent) -> None:
    spent.on(0, "50", user_id="ada")
    before = unusual(spent, rule(dimension="user"), TODAY)
    spent.on(0, "1000", user_id="ada")
    after = unusual(spent, rule(dimension="user"), TODAY)
    assert before[0].anomaly.expected == after[0].anomaly.expected == 10


def test_of_many_values_those_that_cost_most_are_looked_at(spent: Spent) -> None:
    for n in range(MAX_VALUES + 10):
        name = f"user {n:03}"
        for day in range(1, 15):
            spent.on(day, "1", user_id=name)
        spent.on(0, str(100 + n), user_id=name)
    found = unusual(spent, rule(dimension="user"), TODAY)
    assert [each.value for each in found] == [f"user {n:03}" for n in range(MAX_VALUES + 9, 9, -1)]


@pytest.mark.parametrize("pages", [unusual_days.MOST_PAGES, 2])
def test_the_costliest_value_is_found_on_whatever_page_it_is(
    spent: Spent, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    monkeypatch.setattr(unusual_days, "MAX_LIMIT", 3)
    monkeypatch.setattr(unusual_days, "MOST_PAGES", pages)
    for n in range(7):
        for day in range(1, 15):
            spent.on(day, "1", user_id=f"user {n}")
        spent.on(0, "100", user_id=f"user {n}")
    asked: list[UsageQuery] = []

    def paged(query: UsageQuery) -> Groups:
        """As the server answers: a page, and one more where there is another one."""
        found = spent(query)
        if query.group_by:
            asked.append(query)
        keys = sorted(key for key in found.combined if not query.after or key > query.after)
        shown = keys[: query.limit + 1]
        return replace(found, combined={key: found.combined[key] for key in shown})

    found = unusual(paged, rule(dimension="user"), TODAY)
    assert [each.value for each in found] == [f"user {n}" for n in range(min(7, pages * 3))]
    assert len(asked) == min(3, pages)


def nothing(stored: StoredRule, now: datetime) -> list[Reading]:
    """Of rules with a condition there are none here."""
    raise AssertionError(stored.rule.kind)


def watch(database: Database, spent: Spent) -> RuleWatch:
    return RuleWatch(database, lambda _, query: spent(query), nothing, now=lambda: NOON)


def test_a_day_is_told_once_whoever_looks_and_again_for_the_next(
    database: Database, project_id: int, channel: str, spent: Spent
) -> None:
    AlertRules(database).add(project_id, rule(dimension="user", channels=(channel,)))
    spent.on(0, "60", user_id="ada")
    with ThreadPoolExecutor(8) as pool:
        fired = list(pool.map(lambda _: watch(database, spent).run_once(), range(16)))
    assert sum(fired) == 1
    assert count(database, UnusualDayRow) == count(database, DeliveryRow) == 1
    spent.on(1, "70", user_id="bob")  # late, of yesterday
    assert watch(database, spent).run_once() == 1
    assert watch(database, spent).run_once() == 0
    first, late = AlertRules(database).days(project_id)
    assert (late.day, late.value, late.spent) == ("2026-11-20", "bob", 71)
    assert (first.day, first.value, first.spent) == ("2026-11-21", "ada", 60)


def test_a_rule_that_cannot_be_looked_at_waits_and_tells_later(
    database: Database, project_id: int, spent: Spent
) -> None:
    AlertRules(database).add(project_id, rule())
    spent.on(0, "600")
    spent.down = True
    assert watch(database, spent).run_once() == 0
    spent.down = False
    assert watch(database, spent).run_once() == 1


def test_a_rule_that_fails_for_a_reason_of_its_own_does_not_keep_the_others(
    database: Database, project_id: int, spent: Spent
) -> None:
    other = Accounts(database).create_project("other").project_id
    for project in (project_id, other):
        AlertRules(database).add(project, rule())
    spent.on(0, "600")

    def of(broken: int) -> RuleWatch:
        def usage(project: int, query: UsageQuery) -> Groups:
            if project == broken:
                raise OverflowError
            return spent(query)

        return RuleWatch(database, usage, nothing, now=lambda: NOON)

    assert [of(project_id).run_once(), of(other).run_once()] == [1, 1]


def test_the_thread_looks_when_it_is_its_turn_and_outlives_what_fails(
    database: Database, project_id: int, spent: Spent
) -> None:
    AlertRules(database).add(project_id, rule())
    spent.on(0, "600")
    turns: list[str] = []
    told = threading.Event()

    @contextmanager
    def alone() -> Iterator[bool]:
        turns.append("asked")
        if len(turns) == 1:
            raise DatabaseUnavailable("away")
        if len(turns) == 2:
            raise RuntimeError("a defect")
        yield len(turns) > 3

    looks = RuleWatch(
        database,
        lambda _, query: spent(query),
        nothing,
        told=told.set,
        alone=alone,
        interval=0.01,
        now=lambda: NOON,
    )
    looks.start()
    assert told.wait(90)
    looks.stop()
    assert len(turns) > 3
    assert looks.run_once() == 0  # it has been stopped


def test_nothing_is_told_of_a_rule_that_is_gone_or_in_part(
    database: Database, project_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = AlertRules(database)
    stored = rules.add(project_id, rule())
    finding = Finding(TODAY, "", Anomaly("m", Decimal(9), Decimal(1), Decimal(8), 20))

    def broken(*_: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr("nilometer.alerts.telling.enqueue", broken)
    with pytest.raises(RuntimeError):
        tell(database, stored, [finding], NOON)
    assert count(database, UnusualDayRow) == 0  # neither without the other
    monkeypatch.undo()
    rules.remove(project_id, stored.rule.id)
    assert tell(database, stored, [finding], NOON) == 0


def test_rules_are_kept_refused_and_forgotten(database: Database, project_id: int) -> None:
    rules = AlertRules(database)
    how = Sensitivity(Decimal("2.5"), Decimal(0), Decimal("0.01"), 10)
    stored = rules.add(project_id, rule(dimension="job", value="nightly", sensitivity=how))
    assert rules.list(project_id) == [stored] == rules.everything()
    assert isinstance(stored, StoredRule)
    for wrong, attr in (
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "b", "dimension": "moon"}, "dimension"),
        ({"name": "b", "value": "x"}, "value"),
        ({"name": "b", "dimension": "user", "value": "\n"}, "value"),
        ({"name": "b", "channels": ("x",)}, "channels"),
    ):
        with pytest.raises(InvalidInput) as error:
            rules.add(project_id, rule(**wrong))
        assert error.value.attr == attr
    with pytest.raises(NotFound):
        rules.remove(project_id, "x")
    rules.forget(project_id)
    assert rules.list(project_id) == []


def test_rules_by_the_api_find_spikes_in_the_calls(world: World) -> None:
    project = world.project()
    admin = project.key(Scope.ADMIN, Scope.READ)
    path = project.path("alert_rules/")
    body = {"name": "jobs", "dimension": "job", "min_history": 7}
    added = world.ask("POST", path, admin, json=body)
    assert added.status_code == 201
    for wrong in ({"score": "NaN"}, {"score": "1e-30"}, {"min_amount_usd": "lots"}):
        answer = world.ask("POST", path, admin, json=body | {"name": "x"} | wrong)
        assert (answer.status_code, answer.json()["attr"]) == (400, next(iter(wrong)))
    now = clock.now()
    for day in range(9):
        cost = 90 if day == 0 else 10
        properties = {"$ai_provider": "p", "$ai_total_cost_usd": cost, "$ai_job_id": "nightly"}
        when = (now - timedelta(days=day)).isoformat()
        project.send(properties, timestamp=when)
    world.settle()
    looked = RuleWatch(world.database, Usage(world.services.store).groups, nothing)
    assert looked.run_once() == 1
    assert looked.run_once() == 0
    [day] = world.get(project.path("unusual_days/"), admin).json()["results"]
    assert (day["value"], day["spent_usd"], day["expected_usd"]) == ("nightly", "90", "10")
    [told] = world.get(path, admin).json()["results"]
    assert told == added.json()
    assert world.ask("DELETE", f"{path}{told['id']}/", admin).status_code == 204
    assert world.get(project.path("unusual_days/"), admin).json()["results"] == []
