"""Alert rules as the server keeps them, and the days that they tell of: each once, durably."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import sha256

from sqlalchemy import Select, delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from nilometer.access import audit
from nilometer.access.bounds import check_room
from nilometer.access.lookup import live_project, new_id
from nilometer.access.tables import Project
from nilometer.access.types import OPERATOR, Action, Authority
from nilometer.budgets.anomalies import Sensitivity
from nilometer.budgets.budget import plain
from nilometer.budgets.rule_tables import AlertRuleRow, UnusualDayRow
from nilometer.budgets.unusual import AlertRule, Finding
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW, rows_of_project
from nilometer.domain import clock
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import InvalidInput, NotFound
from nilometer.notifications.notification import Notification, Severity
from nilometer.notifications.outbox import check_channels, enqueue

KIND = "spend.unusual"
MAX_RULES = 20
"""Of one project."""
MAX_DAYS = 500
"""So many are listed at once."""


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule, and whose it is."""

    rule: AlertRule
    project_id: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class UnusualDay:
    """A day that was told of."""

    id: str
    rule_id: str
    project_id: int
    day: str
    value: str
    spent: Decimal
    expected: Decimal
    score: Decimal
    method: str
    fired_at: datetime


class AlertRules:
    """The rules that an authority may act on. Blocks; safe between threads.

    Every method raises DatabaseUnavailable, and NotFound for a project that is not the authority's,
    or a rule that is not the project's.
    """

    def __init__(self, database: Database, authority: Authority = OPERATOR) -> None:
        self._database = database
        self._authority = authority

    def acting_as(self, authority: Authority) -> AlertRules:
        """The same for somebody else."""
        return AlertRules(self._database, authority)

    def add(self, project_id: int, rule: AlertRule) -> StoredRule:
        """Add a rule; its id is given here. Raises InvalidInput, also for a name that another has
        (`name_taken`)."""
        now = clock.now()
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            mine = AlertRuleRow.project_id == project_id
            count = session.scalar(select(func.count()).where(mine)) or 0
            check_room(count, MAX_RULES, "alert rules of this project")
            if session.scalar(select(AlertRuleRow.id).where(mine, AlertRuleRow.name == rule.name)):
                raise InvalidInput(
                    "Another rule of this project has the name.", code="name_taken", attr="name"
                )
            channels = rule.channels
            told = None if channels is None else check_channels(session, project_id, channels)
            row = AlertRuleRow(
                id=new_id(),
                project_id=project_id,
                name=rule.name,
                dimension=rule.dimension,
                value=rule.value,
                score=rule.sensitivity.score,
                min_percent=rule.sensitivity.min_percent,
                min_amount=rule.sensitivity.min_amount,
                min_history=rule.sensitivity.min_history,
                channels=told,
                created_at=now,
            )
            session.add(row)
            self._record(session, Action.ALERT_RULE_ADD, project, row)
            session.flush()
            return _stored(row)

    def list(self, project_id: int) -> list[StoredRule]:
        """A project's rules, by name."""
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            query = select(AlertRuleRow).where(AlertRuleRow.project_id == project_id)
            return [_stored(row) for row in session.scalars(query.order_by(AlertRuleRow.name))]

    def remove(self, project_id: int, rule_id: str) -> None:
        """Remove a rule and what it told of."""
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            row = _row(session, project_id, rule_id)
            self._record(session, Action.ALERT_RULE_REMOVE, project, row)
            session.execute(delete(UnusualDayRow).where(UnusualDayRow.rule_id == row.id))
            session.delete(row)

    def days(self, project_id: int, limit: int = MAX_DAYS) -> list[UnusualDay]:
        """The unusual days that were told of, newest first."""
        query = select(UnusualDayRow).where(UnusualDayRow.project_id == project_id)
        order = (UnusualDayRow.fired_at.desc(), UnusualDayRow.day.desc(), UnusualDayRow.id)
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            return [_day(row) for row in session.scalars(query.order_by(*order).limit(limit))]

    def everything(self) -> list[StoredRule]:
        """Every project's; for who looks."""
        query = (
            select(AlertRuleRow)
            .join(Project, Project.id == AlertRuleRow.project_id)
            .where(Project.tombstoned_at.is_(None))
        )
        with self._database.read(EVERY_ROW) as session:
            return [_stored(row) for row in session.scalars(query.order_by(AlertRuleRow.id))]

    def fire(self, stored: StoredRule, findings: Iterable[Finding], now: datetime) -> int:
        """Tell of days that were not told of yet: how many. A day and its notifications are one
        transaction. Nothing is told of a rule that is gone."""
        return sum(self._fire(stored, _found(stored, each, now), each) for each in findings)

    def _fire(self, stored: StoredRule, row: UnusualDayRow, finding: Finding) -> bool:
        try:
            with self._database.session(rows_of_project(stored.project_id)) as session:
                gone = session.get(AlertRuleRow, stored.rule.id) is None
                if gone or session.scalar(_same(row)) is not None:
                    return False
                session.add(row)
                session.flush()
                told = _notification(stored, finding, row)
                enqueue(session, stored.project_id, told, stored.rule.channels)
        except IntegrityError:  # another worker was faster
            return False
        return True

    def forget(self, project_id: int) -> None:
        """Delete all rules of a project; for its deletion."""
        with self._database.session(rows_of_project(project_id)) as session:
            for table in (UnusualDayRow, AlertRuleRow):
                session.execute(delete(table).where(table.project_id == project_id))

    def _record(
        self, session: Session, action: Action, project: Project, row: AlertRuleRow
    ) -> None:
        # Not the value, which may be the name of a person.
        detail = {"name": row.name, "dimension": row.dimension}
        audit.record_of_project(
            session, self._authority, action, project, subject=row.id, detail=detail
        )


