"""Days of unusual spend that a rule finds: each is told once, durably."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from hashlib import sha256

from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError

from nilometer.access.lookup import new_id
from nilometer.alerts import telling
from nilometer.alerts.rules import StoredRule
from nilometer.alerts.tables import AlertRuleRow, UnusualDayRow
from nilometer.alerts.unusual import Finding
from nilometer.budgets.budget import plain
from nilometer.budgets.raising import Raise, unheard
from nilometer.database.engine import Database
from nilometer.database.fence import rows_of_project
from nilometer.domain import keepable
from nilometer.notifications.notification import Severity

KIND = "spend.unusual"


def tell(
    database: Database,
    stored: StoredRule,
    findings: Iterable[Finding],
    now: datetime,
    raising: Raise = unheard,
) -> int:
    """Tell of days that were not told of yet: how many. A day, its exception and its notifications
    are one transaction. Nothing is told of a rule that is gone."""
    # What senders name may hold NUL, which no text of PostgreSQL does.
    named = [replace(each, value=keepable.text(each.value)) for each in findings]
    return sum([_tell(database, stored, each, now, raising) for each in named])


def _tell(
    database: Database, stored: StoredRule, finding: Finding, now: datetime, raising: Raise
) -> bool:
    row = _found(stored, finding, now)
    rows = rows_of_project(stored.project_id)
    try:
        with database.session(rows) as session:
            gone = session.get(AlertRuleRow, stored.rule.id) is None
            if gone or session.scalar(_same(row)) is not None:
                return False
            session.add(row)
            session.flush()
            row.exception_id = telling.fired(session, stored, _event(stored, finding, row), raising)
    except IntegrityError:
        with database.read(rows) as session:
            if session.scalar(_same(row)) is None:
                raise
        return False  # another worker was faster
    return True


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
        exception_id=None,
    )


def _same(row: UnusualDayRow) -> Select[str]:
    return select(UnusualDayRow.id).where(
        UnusualDayRow.rule_id == row.rule_id,
        UnusualDayRow.day == row.day,
        UnusualDayRow.subject == row.subject,
    )


def _event(stored: StoredRule, finding: Finding, row: UnusualDayRow) -> telling.Event:
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
    return telling.Event(
        id=row.id,
        kind=KIND,
        title=f"Unusual spend on {row.day}: {of}",
        text=f"{plain(anomaly.value)} USD are spent on {row.day} (UTC) by calls of {of}; "
        f"{plain(anomaly.expected)} USD would be usual, by {anomaly.history} earlier days.",
        severity=Severity.WARNING,
        facts={name: value for name, value in facts.items() if value},
        at=row.fired_at,
    )
