"""Thresholds fire once a period, durably, whoever evaluates and however often."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from nilometer.access.accounts import Accounts
from nilometer.budgets import firing
from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.evaluation import assess
from nilometer.budgets.periods import Period
from nilometer.budgets.watch import BudgetWatch
from nilometer.clickhouse.store import StoreUnavailable
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.notifications.tables import DeliveryRow
from tests.budgets.making import Ledger
from tests.running import wait_until

FIFTY = 50


@pytest.fixture
def watching(database, now):
    """A watch over a ledger of the project's calls, whoever asks."""

    def watching(ledger, at=now, over=database, **more):
        return BudgetWatch(over, lambda *_: ledger, now=lambda: at, **more)

    return watching


def fired(budgets, project_id):
    return sorted(each.threshold for each in budgets.alerts(project_id))


def deliveries(database):
    with database.read(EVERY_ROW) as session:
        return session.scalar(select(func.count()).select_from(DeliveryRow))


def test_fifty_evaluators_a_second_worker_and_a_restart_fire_each_threshold_once(
    database, budgets, add, channel, project_id, now, watching
):
    add()
    ledger = Ledger((now - timedelta(days=1), "120"))
    ready = threading.Barrier(FIFTY)
    with closing(Database(database.url.render_as_string(hide_password=False))) as second:

        def evaluate(number):
            watch = watching(ledger, over=(database, second)[number % 2])
            watch.stored([project_id])
            ready.wait(60)
            return watch.run_once()

        with ThreadPoolExecutor(FIFTY) as pool:
            outcomes = list(pool.map(evaluate, range(FIFTY)))
    assert sum(each.fired for each in outcomes) == 3
    assert fired(budgets, project_id) == [50, 80, 100]
    assert deliveries(database) == 3
    restarted = watching(ledger)
    assert restarted.sweep().fired == 0
    assert fired(budgets, project_id) == [50, 80, 100]


def test_the_database_itself_refuses_a_second_alert(
    database, budgets, add, project_id, now, monkeypatch
):
    stored = add()
    [assessment] = assess(Ledger((now, "90")), [stored.budget], now)
    firing.fire(database, stored, assessment.current, now)
    everything = firing._Due(assessment.current.crossed, ())
    monkeypatch.setattr(firing, "_due", lambda *_: everything)
    with pytest.raises(IntegrityError):
        firing.fire(database, stored, assessment.current, now)
    assert fired(budgets, project_id) == [50, 80]


def test_an_alert_and_its_notification_are_there_together_or_not_at_all(
    database, budgets, add, channel, project_id, now, watching, monkeypatch
):
    add()
    watch = watching(Ledger((now, "60")))
    whole = firing.enqueue

    def fail(*_):
        raise RuntimeError("the process ends here")

    monkeypatch.setattr(firing, "enqueue", fail)
    assert watch.sweep().broken == 1
    assert (fired(budgets, project_id), deliveries(database)) == ([], 0)
    monkeypatch.setattr(firing, "enqueue", whole)
    assert watch.sweep().fired == 1
    assert (fired(budgets, project_id), deliveries(database)) == ([50], 1)


def test_what_is_told_names_the_budget_the_period_and_exact_amounts(
    database, add, channel, now, watching
):
    stored = add(thresholds=(50,), hard_stop=True)
    watching(Ledger((now, "100.000000000000000001"), (now, None))).sweep()
    with database.read(EVERY_ROW) as session:
        told = session.scalar(select(DeliveryRow)).notification
    assert told["title"] == f"Budget all: 50% of 100 USD is spent ({now:%Y-%m})"
    assert told["facts"]["spent_usd"] == "100.000000000000000001"
    assert (told["facts"]["unpriced_calls"], told["facts"]["budget_id"]) == ("1", stored.budget.id)
    assert told["facts"]["stopped"] == "yes"
    assert "have no known price" in told["text"]


def test_each_period_fires_anew_and_late_usage_fires_with_its_own_period(
    budgets, add, channel, project_id, now, watching
):
    ledger = Ledger((now, "60"))
    add(period=Period.DAY)
    assert watching(ledger).sweep().fired == 1
    tomorrow = now + timedelta(days=1)
    assert watching(ledger, tomorrow).sweep().fired == 0
    ledger.calls += [(now, "30"), (tomorrow, "55")]
    assert watching(ledger, tomorrow).sweep().fired == 2
    named = [(each.period_name, each.threshold) for each in budgets.alerts(project_id)]
    assert sorted(named) == [(f"{now:%F}", 50), (f"{now:%F}", 80), (f"{tomorrow:%F}", 50)]
    ledger.calls.append((now, "500"))
    assert watching(ledger, now + timedelta(days=2, hours=13)).sweep().fired == 0


def test_a_raised_amount_arms_what_it_leaves_unreached(
    budgets, add, channel, project_id, now, watching
):
    stored = add()
    ledger = Ledger((now, "100"))
    watch = watching(ledger)
    assert watch.sweep().fired == 3
    budgets.change(project_id, stored.budget.id, {"amount": Decimal(125)})
    assert watch.sweep().fired == 0  # 80% of it: 50 and 80 have fired
    lapsed = [each.threshold for each in budgets.alerts(project_id) if each.lapsed_at]
    assert lapsed == [100]
    ledger.calls.append((now, "25"))
    assert watch.sweep().fired == 1
    assert fired(budgets, project_id) == [50, 80, 100, 100]


