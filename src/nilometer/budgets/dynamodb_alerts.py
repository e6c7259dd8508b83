"""Alerts without a server: each fires once, and is told until every channel has taken it.

An alert and what is still to be told of it are put in one transaction, on the condition that the
alert is not there: however many functions look at once, one of them fires it. What is pending is
sent by whoever leases it first; a function that dies while it sends leaves the rest to the next.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nilometer.budgets.budget import Budget, plain
from nilometer.budgets.dynamodb_items import ALERT_DAYS, Item, held, key, query
from nilometer.budgets.evaluation import Evaluation
from nilometer.dynamodb import client, schema
from nilometer.notifications.channels import Channel
from nilometer.notifications.failures import DeliveryFailure, PermanentFailure, TemporaryFailure
from nilometer.notifications.notification import Notification

GIVE_UP_AFTER = timedelta(hours=24)
"""How long a channel is tried."""
LEASE = timedelta(minutes=3)
"""How long a sender has what it sends for itself: longer than a function may run."""

_NOT_THERE = "attribute_not_exists(PK)"
_THERE = "attribute_exists(PK)"
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 1800.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold that a budget of this amount, which counts this, reached in a period."""

    identity: str
    amount: str
    counted: str
    notification: Notification
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Pending:
    """What is to be told yet of the alert `alert`, as it is stored: `told` is the notification as
    JSON, `due_at` and `give_up_at` are in seconds, `failed` is the last channel that was given up,
    "" for none."""

    identity: str
    alert: str
    due_at: int
    attempts: int
    give_up_at: int
    channels: list[str]
    failed: str
    told: str


class Alerts:
    """The alerts of one table. `channels` are where to send, by name."""

    def __init__(self, dynamodb: Any, table: str, channels: Mapping[str, Channel]) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._channels = channels

    def standing(self, evaluation: Evaluation) -> set[int]:
        """The thresholds that this budget has fired in this period. One is forgotten, and may fire
        again, when the budget's amount was changed since and has it not reached, and when it was
        that of another budget with the same id. What is pending of it is told all the same."""
        found: set[int] = set()
        for item in query(self._dynamodb, self._table, f"ALERT#{period_part(evaluation)}#"):
            if _stands(item, evaluation):
                found.add(_threshold(item))
            else:
                self._forget(item)
        return found

    def chosen(self, budget: Budget) -> tuple[str, ...]:
        """The channels that a budget's alerts are told to: by default all."""
        return tuple(self._channels) if budget.channels is None else budget.channels

    def fire(self, alert: Alert, now: datetime) -> bool:
        """Put an alert, and what is to be told of it; False when it was there."""
        told = json.dumps(alert.notification.to_json())
        expires = int((now + timedelta(days=ALERT_DAYS)).timestamp())
        item: Item = {
            **key(f"ALERT#{alert.identity}"),
            "notification": {"S": told},
            "amount": {"S": alert.amount},
            "counted": {"S": alert.counted},
            "fired_at": {"S": now.isoformat()},
            "state": {"S": "waiting" if alert.channels else "sent"},
            schema.TTL: {"N": str(expires)},
        }
        put = {"TableName": self._table}
        actions = [{"Put": {**put, "Item": item, "ConditionExpression": _NOT_THERE}}]
        if alert.channels:
            actions.append({"Put": {**put, "Item": _pending_item(alert, told, now)}})
        return self._written(actions)

    def deliver(self, now: datetime) -> tuple[int, int]:
        """Send what is due: how many were taken by a channel, and how many alerts still wait."""
        sent, waiting = 0, 0
        for item in query(self._dynamodb, self._table, "PENDING#"):
            pending = _pending(item)
            if pending.due_at > now.timestamp() or not self._leased(pending, now):
                waiting += 1
                continue
            taken, left = self._send(pending, now)
            sent += taken
            waiting += bool(left)
        return sent, waiting

    def _forget(self, item: Item) -> None:
        """Delete an alert, unless it has fired anew since it was read."""
        fired = item.get("fired_at")
        values = {"ExpressionAttributeValues": {":fired": fired}} if fired else {}
        held(
            self._dynamodb.delete_item,
            TableName=self._table,
            Key={"PK": item["PK"], "SK": item["SK"]},
            ConditionExpression="fired_at = :fired" if fired else "attribute_not_exists(fired_at)",
            **values,
        )

    def _send(self, pending: _Pending, now: datetime) -> tuple[int, list[str]]:
        """Tell every channel that has not heard; how many took it, and which are left."""
        sent, left, pause = 0, list(pending.channels), 0.0
        failed = pending.failed
        notification = Notification.from_json(json.loads(pending.told))
        for name in pending.channels:
            try:
                self._tell(name, notification)
                sent += 1
            except DeliveryFailure as error:
                if isinstance(error, TemporaryFailure):
                    pause = max(pause, error.retry_after or 0.0)
                    if now.timestamp() < pending.give_up_at:
                        _log.warning("channel %s: %s", name, error.detail)
                        continue
                failed = f"{name}: {error.code}"
                _log.error("a budget's alert was not taken by the channel %s", failed)
            left.remove(name)
            self._progress(pending, left, failed)
        if left:
            self._put_off(pending, now, pause)
        return sent, left

    def _tell(self, name: str, notification: Notification) -> None:
        channel = self._channels.get(name)
        if channel is None:
            raise PermanentFailure("There is no such channel.", code="no_channel")
        channel.send(notification)

    def _leased(self, pending: _Pending, now: datetime) -> bool:
        """Whether it is ours to send: nobody else has taken it since it was read."""
        return held(
            self._dynamodb.update_item,
            TableName=self._table,
            Key=key(f"PENDING#{pending.identity}"),
            UpdateExpression="SET due_at = :until, attempts = :attempts",
            ConditionExpression="due_at = :seen AND attempts = :before",
            ExpressionAttributeValues={
                ":until": {"N": str(_seconds(now + LEASE))},
                ":attempts": {"N": str(pending.attempts + 1)},
                ":seen": {"N": str(pending.due_at)},
                ":before": {"N": str(pending.attempts)},
            },
        )

    def _progress(self, pending: _Pending, left: list[str], failed: str) -> None:
        """Keep who has heard; when nobody is left, what is pending is gone. The alert says how it
        ended, unless it was forgotten meanwhile: nothing is put in its place."""
        alert = {
            "Update": {
                "TableName": self._table,
                "Key": key(f"ALERT#{pending.alert}"),
                "UpdateExpression": "SET #state = :state",
                "ConditionExpression": "notification = :told",  # and not one that fired since
                "ExpressionAttributeNames": {"#state": "state"},
                "ExpressionAttributeValues": {
                    ":state": {"S": failed or ("waiting" if left else "sent")},
                    ":told": {"S": pending.told},
                },
            }
        }
        item = {
            "TableName": self._table,
            "Key": key(f"PENDING#{pending.identity}"),
            "ConditionExpression": _THERE,
        }
        kept = {
            "Update": {
                **item,
                "UpdateExpression": "SET channels = :left, failed = :failed",
                "ExpressionAttributeValues": {
                    ":left": {"S": json.dumps(left)},
                    ":failed": {"S": failed},
                },
            }
        }
        progress = kept if left else {"Delete": item}
        if not self._written([progress, alert]):
            self._written([progress])

    def _put_off(self, pending: _Pending, now: datetime, asked: float) -> None:
        backoff = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(pending.attempts, 10))
        pause = max(asked, backoff * random.uniform(0.5, 1))  # noqa: S311  (spreads retries)
        held(
            self._dynamodb.update_item,
            TableName=self._table,
            Key=key(f"PENDING#{pending.identity}"),
            UpdateExpression="SET due_at = :due",
            ConditionExpression=_THERE,
            ExpressionAttributeValues={":due": {"N": str(_seconds(now) + int(pause))}},
        )

    def _written(self, actions: list[dict[str, Any]]) -> bool:
        """Write them all or none; False where a condition did not hold."""
        try:
            self._dynamodb.transact_write_items(TransactItems=actions)
        except Exception as error:
            if "ConditionalCheckFailed" in client.reasons(error):
                return False
            raise
        return True