def _row(session: Session, project_id: int, rule_id: str) -> AlertRuleRow:
    try:
        row = session.get(AlertRuleRow, canonical_uuid(rule_id))
    except ValueError:
        row = None
    if row is None or row.project_id != project_id:
        raise NotFound("There is no such alert rule.", attr="rule_id")
    return row


def _stored(row: AlertRuleRow) -> StoredRule:
    rule = AlertRule(
        id=row.id,
        name=row.name,
        dimension=row.dimension,
        value=row.value,
        sensitivity=Sensitivity(
            score=row.score,
            min_percent=row.min_percent,
            min_amount=row.min_amount,
            min_history=row.min_history,
        ),
        channels=None if row.channels is None else tuple(row.channels),
    )
    return StoredRule(rule, row.project_id, row.created_at)


def _day(row: UnusualDayRow) -> UnusualDay:
    return UnusualDay(**{name: getattr(row, name) for name in UnusualDay.__slots__})


def _found(stored: StoredRule, finding: Finding, now: datetime) -> UnusualDayRow:
    return UnusualDayRow(
        id=new_id(),
        rule_id=stored.rule.id,
        project_id=stored.project_id,
        day=finding.day.isoformat(),
        subject=sha256(finding.value.encode("utf-8", "replace")).hexdigest(),
        value=finding.value,
        spent=finding.anomaly.value,
        expected=finding.anomaly.expected,
        score=finding.anomaly.score,
        method=finding.anomaly.method,
        fired_at=now,
    )


def _same(row: UnusualDayRow) -> Select[str]:
    return select(UnusualDayRow.id).where(
        UnusualDayRow.rule_id == row.rule_id,
        UnusualDayRow.day == row.day,
        UnusualDayRow.subject == row.subject,
    )


def _notification(stored: StoredRule, finding: Finding, row: UnusualDayRow) -> Notification:
    rule, anomaly = stored.rule, finding.anomaly
    of = f"{rule.dimension} {finding.value}" if finding.value else rule.dimension
    facts = {
        "rule": rule.name,
        "rule_id": rule.id,
        "dimension": rule.dimension,
        "value": finding.value,
        "day": row.day,
        "spent_usd": plain(anomaly.value),
        "expected_usd": plain(anomaly.expected),
        "score": plain(anomaly.score),
        "method": anomaly.method,
    }
    return Notification.new(
        id=row.id,
        kind=KIND,
        project_id=stored.project_id,
        title=f"Unusual spend on {row.day}: {of}",
        text=f"{plain(anomaly.value)} USD are spent on {row.day} (UTC) by calls of {of}; "
        f"{plain(anomaly.expected)} USD would be usual, by {anomaly.history} earlier days.",
        severity=Severity.WARNING,
        facts={name: value for name, value in facts.items() if value},
        occurred_at=row.fired_at,
    )
