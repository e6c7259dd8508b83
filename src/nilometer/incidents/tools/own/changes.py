"""The actions that are changes of the database: each is made in the transaction that records it.

Every function takes the session, the call and what it was asked for, does the thing through the
room that owns it, and tells what it did. It raises InvalidInput or NotFound for what cannot be
done; then nothing was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from nilometer.access import keys
from nilometer.budgets import store
from nilometer.budgets.budget import plain, usd
from nilometer.budgets.store import Changes, StoredBudget
from nilometer.errors import NotFound
from nilometer.incidents.tools.call import Json, ToolCall
from nilometer.incidents.tools.kinds import ToolKind
from nilometer.incidents.tools.own.arguments import acting_for
from nilometer.notifications.notification import Notification, Severity
from nilometer.notifications.outbox import enqueue
from nilometer.notifications.tables import ChannelRow

Change = Callable[[Session, ToolCall, Json], Json]

NOTIFICATION_KIND = "incident.notify"


def notify(session: Session, call: ToolCall, asked: Json) -> Json:
    """Have it told. The notification's id is the execution's."""
    channels = list(_channels(session, call.project_id, asked.get("channels")))
    told = Notification.new(
        id=call.execution_id,
        kind=NOTIFICATION_KIND,
        project_id=call.project_id,
        title=asked["title"],
        text=asked.get("text", ""),
        severity=Severity(asked.get("severity", Severity.WARNING)),
        facts={**asked.get("facts", {}), "incident": call.incident_id},
    )
    deliveries = enqueue(session, call.project_id, told, [each.id for each in channels])
    return {"channels": [each.name for each in channels], "deliveries": deliveries}


def _channels(session: Session, project_id: int, wanted: list[str] | None) -> Iterator[ChannelRow]:
    query = select(ChannelRow).where(ChannelRow.project_id == project_id)
    if wanted is None:
        every = session.scalars(query.order_by(ChannelRow.created_at, ChannelRow.id)).all()
        if not every:
            raise NotFound(
                "The project has no notification channel; add one (docs/alerts.md).",
                code="no_channel",
            )
        yield from every
        return
    by_name = {each.name: each for each in session.scalars(query)}
    by_id = {each.id: each for each in by_name.values()}
    for name in dict.fromkeys(wanted):
        found = by_name.get(name) or by_id.get(name.lower())
        if found is None:
            raise NotFound(
                "The project has no notification channel of a name that was given.",
                code="no_channel",
            )
        yield found


def hard_stop_budget(session: Session, call: ToolCall, asked: Json) -> Json:
    """Have a budget's check say no once its limit is reached; or no longer."""
    changes: Changes = {"hard_stop": asked.get("hard_stop", True)}
    return _changed(session, call, asked["budget"], changes)


def change_budget(session: Session, call: ToolCall, asked: Json) -> Json:
    """Change a budget's amount, thresholds or hard stop."""
    changes: Changes = {}
    if "amount_usd" in asked:
        changes["amount"] = usd("amount_usd", asked["amount_usd"])
    if "thresholds" in asked:
        changes["thresholds"] = tuple(asked["thresholds"])
    if "hard_stop" in asked:
        changes["hard_stop"] = asked["hard_stop"]
    return _changed(session, call, asked["budget"], changes)


def _changed(session: Session, call: ToolCall, name: str, changes: Changes) -> Json:
    before = store.named(session, call.project_id, name)
    after = store.change(session, acting_for(call), call.project_id, before.budget.id, changes)
    return {
        "budget_id": after.budget.id,
        "budget": after.budget.name,
        "before": _told(before),
        "after": _told(after),
    }


def _told(stored: StoredBudget) -> Json:
    budget = stored.budget
    return {
        "amount_usd": plain(budget.amount),
        "hard_stop": budget.hard_stop,
        "thresholds": list(budget.thresholds),
    }


def revoke_key(session: Session, call: ToolCall, asked: Json) -> Json:
    """End a key of the project for good."""
    key = keys.revoke(session, acting_for(call), asked["key_id"], call.project_id)
    assert key.revoked_at is not None, "it was revoked, now or before"
    return {
        "key_id": key.key_id,
        "name": key.name,
        "kind": key.kind.value,
        "mask": key.mask,
        "revoked_at": key.revoked_at.isoformat(),
    }


CHANGES: Final[Mapping[ToolKind, Change]] = {
    ToolKind.NOTIFY: notify,
    ToolKind.BUDGET_HARD_STOP: hard_stop_budget,
    ToolKind.BUDGET_CHANGE: change_budget,
    ToolKind.KEY_REVOKE: revoke_key,
}
"""What is done by changing the database, by kind."""