def period_part(evaluation: Evaluation) -> str:
    """How the identities of a budget's alerts in a period begin."""
    return f"{evaluation.budget.id}#{evaluation.bounds.start.isoformat()}"


def identity(evaluation: Evaluation, threshold: int) -> str:
    """The identity of an alert: there is one for each budget, period and threshold."""
    return f"{period_part(evaluation)}#{threshold:04}"


def counted(budget: Budget) -> str:
    """What a budget counts, and by which periods. A budget with the id of another that counts
    something else has fired nothing of the other's."""
    return f"{budget.scope}, {budget.period}, {budget.time_zone}"


def _stands(item: Item, evaluation: Evaluation) -> bool:
    """Whether an alert is one of this budget as it is. Those of earlier releases do not say what
    was counted; one without an amount is the mere state of an alert that they had forgotten."""
    if "amount" not in item:
        return False
    mine = {"S": counted(evaluation.budget)}
    if item.get("counted", mine) != mine:
        return False
    same = item["amount"]["S"] == plain(evaluation.amount)
    return same or evaluation.reaches(_threshold(item))


def _threshold(item: Item) -> int:
    return int(item["SK"]["S"].rpartition("#")[2])


def _pending_item(alert: Alert, told: str, now: datetime) -> Item:
    # A key of its own: the alert may be forgotten, and fire again, while this still waits.
    return {
        **key(f"PENDING#{alert.identity}#{alert.notification.id}"),
        "alert": {"S": alert.identity},
        "notification": {"S": told},
        "channels": {"S": json.dumps(alert.channels)},
        "attempts": {"N": "0"},
        "due_at": {"N": str(_seconds(now))},
        "give_up_at": {"N": str(_seconds(now + GIVE_UP_AFTER))},
    }


def _pending(item: Item) -> _Pending:
    name = item["SK"]["S"].removeprefix("PENDING#")
    return _Pending(
        identity=name,
        alert=item["alert"]["S"] if "alert" in item else name,  # that of earlier releases
        due_at=int(item["due_at"]["N"]),
        attempts=int(item["attempts"]["N"]),
        give_up_at=int(item["give_up_at"]["N"]),
        channels=json.loads(item["channels"]["S"]),
        failed=item["failed"]["S"] if "failed" in item else "",
        told=item["notification"]["S"],
    )


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