def test_what_lapsed_fires_again_when_the_amount_is_changed_back(
    budgets, add, channel, project_id, now, watching
):
    stored = add()
    watch = watching(Ledger((now, "100")))
    assert [watch.sweep().fired for _ in range(2)] == [3, 0]
    budgets.change(project_id, stored.budget.id, {"amount": Decimal(1000)})
    assert watch.sweep().fired == 0
    budgets.change(project_id, stored.budget.id, {"amount": Decimal(100)})
    assert watch.sweep().fired == 3
    assert watch.sweep().fired == 0
    standing = [each.threshold for each in budgets.alerts(project_id) if not each.lapsed_at]
    assert sorted(standing) == [50, 80, 100]


def test_a_project_whose_budgets_cannot_be_evaluated_does_not_keep_the_others(
    database, budgets, add, channel, project_id, now
):
    other = Accounts(database).create_project("other").project_id
    for project in (project_id, other):
        budgets.add(
            project,
            name="one",
            scope=BudgetScope(ScopeKind.PROJECT),
            amount=Decimal(1),
            period=Period.MONTH,
        )
    spent = {project_id: Ledger((now, "5")), other: Ledger((now, "5"))}
    for broken in (project_id, other):

        class Broken:
            def of(self, spans):
                raise OverflowError

        ledgers = {**spent, broken: Broken()}
        watch = BudgetWatch(database, lambda project, _: ledgers[project], now=lambda: now)  # noqa: B023
        outcome = watch.sweep()
        assert (outcome.fired, outcome.broken) == (3, 1)
    assert fired(budgets, project_id) == fired(budgets, other) == [50, 80, 100]


def test_a_threshold_that_is_added_fires_and_no_other_again(
    budgets, add, channel, project_id, now, watching
):
    stored = add(thresholds=(50,))
    watch = watching(Ledger((now, "95")))
    assert watch.sweep().fired == 1
    budgets.change(project_id, stored.budget.id, {"thresholds": (50, 90)})
    assert watch.sweep().fired == 1
    assert fired(budgets, project_id) == [50, 90]


def test_a_budget_that_changed_since_it_was_read_fires_as_it_is(
    database, budgets, add, channel, project_id, now
):
    stored = add()
    [assessment] = assess(Ledger((now, "90")), [stored.budget], now)
    budgets.change(project_id, stored.budget.id, {"amount": Decimal(1000)})
    assert firing.fire(database, stored, assessment.current, now) == ()
    budgets.remove(project_id, stored.budget.id)
    assert firing.fire(database, stored, assessment.current, now) == ()
    assert fired(budgets, project_id) == []


def test_the_budget_of_a_project_that_is_being_deleted_does_not_fire(
    database, budgets, add, project_id, now, watching
):
    stored = add()
    ledger = Ledger((now, "90"))
    [assessment] = assess(ledger, [stored.budget], now)
    Accounts(database).projects.delete(project_id)
    assert firing.fire(database, stored, assessment.current, now) == ()
    assert watching(ledger).sweep().evaluated == 0
    budgets.forget(project_id)
    assert budgets.everything() == []


def test_an_arrival_concerns_the_projects_budgets_and_its_organizations_global_ones(
    database, budgets, add, project_id, now, watching
):
    accounts = Accounts(database)
    sibling = accounts.create_project("sibling").project_id
    _, foreign = accounts.organizations.create("foreign")
    everyones = BudgetScope(ScopeKind.GLOBAL)
    for project, scope in (
        (project_id, everyones),
        (sibling, None),
        (foreign.project_id, everyones),
    ):
        given = {"amount": Decimal(1), "period": Period.MONTH, "name": "one"}
        budgets.add(project, scope=scope or BudgetScope(ScopeKind.PROJECT), **given)
    watch = watching(Ledger((now, "5")))
    watch.stored([sibling])
    assert watch.run_once().evaluated == 2
    assert budgets.alerts(foreign.project_id) == []
    assert len(budgets.alerts(project_id)) == len(budgets.alerts(sibling)) == 3


def test_a_store_that_is_away_makes_it_wait_and_forgets_nothing(
    budgets, add, channel, project_id, now, watching
):
    class Away(Ledger):
        down, refused = True, 0

        def of(self, spans):
            if self.down:
                self.refused += 1
                raise StoreUnavailable("away")
            return super().of(spans)

    add()
    ledger = Away((now, "60"))
    told = threading.Event()
    watch = watching(ledger, told=told.set, pause=0.01)
    watch.start()
    try:
        watch.stored([project_id])
        wait_until(lambda: ledger.refused > 0)
        assert not told.is_set()
        ledger.down = False
        assert told.wait(90)
    finally:
        watch.stop()
    assert fired(budgets, project_id) == [50]


def test_one_worker_sweeps_and_all_see_to_what_arrives(
    database, budgets, add, channel, project_id, now, watching
):
    add()
    with database.alone("budgets") as first:
        assert first
        with database.alone("budgets") as mine:
            expected = [] if not mine else [50]
        watch = watching(Ledger((now, "60")), alone=lambda: database.alone("budgets"), pause=0.01)
        assert watch._round(sweeping=True)
        assert fired(budgets, project_id) == expected
        watch.stored([project_id])
        assert watch._round(sweeping=False)
        assert fired(budgets, project_id) == [50]
