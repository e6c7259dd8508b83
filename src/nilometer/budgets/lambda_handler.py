"""Budgets without a server: a function that a schedule, or the table's own stream, calls.

Each call looks at every budget, fires the thresholds that are reached, says how the budgets stand
(which the client library's hard stop reads) and sends what is to be told. Nothing is kept between
calls; two at once do no harm. Its variables are in docs/budgets.md.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from nilometer.budgets import dynamodb_items, parsing
from nilometer.budgets.budget import Budget, plain
from nilometer.budgets.dynamodb_alerts import Alert, Alerts, counted, identity
from nilometer.budgets.dynamodb_spend import DynamoSpend
from nilometer.budgets.environment_channels import channels_from
from nilometer.budgets.evaluation import Assessment, Evaluation, assess
from nilometer.domain import clock
from nilometer.dynamodb import client
from nilometer.dynamodb.reader import Reader
from nilometer.errors import ConfigurationError
from nilometer.notifications.notification import Notification, Severity

TABLE = "DYNAMODB_TABLE_NAME"
BUDGETS = "NILOMETER_BUDGETS"

MOST, FULL = 80, 100
_NAMESPACE = UUID("5d3f8a9e-0a53-5c1b-8a51-2f1f6f0f4f11")

logger = logging.getLogger(__name__)

Event = Mapping[str, Any]

# One a process: Lambda keeps it between calls.
_connections: dict[str, tuple[Any, Reader]] = {}


def handler(event: Event, context: object = None) -> dict[str, Any]:
    """Look at the budgets, unless the event is of the table's stream and of no usage. Raises when
    the store cannot be asked or a budget is none, so that the caller tries again or says so."""
    del context
    if not concerns_usage(event):
        return {"budgets": 0, "fired": [], "sent": 0, "waiting": 0}
    dynamodb, reader, table = _connected()
    now = clock.now()  # before anything is read: of two looks the later one saw no less
    budgets = _budgets(dynamodb, table)
    alerts = Alerts(dynamodb, table, channels_from(os.environ))
    assessments = assess(DynamoSpend(reader), budgets, now)
    dynamodb_items.put_standings(dynamodb, table, [each.current for each in assessments], now)
    fired = _fire(alerts, assessments)
    sent, waiting = alerts.deliver(clock.now())  # of now: what has just fired is due
    logger.info("budgets: %d looked at, %d alerts fired, %d sent", len(budgets), len(fired), sent)
    return {"budgets": len(budgets), "fired": fired, "sent": sent, "waiting": waiting}


def concerns_usage(event: Event) -> bool:
    """False for records of the table's stream of which none is a metric. What the function itself
    writes comes by that stream, too."""
    records = event.get("Records")
    if not isinstance(records, list):
        return True
    return any(_is_metric(each) for each in records)  # pyright: ignore[reportUnknownVariableType]


def _is_metric(record: Any) -> bool:
    try:
        return str(record["dynamodb"]["Keys"]["PK"]["S"]).startswith("AI_USAGE#")
    except (KeyError, TypeError):
        return True  # no stream's record, so a reason to look


def _fire(alerts: Alerts, assessments: list[Assessment]) -> list[str]:
    fired: list[str] = []
    now = clock.now()
    for each in (one for assessment in assessments for one in assessment.evaluations):
        for threshold in sorted(set(each.crossed) - alerts.standing(each)):
            alert = _alert(alerts, each, threshold, now)
            if alerts.fire(alert, now):
                fired.append(alert.identity)
    return fired


def _alert(alerts: Alerts, evaluation: Evaluation, threshold: int, now: datetime) -> Alert:
    """One that may be put; its id is kept with it. An alert that was forgotten and fires again is
    another, which a receiver must not take for the first."""
    name, amount = identity(evaluation, threshold), plain(evaluation.amount)
    told = notification(f"{name}#{amount}#{now.isoformat()}", evaluation, threshold)
    budget = evaluation.budget
    return Alert(name, amount, counted(budget), told, alerts.chosen(budget))


def notification(name: str, evaluation: Evaluation, threshold: int) -> Notification:
    """What is told of a threshold; its id is made of the name, so that a repetition is known."""
    budget, spent = evaluation.budget, evaluation.spent
    text = (
        f"{plain(spent.cost)} of {plain(evaluation.limit)} USD are spent in "
        f"{evaluation.bounds.name} ({budget.scope}), {evaluation.percent} percent."
    )
    if spent.unpriced:
        text += f" Besides, {spent.unpriced} calls have no known price."
    if evaluation.stops:
        text += " Calls are stopped."
    facts = {
        "budget": budget.name,
        "budget_id": budget.id,
        "scope": str(budget.scope),
        "period": evaluation.bounds.name,
        "threshold": f"{threshold}%",
        "spent_usd": plain(spent.cost),
        "limit_usd": plain(evaluation.limit),
        "unpriced_calls": spent.unpriced,
        "hard_stop": str(budget.hard_stop).lower(),
    }
    return Notification.new(
        id=str(uuid5(_NAMESPACE, name)),
        kind="budget.threshold",
        project_id=None,
        title=f"Budget {budget.name}: {threshold}% reached",
        text=text,
        severity=_severity(threshold),
        facts=facts,
    )


def _severity(threshold: int) -> Severity:
    if threshold >= FULL:
        return Severity.CRITICAL
    return Severity.WARNING if threshold >= MOST else Severity.INFO


def _budgets(dynamodb: Any, table: str) -> list[Budget]:
    """Those of the environment, else those in the table."""
    text = os.environ.get(BUDGETS, "").strip()
    if text:
        return parsing.parse_all(text)
    return dynamodb_items.stored(dynamodb, table)


def _connected() -> tuple[Any, Reader, str]:
    table = os.environ.get(TABLE, "")
    if not table:
        raise ConfigurationError(f"{TABLE} names the table, and is not set")
    if table not in _connections:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_DYNAMODB")
        dynamodb = client.connect(region=None, endpoint_url=endpoint)
        _connections[table] = dynamodb, Reader(dynamodb, table, keeps=False)
    return (*_connections[table], table)
