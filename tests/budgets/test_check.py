"""Whether a call may be made, whose calls have arrived, and what keeping budgets refuses."""

from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError
from sqlalchemy import select

from nilometer.access.accounts import Accounts
from nilometer.budgets import dynamodb_items
from nilometer.budgets.arrivals import Arrivals
from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.check import standing, verdict
from nilometer.budgets.dynamodb_alerts import Alert, Alerts
from nilometer.budgets.dynamodb_spend import DynamoSpend
from nilometer.budgets.evaluation import assess
from nilometer.budgets.firing import EXCEPTION
from nilometer.budgets.periods import Period
from nilometer.budgets.spend import Span
from nilometer.budgets.store import MAX_BUDGETS, named
from nilometer.budgets.watch import BudgetWatch
from nilometer.database.fence import EVERY_ROW
from nilometer.domain import clock
from nilometer.errors import InvalidInput, NotFound, Unavailable
from nilometer.notifications.tables import DeliveryRow
from tests.budgets.making import Ledger, budget, utc
from tests.budgets.test_lambda_alerts import told


def used_up(*_):
    """The spend of whoever asks: the whole amount, now."""
    return Ledger((clock.now(), "100"))


class TestChecks:
    @pytest.fixture
    def stops(self, add):
        def stops(kind, value="", **given):
            scope = BudgetScope(kind, value)
            return add(name=str(scope), scope=scope, hard_stop=True, **given)

        return stops

    def test_a_used_up_budget_stops_exactly_the_calls_it_counts(self, budgets, stops, project_id):
        stops(ScopeKind.SERVICE, "OpenAI")
        stops(ScopeKind.JOB, "nightly")
        known = standing(budgets, used_up, project_id)
        assert not known.is_global
        for subject, allowed, concerned in (
            ({ScopeKind.SERVICE: "OPENAI", ScopeKind.JOB: "x"}, False, 1),
            ({ScopeKind.SERVICE: "openai "}, True, 1),  # the job is not known
            ({ScopeKind.SERVICE: "acme", ScopeKind.JOB: "nightly"}, False, 1),
            ({ScopeKind.SERVICE: "acme", ScopeKind.JOB: "Nightly"}, True, 0),
            ({}, True, 2),
        ):
            found = verdict(known, subject)
            assert (found.allowed, len(found.evaluations)) == (allowed, concerned), subject

    def test_a_budget_of_everything_stops_every_call(self, budgets, stops, project_id):
        stops(ScopeKind.PROJECT)
        spent = verdict(standing(budgets, used_up, project_id), {})
        unspent = verdict(standing(budgets, lambda *_: Ledger(), project_id), {})
        assert (spent.allowed, unspent.allowed) == (False, True)

    def test_a_global_budget_asks_for_the_calls_of_its_organization_alone(
        self, database, budgets, stops, project_id
    ):
        accounts = Accounts(database)
        sibling = accounts.create_project("sibling").project_id
        accounts.organizations.create("foreign")
        stops(ScopeKind.GLOBAL)
        asked = []

        def spend_of(project, others):
            asked.append((project, list(others)))
            return used_up()

        known = standing(budgets, spend_of, sibling)
        assert known.is_global
        assert asked == [(sibling, [project_id, sibling])]
        assert not verdict(known, {}).allowed

    def test_a_budget_without_a_hard_stop_is_asked_for_by_nobody(self, budgets, add, project_id):
        add()
        assert standing(budgets, used_up, project_id).evaluations == []


class TestArrivals:
    def test_a_mark_changes_with_what_was_stored_and_of_no_other_project(self):
        arrivals = Arrivals()
        before, other = arrivals.of(1), arrivals.of(2)
        with arrivals.arriving([1, 1]):
            assert arrivals.of(1) is None
            assert arrivals.of_all() is None
            assert arrivals.of(2) == other
        assert arrivals.of(1) not in (None, before)
        assert arrivals.of(2) == other

    def test_what_arrives_twice_at_once_is_known_when_both_have(self):
        arrivals = Arrivals()
        with arrivals.arriving([1]):
            with arrivals.arriving([1]):
                pass
            assert arrivals.of(1) is None
        assert arrivals.of(1) == 2

    def test_nothing_changes_nothing_and_a_failure_does(self):
        arrivals = Arrivals()
        with arrivals.arriving([]):
            assert arrivals.of_all() == 0
        assert arrivals.of_all() == 0
        with pytest.raises(RuntimeError), arrivals.arriving([1]):
            raise RuntimeError  # some of it may be stored
        assert arrivals.of_all() == 1


