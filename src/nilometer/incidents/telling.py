"""What people are told of incidents, whatever the pack says: that a person is to decide, that a
deadline is near or has passed, that an incident was handed to a person, or has failed.

It is kept with the event that it tells of, in one transaction, for every channel of the project
that does not say `"exceptions": false`. Of one incident each kind is told once; of a project at
most `MOST` of a kind in an hour, the last of which says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nilometer.domain import clock
from nilometer.incidents.events import (
    ApprovalRequested,
    DeadLettered,
    ExceptionEscalated,
    IncidentEvent,
    Payload,
    SLAExpired,
    SLAImminent,
)
from nilometer.incidents.incident import Incident
from nilometer.notifications.notification import Notification, Severity
from nilometer.notifications.outbox import enqueue
from nilometer.notifications.tables import ChannelRow, DeliveryRow

MOST: Final = 20
"""Notifications of a kind that a project is sent within `WINDOW`."""
WINDOW: Final = timedelta(hours=1)
SWITCH: Final = "exceptions"
"""The member of a channel's configuration that is false where it is told none of these."""

_ENOUGH: Final = (
    f"\nFor up to an hour no more of these are sent, so that {MOST} exceptions are as loud as "
    "20,000: list the exceptions to see them all."
)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a type of event is told."""

    name: str
    title: str
    severity: Severity
    text: Callable[[Any], str]
    facts: Callable[[Any], dict[str, str | None]]


_KINDS: Final[dict[type[Payload], _Kind]] = {
    ApprovalRequested: _Kind(
        "exception.approval_requested",
        "Approval asked",
        Severity.WARNING,
        lambda asked: f"{asked.reason}\nIt waits until {asked.expires_at} for somebody to decide.",
        lambda asked: {
            "approval_id": asked.approval_id,
            "expires_at": asked.expires_at,
            "rule": asked.rule,
            "step": asked.step,
        },
    ),
    SLAImminent: _Kind(
        "exception.deadline_imminent",
        "Deadline near",
        Severity.WARNING,
        lambda told: f"It is to be done by {told.deadline}.",
        lambda told: {"deadline": told.deadline},
    ),
    SLAExpired: _Kind(
        "exception.deadline_expired",
        "Deadline passed",
        Severity.CRITICAL,
        lambda told: f"It was to be done by {told.deadline}.",
        lambda told: {"deadline": told.deadline},
    ),
    ExceptionEscalated: _Kind(
        "exception.escalated",
        "Handed to a person",
        Severity.WARNING,
        lambda told: told.reason,
        lambda told: {"rule": told.rule},
    ),
    DeadLettered: _Kind(
        "exception.dead_lettered",
        "Failed",
        Severity.CRITICAL,
        lambda told: f"{told.detail}\nIt waits for somebody to replay or discard its dead letter.",
        lambda told: {"dead_letter_id": told.task_id, "stage": told.stage, "code": told.code},
    ),
}

TOLD: Final = frozenset(_KINDS)
"""The types of payloads that people are told of."""

Told = tuple[IncidentEvent, Incident]


def tell(session: Session, told: Sequence[Told]) -> None:
    """Have people told of these events, whose types are in `TOLD`, in the caller's transaction."""
    channels = _channels(session, {event.project_id for event, _ in told}) if told else {}
    wanted = [each for each in told if each[0].project_id in channels]
    if not wanted:
        return
    sent = _sent(session, channels)
    for event, incident in wanted:
        kind = _KINDS[type(event.payload)]
        of_kind = (event.project_id, kind.name)
        if sent.get(of_kind, 0) >= MOST:
            continue
        last = sent.get(of_kind, 0) == MOST - 1
        notification = _notification(event, incident, kind, _ENOUGH if last else "")
        if enqueue(session, event.project_id, notification, channels[event.project_id]):
            sent[of_kind] = sent.get(of_kind, 0) + 1


def _channels(session: Session, project_ids: set[int]) -> dict[int, Sequence[str]]:
    """The channels of projects that are told of these, where there are any."""
    query = select(ChannelRow.project_id, ChannelRow.id, ChannelRow.config)
    found: dict[int, list[str]] = {}
    for project_id, channel_id, config in session.execute(
        query.where(ChannelRow.project_id.in_(list(project_ids))).order_by(ChannelRow.id)
    ):
        if config.get(SWITCH) is not False:
            found.setdefault(project_id, []).append(channel_id)
    return dict(found)


def _sent(session: Session, project_ids: Iterable[int]) -> dict[tuple[int, str], int]:
    """How many of each kind these projects were sent lately."""
    query = (
        select(
            DeliveryRow.project_id,
            DeliveryRow.kind,
            func.count(DeliveryRow.notification_id.distinct()),
        )
        .where(
            DeliveryRow.project_id.in_(list(project_ids)),
            DeliveryRow.created_at > clock.now() - WINDOW,
            DeliveryRow.kind.in_([each.name for each in _KINDS.values()]),
        )
        .group_by(DeliveryRow.project_id, DeliveryRow.kind)
    )
    return {(row[0], row[1]): row[2] for row in session.execute(query)}


def _notification(event: IncidentEvent, incident: Incident, kind: _Kind, more: str) -> Notification:
    """Without anything of what was sent: that may be for fewer eyes than a channel has."""
    severity = f" ({incident.severity.value})" if incident.severity else ""
    facts = {
        "exception_id": incident.id,
        "exception_type": incident.exception_type,
        "severity": incident.severity and incident.severity.value,
        "source_system": incident.source_system,
        "status": incident.status.value,
        "playbook": incident.playbook,
        "owner": incident.owner,
        **kind.facts(event.payload),
    }
    return Notification.new(
        id=f"{incident.id}:{kind.name.removeprefix('exception.')}",
        kind=kind.name,
        project_id=incident.project_id,
        title=f"{kind.title}: {incident.exception_type}{severity}",
        text=kind.text(event.payload) + more,
        severity=kind.severity,
        facts={name: value for name, value in facts.items() if value},
        occurred_at=event.occurred_at,
    )
