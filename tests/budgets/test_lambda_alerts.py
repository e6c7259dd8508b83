"""How alerts without a server end, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from nilometer.budgets import dynamodb_items, lambda_handler, parsing
from nilometer.budgets.dynamodb_alerts import Alert, Alerts, counted, identity
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


class Interrupted:
    """A client of a table; something else happens just before it deletes."""

    def __init__(self, dynamodb: Any, meanwhile: Callable[[], None]) -> None:
        self._dynamodb = dynamodb
        self._meanwhile = meanwhile

    def delete_item(self, **given: Any) -> Any:
        self._meanwhile()
        return self._dynamodb.delete_item(**given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dynamodb, name)


def told(threshold: int) -> Notification:
    evaluation = evaluate(budget(), bounds(Period.MONTH, zone("UTC"), NOW), Spent())
    return lambda_handler.notification("one", evaluation, threshold)


def test_a_channel_that_was_given_up_stays_named_when_a_later_one_is_told(local: Table) -> None:
    slow = Channel(TemporaryFailure("down", code="http_503"))
    gone = Channel(PermanentFailure("gone", code="http_410"))
    alerts = Alerts(local.dynamodb, local.name, {"gone": gone, "slow": slow})
    assert alerts.fire(Alert("one", "1", "", told(100), ("gone", "slow")), NOW)
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


def test_what_waits_of_a_forgotten_alert_says_nothing_of_the_one_that_fired_since(
    local: Table,
) -> None:
    slow = Channel(TemporaryFailure("down", code="http_503"))
    down = Channel(TemporaryFailure("down", code="http_503"))
    alerts = Alerts(local.dynamodb, local.name, {"slow": slow, "down": down})
    month, spent = bounds(Period.MONTH, zone("UTC"), NOW), Spent(cost=Decimal(100), calls=1)
    cheap = evaluate(budget(id="one", amount=Decimal(100)), month, spent)
    dear = evaluate(budget(id="one", amount=Decimal(1000)), month, spent)
    name, what = identity(cheap, 100), counted(cheap.budget)
    assert alerts.fire(Alert(name, "100", what, told(100), ("slow",)), NOW)
    assert alerts.standing(cheap) == {100}
    assert alerts.standing(dear) == set()
    again = lambda_handler.notification("two", cheap, 100)
    assert alerts.fire(Alert(name, "100", what, again, ("down",)), NOW)
    assert alerts.deliver(NOW) == (0, 2)
    slow.fails = None
    assert alerts.deliver(NOW + timedelta(hours=1)) == (1, 1)
    [kept] = dynamodb_items.query(local.dynamodb, local.name, "ALERT#")
    assert kept["state"]["S"] == "waiting"


@pytest.mark.parametrize("release", ["this", "an earlier one"])
def test_an_alert_that_fires_between_a_look_and_a_deletion_stays(
    local: Table, release: str
) -> None:
    month, spent = bounds(Period.MONTH, zone("UTC"), NOW), Spent(cost=Decimal(100), calls=1)
    evaluation = evaluate(budget(id="one"), month, spent)
    name, alerts = identity(evaluation, 100), Alerts(local.dynamodb, local.name, {})
    if release == "this":
        assert alerts.fire(Alert(name, "100", "something else", told(100), ()), NOW)
    else:
        ghost = {**dynamodb_items.key(f"ALERT#{name}"), "state": {"S": "sent"}}
        local.dynamodb.put_item(TableName=local.name, Item=ghost)

    def meanwhile() -> None:
        assert alerts.standing(evaluation) == set()
        mine = Alert(name, "100", counted(evaluation.budget), told(100), ())
        assert alerts.fire(mine, NOW + timedelta(hours=1))

    slow: Any = Interrupted(local.dynamodb, meanwhile)
    assert Alerts(slow, local.name, {}).standing(evaluation) == set()
    assert alerts.standing(evaluation) == {100}


def test_what_another_function_has_ended_is_not_put_back(local: Table) -> None:
    class Overtaken(Channel):
        def send(self, notification: Notification) -> None:
            for item in dynamodb_items.query(local.dynamodb, local.name, "PENDING#"):
                where = {"PK": item["PK"], "SK": item["SK"]}
                local.dynamodb.delete_item(TableName=local.name, Key=where)

    down = Channel(TemporaryFailure("down", code="http_503"))
    alerts = Alerts(local.dynamodb, local.name, {"first": Overtaken(), "down": down})
    assert alerts.fire(Alert("one", "1", "", told(100), ("first", "down")), NOW)
    assert alerts.deliver(NOW) == (1, 1)
    assert list(dynamodb_items.query(local.dynamodb, local.name, "PENDING#")) == []


@pytest.mark.parametrize("sent", ["true", 1, None])
def test_a_hard_stop_that_is_no_boolean_is_refused_and_not_taken_for_none(sent: Any) -> None:
    parse: Callable[[Any], Any] = parsing.parse
    with pytest.raises(InvalidInput) as refused:
        parse({"name": "team", "amount_usd": "1", "period": "month", "hard_stop": sent})
    assert refused.value.attr == "hard_stop"
