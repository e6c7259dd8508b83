"""Conditions that are looked at: they break, fire and recover, each once, durably.

What became of every condition of a rule, the exceptions and what is told are one transaction; that
of a rule and subject one breach at most is open, the database itself says. Where they cannot be
carried out together, each is for itself: what is wrong with one thing silences no other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from nilometer.access.lookup import new_id
from nilometer.access.tables import Project
from nilometer.alerts import telling
from nilometer.alerts.condition import Reading, Standing, Step, breaks, step
from nilometer.alerts.rule import AlertRule
from nilometer.alerts.rules import StoredRule
from nilometer.alerts.tables import AlertRow, AlertRuleRow
from nilometer.budgets.raising import Raise, unheard
from nilometer.database.engine import Database
from nilometer.database.fence import rows_of_project
from nilometer.domain import keepable
from nilometer.errors import Unavailable
from nilometer.pipeline.batch import located

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Due:
    """Something to be done. `row` is the open breach, None where one begins; `reading` is None
    where a thing was not measured any more. `digest` is that of its subject."""

    step: Step
    digest: str
    row: AlertRow | None
    reading: Reading | None


def settle(
    database: Database,
    stored: StoredRule,
    readings: Sequence[Reading],
    now: datetime,
    raising: Raise = unheard,
) -> int:
    """Carry out what follows from readings of a rule: how many alerts fired or recovered. Nothing
    of a rule that is gone. Raises DatabaseUnavailable; then nothing happened."""
    readings = [_keepable(each) for each in readings]
    with database.read(rows_of_project(stored.project_id)) as session:
        subjects = [each.digest for each in _due(session, stored.rule, readings, now)]
    if not subjects:
        return 0
    look = partial(_settle, database, stored, readings, now, raising)
    try:
        return look(frozenset(subjects))
    except Unavailable:
        raise
    except Exception:
        if len(subjects) == 1:
            raise
        return sum([_alone(stored, look, each) for each in subjects])


def _alone(stored: StoredRule, look: Callable[[frozenset[str]], int], subject: str) -> int:
    try:
        return look(frozenset({subject}))
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001  (what is wrong with one is no other's)
        _log.error("one thing of alert rule %s is left out: %s", stored.rule.id, located(error))
        return 0


def _settle(
    database: Database,
    stored: StoredRule,
    readings: Sequence[Reading],
    now: datetime,
    raising: Raise,
    subjects: frozenset[str],
) -> int:
    """Do what is due of these subjects, whole or not at all."""

    def due(session: Session) -> list[_Due]:
        found = _due(session, stored.rule, readings, now)
        return [each for each in found if each.digest in subjects]

    rows = rows_of_project(stored.project_id)
    try:
        with database.session(rows) as session:
            if not _is_there(session, stored):
                return 0
            return sum([_carry_out(session, stored, each, now, raising) for each in due(session)])
    except IntegrityError:
        with database.read(rows) as session:
            if due(session):
                raise
        return 0  # another worker was faster


def _keepable(reading: Reading) -> Reading:
    """What senders name may hold NUL, which no text of PostgreSQL does."""
    facts = {name: keepable.text(value) for name, value in reading.facts.items()}
    return replace(reading, subject=keepable.text(reading.subject), facts=facts)


def _is_there(session: Session, stored: StoredRule) -> bool:
    query = (
        select(AlertRuleRow.id)
        .join(Project, Project.id == AlertRuleRow.project_id)
        .where(AlertRuleRow.id == stored.rule.id, Project.tombstoned_at.is_(None))
    )
    return session.scalar(query) is not None


def _due(
    session: Session, rule: AlertRule, readings: Sequence[Reading], now: datetime
) -> list[_Due]:
    is_open = select(AlertRow).where(AlertRow.rule_id == rule.id, AlertRow.recovered_at.is_(None))
    standing = {row.subject_digest: row for row in session.scalars(is_open)}
    measured = {each.digest: each for each in readings}
    broken = {digest for digest, each in measured.items() if breaks(rule, each)}
    last = _last_fired(session, rule)
    due: list[_Due] = []
    for digest in dict.fromkeys([*measured, *standing]):
        row = standing.get(digest)
        stood = Standing(last_fired_at=last.get(digest))
        if row is not None:
            stood = replace(stood, since=row.broken_at, fired=row.fired_at is not None)
        follows = step(rule, stood, broken=digest in broken, now=now)
        if follows is not Step.NOTHING:
            due.append(_Due(follows, digest, row, measured.get(digest)))
    return due


def _last_fired(session: Session, rule: AlertRule) -> Mapping[str, datetime | None]:
    if rule.condition is None or not rule.condition.cooldown:
        return {}
    query = (
        select(AlertRow.subject_digest, func.max(AlertRow.fired_at))
        .where(AlertRow.rule_id == rule.id, AlertRow.fired_at.is_not(None))
        .group_by(AlertRow.subject_digest)
    )
    return {row[0]: row[1] for row in session.execute(query)}


def _carry_out(
    session: Session, stored: StoredRule, due: _Due, now: datetime, raising: Raise
) -> bool:
    """Whether something was told."""
    if due.step is Step.RECOVER:
        return _recover(session, stored, due, now)
    assert due.reading is not None, "what was not measured breaks nothing"
    row = due.row or _begin(session, stored, due.reading, now)
    if due.step is Step.BEGIN:
        return False
    reading = due.reading
    row.measured, row.calls, row.facts = reading.measured, reading.calls, dict(reading.facts)
    row.fired_at = now
    row.exception_id = telling.fired(
        session, stored, telling.breach(stored.rule, row, now), raising
    )
    return True


def _begin(session: Session, stored: StoredRule, reading: Reading, now: datetime) -> AlertRow:
    row = AlertRow(
        id=new_id(),
        rule_id=stored.rule.id,
        project_id=stored.project_id,
        subject=reading.subject,
        subject_digest=reading.digest,
        broken_at=now,
        measured=reading.measured,
        calls=reading.calls,
        facts=dict(reading.facts),
        fired_at=None,
        recovered_at=None,
        exception_id=None,
    )
    session.add(row)
    session.flush()
    return row


def _recover(session: Session, stored: StoredRule, due: _Due, now: datetime) -> bool:
    assert due.row is not None, "what did not break does not recover"
    if due.row.fired_at is None:  # it did not hold for long enough, and nobody heard of it
        session.delete(due.row)
        return False
    due.row.recovered_at = now
    measured = due.reading.measured if due.reading else None
    telling.recovered(session, stored, telling.recovery(stored.rule, due.row, measured, now))
    return True