class TestKeeping:
    def test_a_name_is_one_budgets(self, budgets, add, project_id):
        add()
        other = add(name="other")
        with pytest.raises(InvalidInput) as refused:
            add(name=" all ")
        assert (refused.value.code, refused.value.attr) == ("name_taken", "name")
        with pytest.raises(InvalidInput):
            budgets.change(project_id, other.budget.id, {"name": "all"})
        assert [each.budget.name for each in budgets.list(project_id)] == ["all", "other"]

    def test_scope_period_and_zone_stay(self, budgets, add, project_id):
        stored = add()
        for name, value in (("period", Period.DAY), ("time_zone", "Asia/Tokyo")):
            with pytest.raises(InvalidInput) as refused:
                budgets.change(project_id, stored.budget.id, {name: value})
            assert refused.value.attr == name

    def test_a_change_to_the_same_is_none(self, budgets, add, project_id):
        stored = add()
        same = budgets.change(project_id, stored.budget.id, {"amount": stored.budget.amount})
        assert same == stored
        changed = budgets.change(project_id, stored.budget.id, {"amount": Decimal(5)})
        assert changed.updated_at > stored.updated_at
        [(until, amount)] = changed.budget.past_amounts
        assert amount == Decimal(100)
        assert stored.updated_at <= until <= changed.updated_at

    def test_what_is_no_budget_of_the_project_is_not_found(
        self, database, budgets, add, project_id
    ):
        stored = add()
        foreign = Accounts(database).create_project("foreign").project_id
        for project, identity in (
            (project_id, str(uuid4())),
            (project_id, "no uuid"),
            (foreign, stored.budget.id),
        ):
            for ask in (budgets.get, budgets.remove):
                with pytest.raises(NotFound):
                    ask(project, identity)
            with pytest.raises(NotFound):
                budgets.alerts(project, budget_id=identity)
        assert budgets.get(project_id, stored.budget.id) == stored
        assert budgets.remove(project_id, stored.budget.id) == stored
        assert budgets.list(project_id) == []

    def test_alerts_are_those_of_the_budget_that_is_asked_for(
        self, database, budgets, add, channel, project_id, now
    ):
        one, other = add(name="one", thresholds=(50,)), add(name="other", thresholds=(60,))
        BudgetWatch(database, lambda *_: Ledger((now, "70")), now=lambda: now).sweep()
        for stored, threshold in ((one, 50), (other, 60)):
            [alert] = budgets.alerts(project_id, budget_id=stored.budget.id)
            assert (alert.budget_id, alert.threshold) == (stored.budget.id, threshold)
        assert len(budgets.alerts(project_id)) == 2

    def test_a_budget_has_its_name_or_its_id(self, database, add, project_id):
        stored = add(name="search")
        with database.read(EVERY_ROW) as session:
            assert named(session, project_id, "search") == stored
            assert named(session, project_id, stored.budget.id) == stored
            with pytest.raises(NotFound):
                named(session, project_id, "other")

    def test_a_project_has_room_for_so_many(self, add, monkeypatch):
        assert MAX_BUDGETS == 100
        monkeypatch.setattr("nilometer.budgets.store.MAX_BUDGETS", 1)
        add()
        with pytest.raises(InvalidInput):
            add(name="other")

    def test_a_moment_without_a_zone_is_none(self):
        with pytest.raises(ValueError, match="time zone"):
            budget(created_at=datetime(2026, 1, 1))  # noqa: DTZ001


