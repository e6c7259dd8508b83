"""How alerts without a server end, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from nilometer.budgets import dynamodb_items, lambda_handler
from nilometer.budgets.dynamodb_alerts import Alert, Alerts
from nilometer.budgets.evaluation import Assessment, evaluate
from nilometer.budgets.periods import Period, bounds, zone
from nilometer.budgets.spend import Spent
from nilometer.domain import clock
from nilometer.errors import InvalidInput
from nilometer.notifications.failures import PermanentFailure, TemporaryFailure
from nilometer.notifications.notification import Notification, Severity
from tests.budgets.making import budget, utc
from tests.dynamodb.conftest import Table, local, local_client

__all__ = ["local", "local_client"]

NOW = utc(2025, 7, 2)


class Channel:
    """Takes what it is sent, or fails so."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.fails = fails

    def send(self, notification: Notification) -> None:
        del notification
        if self.fails:
            raise self.fails


class Kept(Channel):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Notification] = []

    def send(self, notification: Notification) -> None:
        self.told.append(notification)


def told(threshold: int) -> Notification:
    evaluation = evaluate(budget(), bounds(Period.MONTH, zone("UTC"), NOW), Spent())
    return lambda_handler.notification("one", evaluation, threshold)


def test_a_channel_that_was_given_up_stays_named_when_a_later_one_is_told(local: Table) -> None:
    slow = Channel(TemporaryFailure("down", code="http_503"))
    gone = Channel(PermanentFailure("gone", code="http_410"))
    alerts = Alerts(local.dynamodb, local.name, {"gone": gone, "slow": slow})
    assert alerts.fire(Alert("one", "1", told(100), ("gone", "slow")), NOW)
    assert alerts.deliver(NOW) == (0, 1)
    slow.fails = None
    assert alerts.deliver(NOW + timedelta(hours=1)) == (1, 0)
    [kept] = dynamodb_items.query(local.dynamodb, local.name, "ALERT#")
    assert kept["state"]["S"] == "gone: http_410"


@pytest.mark.parametrize(
    ("threshold", "severity"),
    [(50, Severity.INFO), (79, Severity.INFO), (80, Severity.WARNING), (100, Severity.CRITICAL)],
)
def test_the_severity_is_that_of_a_servers_alert(threshold: int, severity: Severity) -> None:
    assert told(threshold).severity is severity


def test_an_alert_that_fires_again_is_another_to_its_receivers(
    local: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts = Alerts(local.dynamodb, local.name, {"ops": (ops := Kept())})
    monkeypatch.setattr(clock, "now", lambda: at)
    month, spent = bounds(Period.MONTH, zone("UTC"), NOW), Spent(cost=Decimal(100), calls=1)
    for day, amount in enumerate((100, 1000, 100)):
        at = NOW + timedelta(days=day)
        evaluation = evaluate(budget(id="one", amount=Decimal(amount)), month, spent)
        lambda_handler._fire(alerts, [Assessment(evaluation, None)])
        alerts.deliver(at)
    hundred = [each.id for each in ops.told if each.facts["threshold"] == "100%"]
    assert len(hundred) == len(set(hundred)) == 2


@pytest.mark.parametrize("sent", ["true", 1, None])
def test_a_hard_stop_that_is_no_boolean_is_refused_and_not_taken_for_none(sent: Any) -> None:
    parse: Callable[[Any], Any] = dynamodb_items.parse
    with pytest.raises(InvalidInput) as refused:
        parse({"name": "team", "amount_usd": "1", "period": "month", "hard_stop": sent})
    assert refused.value.attr == "hard_stop"
