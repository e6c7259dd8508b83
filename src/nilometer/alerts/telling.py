"""What is told when a rule fires, in the transaction that decided it: the exception that it raises,
and the notification of its channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy.orm import Session

from nilometer.access.lookup import new_id
from nilometer.alerts.kinds import Source
from nilometer.alerts.rule import AlertRule
from nilometer.alerts.rules import StoredRule
from nilometer.alerts.tables import AlertRow
from nilometer.budgets.budget import plain
from nilometer.budgets.raising import Raise, Raised
from nilometer.notifications.notification import Notification, Severity
from nilometer.notifications.outbox import enqueue

FIRED = "alert.fired"
RECOVERED = "alert.recovered"
COUNTED = frozenset({Source.CALLS, Source.SCORES})
"""What is measured of so many calls, or metrics; of the others the number is what is measured."""

_SEVERITIES = {
    "low": Severity.INFO,
    "medium": Severity.WARNING,
    "high": Severity.CRITICAL,
    "critical": Severity.CRITICAL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a rule tells of. `id` is the alert's, `kind` the notification's."""

    id: str
    kind: str
    title: str
    text: str
    severity: Severity
    facts: Mapping[str, str]
    at: datetime


def fired(session: Session, stored: StoredRule, event: Event, raising: Raise) -> str | None:
    """Tell of it: the id of the exception that was raised, None for none."""
    enqueue(session, stored.project_id, _notification(stored, event), stored.rule.channels)
    how = stored.rule.raised_as
    if how is None:
        return None
    raised = Raised(
        exception_type=how.exception_type,
        severity=how.severity,
        occurred_at=event.at,
        key=f"alert:{event.id}",
        actor=stored.rule.id,
        payload={"alert_id": event.id, "title": event.title, **event.facts},
    )
    return raising(session, stored.project_id, raised)


def recovered(session: Session, stored: StoredRule, event: Event) -> None:
    """Tell channels that it is over. The exception goes its own way."""
    enqueue(session, stored.project_id, _notification(stored, event), stored.rule.channels)


def breach(rule: AlertRule, row: AlertRow, at: datetime) -> Event:
    """A condition that broke, as its row has it."""
    return Event(
        id=row.id,
        kind=FIRED,
        title=_line(rule, row.subject),
        text=_sentence(rule, row.measured),
        severity=severity(rule),
        facts=_facts(rule, row.subject, row.measured)
        | ({"calls": str(row.calls)} if rule.measure.source in COUNTED else {})
        | row.facts,
        at=at,
    )


def recovery(rule: AlertRule, row: AlertRow, measured: Decimal | None, at: datetime) -> Event:
    """A condition that fired and holds no more; None where nothing more was measured."""
    return Event(
        id=new_id(),
        kind=RECOVERED,
        title=f"Recovered: {_line(rule, row.subject)}",
        text="Nothing more was measured." if measured is None else _sentence(rule, measured),
        severity=Severity.INFO,
        facts=_facts(rule, row.subject, measured) | {"alert_id": row.id},
        at=at,
    )


def severity(rule: AlertRule) -> Severity:
    """How much it matters to who is told."""
    stated = rule.raised_as.severity if rule.raised_as else rule.measure.severity
    return _SEVERITIES[stated]


def _line(rule: AlertRule, subject: str) -> str:
    of = f" ({rule.dimension} {subject})" if subject and rule.each else ""
    return f"Alert {rule.name}{of}"


def _sentence(rule: AlertRule, measured: Decimal) -> str:
    condition = rule.condition
    assert condition is not None, "days have sentences of their own"
    unit = f" {rule.measure.unit}" if rule.measure.unit else ""
    side = "below" if rule.measure.below else "at or above"
    minutes = condition.window.total_seconds() / 60
    return (
        f"Over the last {minutes:g} minutes {rule.measure.what} is {plain(measured)}{unit}; the "
        f"rule fires {side} {plain(condition.threshold)}{unit}."
    )


def _facts(rule: AlertRule, subject: str, measured: Decimal | None) -> dict[str, str]:
    condition = rule.condition
    assert condition is not None, "days have facts of their own"
    facts = {
        "rule": rule.name,
        "rule_id": rule.id,
        "kind": rule.kind.value,
        "measured": "" if measured is None else plain(measured),
        rule.measure.name: "" if measured is None else plain(measured),
        "threshold": plain(condition.threshold),
        "window_seconds": str(int(condition.window.total_seconds())),
        **rule.named,
    }
    if rule.each:
        facts[rule.each] = subject
    return {name: value for name, value in facts.items() if value}


def _notification(stored: StoredRule, event: Event) -> Notification:
    return Notification.new(
        id=event.id,
        kind=event.kind,
        project_id=stored.project_id,
        title=event.title,
        text=event.text,
        severity=event.severity,
        facts=event.facts,
        occurred_at=event.at,
    )