class TestWatching:
    def test_the_highest_threshold_raises_one_exception_with_its_facts(
        self, database, budgets, add, channel, project_id, now
    ):
        add(raise_exception=True)
        raised = []

        def accept(_session, project, each):
            raised.append((project, each))
            return str(uuid4())

        ledger = Ledger((now, "85"))
        BudgetWatch(database, lambda *_: ledger, raising=accept, now=lambda: now).sweep()
        [(project, one)] = raised
        assert (project, one.exception_type, one.severity) == (project_id, EXCEPTION, "medium")
        assert (one.payload["spent_usd"], one.payload["percent"]) == ("85", "85")
        raising = [each for each in budgets.alerts(project_id) if each.exception_id]
        assert [each.threshold for each in raising] == [80]

    def test_where_nobody_handles_exceptions_the_alert_names_none(
        self, database, budgets, add, channel, project_id, now
    ):
        add(raise_exception=True)
        BudgetWatch(database, lambda *_: Ledger((now, "55")), now=lambda: now).sweep()
        assert [each.exception_id for each in budgets.alerts(project_id)] == [None]

    def test_an_alert_of_a_period_that_is_over_forecasts_nothing(self, database, add, channel, now):
        add(period=Period.DAY)
        tomorrow = now + timedelta(days=1)
        ledger = Ledger((now, "60"))
        BudgetWatch(database, lambda *_: ledger, now=lambda: tomorrow).sweep()
        with database.read(EVERY_ROW) as session:
            [late] = [each.notification for each in session.scalars(select(DeliveryRow))]
        assert "forecast_usd" not in late["facts"]
        assert "At the rate" not in late["text"]

    def test_one_that_ends_goes_to_no_further_project(self, database, add, channel, now):
        add()
        watch = BudgetWatch(database, lambda *_: Ledger((now, "60")), now=lambda: now)
        watch.stop()  # was never started
        assert watch.sweep().evaluated == 0

    def test_a_round_that_fails_is_seen_and_tried_again(self, database, add, now, caplog):
        add()
        watch = BudgetWatch(database, lambda *_: Ledger(), now=lambda: now)
        for error, said in (
            (Unavailable("the database is away"), "budgets wait: the database is away"),
            (ZeroDivisionError(), "budgets failed and are tried again: ZeroDivisionError"),
        ):

            def fail(_projects, error=error):
                raise error

            watch._budgets = SimpleNamespace(concerning=fail)
            watch.stored([1])
            assert not watch._round(sweeping=False)
            assert said in caplog.text
            assert watch._arrived == {1}


class TestWithoutAServer:
    class Table:
        """Answers with these items, or fails so."""

        def __init__(self, *items, error=None):
            self.items, self.error, self.actions = items, error, []

        def query(self, **_):
            if self.error:
                raise self.error
            return {"Items": list(self.items)}

        def transact_write_items(self, TransactItems):  # noqa: N803
            self.actions += TransactItems

        def update_item(self, **_):
            raise self.error

    def test_an_alert_for_nobody_is_told_to_nobody(self):
        table = self.Table()
        assert Alerts(table, "t", {}).fire(Alert("one", "1", "", told(100), ()), utc(2025, 7, 2))
        [put] = table.actions
        assert put["Put"]["Item"]["state"]["S"] == "sent"

    def test_what_is_no_refusal_of_the_table_is_raised(self):
        defect = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            dynamodb_items.TableStandings(self.Table(error=defect), "t").ask()
        span = Span(BudgetScope(ScopeKind.PROJECT), utc(2025, 7, 1), utc(2025, 8, 1))

        def groups(_query):
            raise defect

        with pytest.raises(ZeroDivisionError):
            DynamoSpend(SimpleNamespace(groups=groups)).of([span])

    def test_a_lease_that_the_table_does_not_give_is_told(self):
        busy = ClientError({"Error": {"Code": "ThrottlingException"}}, "UpdateItem")
        pending = SimpleNamespace(identity="x", due_at=1, attempts=0)
        with pytest.raises(ClientError):
            Alerts(self.Table(error=busy), "t", {})._leased(pending, utc(2025, 7, 2))
        taken = ClientError({"Error": {"Code": "ConditionalCheckFailedException"}}, "UpdateItem")
        assert not Alerts(self.Table(error=taken), "t", {})._leased(pending, utc(2025, 7, 2))

    def test_standings_that_nobody_renews_are_no_answer(self, monkeypatch):
        looked = utc(2025, 7, 2)
        spec = budget(hard_stop=True, name="team", id="team")
        [found] = assess(Ledger((utc(2025, 7, 1), "40")), [spec], looked)
        table = self.Table(dynamodb_items._standing_item(found.current, looked))
        standings = dynamodb_items.TableStandings(table, "t")
        monkeypatch.setattr(clock, "now", lambda: looked + dynamodb_items.STALE)
        [known] = standings.ask()
        assert (known.id, known.spent, known.limit) == ("team", Decimal(40), Decimal(100))
        monkeypatch.setattr(
            clock, "now", lambda: looked + dynamodb_items.STALE + timedelta(seconds=1)
        )
        with pytest.raises(Unavailable) as refused:
            standings.ask()
        assert refused.value.code == "budgets_not_evaluated"
