"""Closed incidents go with the retention of their project, in slices."""

from datetime import timedelta
from decimal import Decimal
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import func, select

from nilometer.access.accounts import Accounts
from nilometer.access.tables import Project
from nilometer.alerts.kinds import Kind
from nilometer.alerts.retention import expire
from nilometer.alerts.rule import AlertRule, Condition
from nilometer.alerts.rules import AlertRules
from nilometer.alerts.tables import AlertRow
from nilometer.database.fence import EVERY_ROW
from nilometer.incidents import decisions, retention
from nilometer.incidents.incident import Status
from nilometer.incidents.retention import Retention, ended_before
from nilometer.incidents.tables import ApprovalRow, IncidentEventRow, IncidentRow
from nilometer.incidents.tools.tables import ExecutionRow
from nilometer.observability.metrics import REGISTRY
from nilometer.workflows.tables import TaskRow
from tests.database.both import KINDS, opened
from tests.incidents.handling import PACK, REFUSED, Handling, order

TABLES = (IncidentRow, IncidentEventRow, ApprovalRow, ExecutionRow, TaskRow)


@pytest.fixture(params=KINDS)
def handling(request, tmp_path):
    with opened(request, tmp_path) as database:
        yield Handling(database, {**PACK, "policy": {"approvals": ["critical"]}})


def kept(handling):
    with handling.database.read(EVERY_ROW) as session:
        return [session.scalar(select(func.count()).select_from(row)) for row in TABLES]


def alert(handling, rule_id, number, recovered_at):
    return AlertRow(
        id=str(UUID(int=number)),
        rule_id=rule_id,
        project_id=handling.project_id,
        subject=str(number),
        subject_digest=str(number),
        broken_at=handling.now,
        measured=Decimal(1),
        calls=1,
        facts={},
        recovered_at=recovered_at,
    )


def look(handling, days=30, **more):
    Retention(handling.database, days, now=lambda: handling.now, **more).look()


def test_closed_ones_go_with_all_that_they_left_and_open_ones_stay(handling, monkeypatch):
    monkeypatch.setattr(retention, "SLICE", 2)
    handling.tools.next(REFUSED)
    failed = handling.one()
    handling.settle()
    asked = handling.one(order(9, severity="critical"))
    handling.run()
    staying = kept(handling)
    closed = [each.exception_id for each in handling.accept(*map(order, range(5)))]
    handling.settle()
    assert {handling.incident(each).status for each in closed} == {Status.RESOLVED}
    handling.later(days=30)
    everything = kept(handling)
    look(handling)  # its last day is not over
    assert kept(handling) == everything
    handling.later(days=1)
    look(handling)
    assert kept(handling) == staying
    assert handling.incident(failed).status is Status.FAILED
    assert handling.incident(asked).status is Status.AWAITING_APPROVAL
    count = REGISTRY.get_sample_value("nilometer_exceptions_kept", {"status": "failed"})
    assert count == 1


def test_each_project_has_its_own_retention_and_what_else_is_kept_as_long(handling):
    other = Accounts(handling.database).create_project("other").project_id
    with handling.database.session(EVERY_ROW) as session:
        session.get_one(Project, other).retention_days = 90
    handling.accept(order(1))
    late = handling.one(order(1), project=other)
    handling.settle()
    handling.later(days=40)
    told = {}
    others = [lambda project, before, _: told.setdefault(project, before) and 0]
    look(handling, others=others)
    assert kept(handling)[0] == 1
    assert handling.incident(late, other).status is Status.RESOLVED
    assert told[handling.project_id] - told[other] == timedelta(days=60)


def test_one_that_is_to_be_handled_again_is_not_closed(handling):
    given = handling.one()
    handling.settle()
    handling.later(days=40)
    handling.decide(decisions.reprocess, given)
    look(handling)
    handling.settle()
    assert handling.incident(given).status is Status.RESOLVED


def test_alerts_that_are_over_go_with_them(handling):
    given = AlertRule(
        "", "leak", kind=Kind.LEAKED_KEY, condition=Condition(Decimal(1), timedelta(hours=1))
    )
    rule = AlertRules(handling.database).add(handling.project_id, given).rule
    with handling.database.session(EVERY_ROW) as session:
        for number, recovered_at in enumerate([None, handling.now]):
            session.add(alert(handling, rule.id, number, recovered_at))
    handling.later(days=31)
    look(handling, others=[partial(expire, handling.database)])
    with handling.database.read(EVERY_ROW) as session:
        assert [row.recovered_at for row in session.scalars(select(AlertRow))] == [None]


def test_no_number_of_days_is_too_many(handling):
    assert ended_before(handling.now, 36500 * 30).year == 1
