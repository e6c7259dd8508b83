"""Alert rules as the server keeps them, and what they told of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from nilometer.access import audit
from nilometer.access.bounds import check_room
from nilometer.access.lookup import live_project, new_id
from nilometer.access.tables import Project
from nilometer.access.types import OPERATOR, Action, Authority
from nilometer.alerts.anomalies import DEFAULT, Sensitivity
from nilometer.alerts.rule import AlertRule, Condition, RaisedAs
from nilometer.alerts.tables import AlertRow, AlertRuleRow, FailureRow, UnusualDayRow
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW, rows_of_project
from nilometer.domain import clock
from nilometer.domain.identity import canonical_uuid
from nilometer.errors import InvalidInput, NotFound
from nilometer.notifications.outbox import check_channels

MAX_RULES = 50
"""Of one project."""
MAX_LISTED = 500
"""So many days or alerts are listed at once."""

# What the release before kinds reads of a rule of another kind: that it tells of no day.
_NEVER = Decimal(10) ** 9


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
    exception_id: str | None


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition that is broken since `broken_at`, or was; see `AlertRow`."""

    id: str
    rule_id: str
    project_id: int
    subject: str
    broken_at: datetime
    measured: Decimal
    calls: int
    facts: Mapping[str, str]
    fired_at: datetime | None
    recovered_at: datetime | None
    exception_id: str | None


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
            row = _new_row(project_id, rule, told, now)
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
            for table in (AlertRow, UnusualDayRow):
                session.execute(delete(table).where(table.rule_id == row.id))
            session.delete(row)

    def days(self, project_id: int, limit: int = MAX_LISTED) -> list[UnusualDay]:
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

    def alerts(
        self, project_id: int, *, rule_id: str | None = None, limit: int = MAX_LISTED
    ) -> list[Alert]:
        """What broke and was told of, or may still be, newest first; of one rule, where one is
        given."""
        query = select(AlertRow).where(AlertRow.project_id == project_id)
        order = (AlertRow.broken_at.desc(), AlertRow.id)
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            if rule_id is not None:
                query = query.where(AlertRow.rule_id == _row(session, project_id, rule_id).id)
            return [_alert(row) for row in session.scalars(query.order_by(*order).limit(limit))]

    def forget(self, project_id: int) -> None:
        """Delete all rules of a project; for its deletion."""
        with self._database.session(rows_of_project(project_id)) as session:
            for table in (AlertRow, UnusualDayRow, AlertRuleRow, FailureRow):
                session.execute(delete(table).where(table.project_id == project_id))

    def _record(
        self, session: Session, action: Action, project: Project, row: AlertRuleRow
    ) -> None:
        # Not the value, which may be the name of a person.
        detail = {"name": row.name, "kind": row.kind, "dimension": row.dimension}
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


def _new_row(
    project_id: int, rule: AlertRule, channels: list[str] | None, now: datetime
) -> AlertRuleRow:
    condition, how, raised_as = rule.condition, rule.sensitivity, rule.raised_as
    of_days = condition is None
    return AlertRuleRow(
        id=new_id(),
        project_id=project_id,
        name=rule.name,
        kind=rule.kind,
        dimension=rule.dimension,
        value=rule.value,
        filters=dict(rule.filters),
        score=how.score,
        min_percent=how.min_percent,
        min_amount=how.min_amount if of_days else _NEVER,
        min_history=how.min_history,
        channels=channels,
        created_at=now,
        threshold=condition and condition.threshold,
        window_seconds=condition and _seconds(condition.window),
        min_calls=condition and condition.min_calls,
        for_seconds=condition and _seconds(condition.holds_for),
        cooldown_seconds=condition and _seconds(condition.cooldown),
        raise_exception=raised_as is not None,
        exception_type=raised_as and raised_as.exception_type,
        severity=raised_as and raised_as.severity,
    )


def _stored(row: AlertRuleRow) -> StoredRule:
    rule = AlertRule(
        id=row.id,
        name=row.name,
        dimension=row.dimension,
        value=row.value,
        sensitivity=_sensitivity(row),
        channels=None if row.channels is None else tuple(row.channels),
        kind=row.kind,
        condition=_condition(row),
        filters=row.filters,
        raised_as=_raised_as(row),
    )
    return StoredRule(rule, row.project_id, row.created_at)


def _sensitivity(row: AlertRuleRow) -> Sensitivity:
    if row.threshold is not None:
        return DEFAULT
    return Sensitivity(
        score=row.score,
        min_percent=row.min_percent,
        min_amount=row.min_amount,
        min_history=row.min_history,
    )


def _condition(row: AlertRuleRow) -> Condition | None:
    if row.threshold is None:
        return None
    return Condition(
        threshold=row.threshold,
        window=timedelta(seconds=row.window_seconds or 0),
        min_calls=row.min_calls or 0,
        holds_for=timedelta(seconds=row.for_seconds or 0),
        cooldown=timedelta(seconds=row.cooldown_seconds or 0),
    )


def _raised_as(row: AlertRuleRow) -> RaisedAs | None:
    if not row.raise_exception:
        return None
    return RaisedAs(row.exception_type or "", row.severity or "")


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())


def _day(row: UnusualDayRow) -> UnusualDay:
    return UnusualDay(**{name: getattr(row, name) for name in UnusualDay.__slots__})


def _alert(row: AlertRow) -> Alert:
    return Alert(**{name: getattr(row, name) for name in Alert.__slots__})
