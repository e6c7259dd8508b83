"""Thresholds that are reached fire: once a period, durably, with what is to be told.

The alert and the notifications of it are one transaction, so neither is there without the other;
that an alert is the only one of its threshold and period, the database itself says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from nilometer.access.lookup import new_id
from nilometer.access.tables import Project
from nilometer.budgets.budget import plain
from nilometer.budgets.evaluation import Evaluation
from nilometer.budgets.raising import Raise, Raised, unheard
from nilometer.budgets.store import StoredBudget
from nilometer.budgets.tables import BudgetAlertRow, BudgetRow
from nilometer.database.engine import Database
from nilometer.database.fence import rows_of_project
from nilometer.notifications.notification import Notification, Severity
from nilometer.notifications.outbox import enqueue

KIND = "budget.threshold"
EXCEPTION = "runaway_spend"
"""The type of the exception that a budget raises."""

_WARNING = 80
_CRITICAL = 100
_RAISED_AS = {Severity.INFO: "low", Severity.WARNING: "medium", Severity.CRITICAL: "high"}


@dataclass(frozen=True, slots=True)
class _Due:
    """What an evaluation changes: thresholds to fire, and alerts that have lapsed."""

    thresholds: tuple[int, ...]
    lapsed: tuple[BudgetAlertRow, ...]

    def __bool__(self) -> bool:
        return bool(self.thresholds or self.lapsed)


def is_due(database: Database, stored: StoredBudget, evaluation: Evaluation) -> bool:
    """Whether `fire` would do anything; only reads."""
    with database.read(rows_of_project(stored.project_id)) as session:
        return bool(_due(session, evaluation))


def fire(
    database: Database,
    stored: StoredBudget,
    evaluation: Evaluation,
    now: datetime,
    raising: Raise = unheard,
) -> tuple[int, ...]:
    """Fire the thresholds that are reached and have not fired in the period; those that did now.
    Where the budget raises exceptions, the highest of them raises one.

    Nothing fires of a budget that was changed or removed since it was read: the next evaluation
    sees it as it is. Raises DatabaseUnavailable; then nothing fired.
    """
    with database.session(rows_of_project(stored.project_id)) as session:
        if not _is_current(session, stored):
            return ()
        due = _due(session, evaluation)
        for row in due.lapsed:
            row.lapsed_at = now
        session.flush()
        for threshold in due.thresholds:
            alert = _alert(stored, evaluation, threshold, now)
            session.add(alert)
            session.flush()
            told = _notification(stored, evaluation, alert)
            enqueue(session, stored.project_id, told, evaluation.budget.channels)
            if evaluation.budget.raise_exception and threshold == due.thresholds[-1]:
                raised = _raised(evaluation, alert, told)
                alert.exception_id = raising(session, stored.project_id, raised)
        return due.thresholds


def _is_current(session: Session, stored: StoredBudget) -> bool:
    query = (
        select(BudgetRow.updated_at)
        .join(Project, Project.id == BudgetRow.project_id)
        .where(BudgetRow.id == stored.budget.id, Project.tombstoned_at.is_(None))
    )
    return session.scalar(query) == stored.updated_at


def _due(session: Session, evaluation: Evaluation) -> _Due:
    query = select(BudgetAlertRow).where(
        BudgetAlertRow.budget_id == evaluation.budget.id,
        BudgetAlertRow.period_start == evaluation.bounds.start,
        BudgetAlertRow.lapsed_at.is_(None),
    )
    standing = {row.threshold: row for row in session.scalars(query)}
    lapsed = tuple(row for row in standing.values() if _has_lapsed(row, evaluation))
    return _Due(tuple(each for each in evaluation.crossed if each not in standing), lapsed)


def _has_lapsed(row: BudgetAlertRow, evaluation: Evaluation) -> bool:
    return row.amount != evaluation.amount and not evaluation.reaches(row.threshold)


def _alert(
    stored: StoredBudget, evaluation: Evaluation, threshold: int, now: datetime
) -> BudgetAlertRow:
    return BudgetAlertRow(
        id=new_id(),
        budget_id=stored.budget.id,
        project_id=stored.project_id,
        period_start=evaluation.bounds.start,
        period_end=evaluation.bounds.end,
        period_name=evaluation.bounds.name,
        threshold=threshold,
        amount=evaluation.amount,
        spend_limit=evaluation.limit,
        spent=evaluation.spent.cost,
        calls=evaluation.spent.calls,
        unpriced=evaluation.spent.unpriced,
        fired_at=now,
        lapsed_at=None,
        exception_id=None,
    )


def _notification(
    stored: StoredBudget, evaluation: Evaluation, alert: BudgetAlertRow
) -> Notification:
    budget, period = evaluation.budget, evaluation.bounds
    return Notification.new(
        id=alert.id,
        kind=KIND,
        project_id=stored.project_id,
        title=f"Budget {budget.name}: {alert.threshold}% of {plain(evaluation.limit)} USD is spent "
        f"({period.name})",
        text="\n".join(_sentences(evaluation)),
        severity=_severity(alert.threshold),
        facts=_facts(evaluation, alert),
        occurred_at=alert.fired_at,
    )


def _raised(evaluation: Evaluation, alert: BudgetAlertRow, told: Notification) -> Raised:
    return Raised(
        exception_type=EXCEPTION,
        severity=_RAISED_AS[told.severity],
        occurred_at=alert.fired_at,
        key=f"budget_alert:{alert.id}",
        actor=alert.budget_id,
        payload={"alert_id": alert.id, "title": told.title, **_facts(evaluation, alert)}
        | {"percent": plain(evaluation.percent)},
    )


def _sentences(evaluation: Evaluation) -> Iterable[str]:
    budget, spent = evaluation.budget, evaluation.spent
    yield (
        f"{plain(spent.cost)} of {plain(evaluation.limit)} USD are spent ({evaluation.percent}%), "
        f"by {spent.calls} calls of {budget.scope}."
    )
    if spent.unpriced:
        yield f"{spent.unpriced} of them have no known price: what they cost is not in it."
    if evaluation.forecast is not None:
        forecast = evaluation.forecast
        yield f"At the rate of the last week it will be {plain(forecast.cost)} USD at the end."
        if forecast.limit_at is not None:
            yield f"The limit will be reached at {_moment(forecast.limit_at)}."
    if evaluation.stops:
        yield f"Calls are stopped until the period ends, at {_moment(evaluation.bounds.end)}."


def _facts(evaluation: Evaluation, alert: BudgetAlertRow) -> dict[str, object]:
    budget, spent, forecast = evaluation.budget, evaluation.spent, evaluation.forecast
    facts: dict[str, object] = {
        "budget": budget.name,
        "budget_id": budget.id,
        "scope": budget.scope.kind,
        "value": budget.scope.value,
        "period": evaluation.bounds.name,
        "period_start": _moment(evaluation.bounds.start),
        "period_end": _moment(evaluation.bounds.end),
        "threshold": alert.threshold,
        "percent": evaluation.percent,
        "spent_usd": plain(spent.cost),
        "limit_usd": plain(evaluation.limit),
        "carried_usd": plain(evaluation.carried),
        "calls": spent.calls,
        "unpriced_calls": spent.unpriced,
        "stopped": "yes" if evaluation.stops else "no",
    }
    if forecast is not None:
        facts |= {"forecast_usd": plain(forecast.cost), "forecast_method": forecast.method}
    return {name: value for name, value in facts.items() if value != ""}


def _severity(threshold: int) -> Severity:
    if threshold >= _CRITICAL:
        return Severity.CRITICAL
    return Severity.WARNING if threshold >= _WARNING else Severity.INFO


def _moment(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
