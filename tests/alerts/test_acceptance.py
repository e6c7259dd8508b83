"""What budgets and rules raise becomes incidents, each once, with the alert or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from nilometer.access.projects import Projects
from nilometer.access.types import CaptureMode
from nilometer.alerts.acceptance import accepted
from nilometer.alerts.condition import Reading
from nilometer.alerts.firing import settle
from nilometer.alerts.kinds import Kind
from nilometer.alerts.rule import AlertRule, Condition, RaisedAs
from nilometer.alerts.rules import AlertRules
from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.periods import Period
from nilometer.budgets.store import Budgets
from nilometer.budgets.watch import BudgetWatch
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.incidents.tables import IncidentRow
from nilometer.notifications.tables import DeliveryRow
from tests.budgets.making import Ledger

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
BROKEN = [Reading("", Decimal(1), 100, {"errors": "100"})]


def incidents(database: Database) -> list[IncidentRow]:
    with database.read(EVERY_ROW) as session:
        return list(session.scalars(select(IncidentRow).order_by(IncidentRow.received_at)))


def outage(database: Database, project_id: int) -> AlertRules:
    rules = AlertRules(database)
    rule = AlertRule(
        "",
        "outage",
        kind=Kind.ERROR_RATE,
        condition=Condition(Decimal("0.5"), timedelta(minutes=5)),
        raised_as=RaisedAs("provider_outage", "high"),
    )
    rules.add(project_id, rule)
    return rules


def test_a_breach_is_one_incident_whoever_looks(database: Database, project_id: int) -> None:
    rules = outage(database, project_id)
    [stored] = rules.list(project_id)
    with ThreadPoolExecutor(4) as pool:
        told = pool.map(lambda _: settle(database, stored, BROKEN, NOON, accepted), range(8))
        assert sum(told) == 1
    [incident] = incidents(database)
    [alert] = rules.alerts(project_id)
    assert alert.exception_id == incident.id
    assert (incident.project_id, incident.source_system) == (project_id, "nilometer")
    assert (incident.exception_type, incident.stated_severity) == ("provider_outage", "high")
    assert incident.payload["alert_id"] == alert.id
    assert incident.payload["errors"] == "100"
    assert incident.raised_by == f"rule:{stored.rule.id}"


def test_the_highest_threshold_that_fires_at_once_raises_one_exception(
    database: Database, project_id: int
) -> None:
    budgets = Budgets(database)
    for name, raises in (("loud", True), ("quiet", False)):
        budgets.add(
            project_id,
            name=name,
            scope=BudgetScope(ScopeKind.PROJECT),
            amount=Decimal(100),
            period=Period.MONTH,
            raise_exception=raises,
        )
    now = (datetime.now(UTC).replace(day=15) + timedelta(days=31)).replace(day=15)
    ledger = Ledger((now - timedelta(days=1), "85"))
    watch = BudgetWatch(database, lambda *_: ledger, raising=accepted, now=lambda: now)
    assert watch.sweep().fired == 4
    [incident] = incidents(database)
    assert (incident.exception_type, incident.stated_severity) == ("runaway_spend", "medium")
    assert (incident.payload["threshold"], incident.payload["spent_usd"]) == (80, "85")
    alerts = budgets.alerts(project_id)
    assert [each.exception_id for each in alerts if each.exception_id] == [incident.id]
    ledger.calls.append((now, "20"))
    assert watch.sweep().fired == 2
    assert [each.stated_severity for each in incidents(database)] == ["medium", "high"]
    assert watch.sweep().fired == 0


def test_an_exception_and_its_alert_are_there_together_or_not_at_all(
    database: Database, project_id: int, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del channel
    rules = outage(database, project_id)
    [stored] = rules.list(project_id)

    def broken(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("nilometer.incidents.history.History.flush", broken)
        with pytest.raises(RuntimeError):
            settle(database, stored, BROKEN, NOON, accepted)
    assert incidents(database) == rules.alerts(project_id) == []
    with database.read(EVERY_ROW) as session:
        assert session.scalars(select(DeliveryRow)).all() == []
    assert settle(database, stored, BROKEN, NOON, accepted) == 1
    assert len(incidents(database)) == 1


def test_an_alert_of_a_project_that_takes_nothing_in_is_told_without_an_exception(
    database: Database, project_id: int, channel: str
) -> None:
    del channel
    rules = outage(database, project_id)
    [stored] = rules.list(project_id)
    Projects(database).change(project_id, mode=CaptureMode.DROP)
    assert settle(database, stored, BROKEN, NOON, accepted) == 1
    [alert] = rules.alerts(project_id)
    assert alert.exception_id is None
    assert incidents(database) == []
    with database.read(EVERY_ROW) as session:
        assert len(session.scalars(select(DeliveryRow)).all()) == 1
