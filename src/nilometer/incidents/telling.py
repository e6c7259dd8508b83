"""What people are told of incidents, whatever the pack says: that a person is to decide, that a
deadline is near or has passed, that an incident was handed to a person, or has failed.

It is kept with the event that it tells of, in one transaction, for every channel of the project
that does not say `"exceptions": false`. Of one incident each kind is told once; of a project at
most `MOST` of a kind in an hour, the last of which says so. What rules raised is counted apart from
what senders did: a sender that floods must not keep anybody from hearing what a rule found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import select
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
from nilometer.incidents.incident import ActorKind, Incident, kind_of
from nilometer.notifications.notification import Notification, Severity
from nilometer.notifications.outbox import enqueue
from nilometer.notifications.tables import ChannelRow, DeliveryRow

MOST: Final = 20
"""Notifications of a kind that a project is sent within `WINDOW`, of what rules raised and of what
others did."""
WINDOW: Final = timedelta(hours=1)
SWITCH: Final = "exceptions"
"""The member of a channel's configuration that is false where it is told none of these."""

_ENOUGH: Final = (
    "\nFor up to an hour no more of these are sent of what {whose} raise, so that "
    f"{MOST} exceptions are as loud as 20,000: list the exceptions to see them all."
)
_RAISED_BY: Final = "raised_by"


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
        lambda asked: (
            f"The rule {asked.rule} asks for an approval.\n"
            f"It waits until {asked.expires_at} for somebody to decide."
        ),
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
        lambda told: f"By {told.rule}. The exception's timeline says why.",
        lambda told: {"rule": told.rule},
    ),
    DeadLettered: _Kind(
        "exception.dead_lettered",
        "Failed",
        Severity.CRITICAL,
        lambda told: (
            f"The stage {told.stage} gave it up: {told.code}.\n"
            "It waits for somebody to replay or discard its dead letter, which says more."
        ),
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
        by_rule = kind_of(incident.raised_by) is ActorKind.RULE
        of_kind = (event.project_id, kind.name, by_rule)
        if sent[of_kind] >= MOST:
            continue
        last = sent[of_kind] == MOST - 1
        more = _ENOUGH.format(whose="rules" if by_rule else "senders") if last else ""
        notification = _notification(event, incident, kind, more)
        if enqueue(session, event.project_id, notification, channels[event.project_id]):
            sent[of_kind] += 1


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


def _sent(session: Session, project_ids: Iterable[int]) -> Counter[tuple[int, str, bool]]:
    """How many of each kind these projects were sent lately, of what rules raised and others."""
    raised_by = DeliveryRow.notification["facts"][_RAISED_BY].as_string()
    told = DeliveryRow.project_id, DeliveryRow.kind, DeliveryRow.notification_id
    query = select(*told, raised_by).where(
        DeliveryRow.project_id.in_(list(project_ids)),
        DeliveryRow.created_at > clock.now() - WINDOW,
        DeliveryRow.kind.in_([each.name for each in _KINDS.values()]),
    )
    rows = session.execute(query.distinct())
    return Counter((project_id, kind, by == ActorKind.RULE) for project_id, kind, _, by in rows)


def _notification(event: IncidentEvent, incident: Incident, kind: _Kind, more: str) -> Notification:
    """Without anything of what was sent: that may be for fewer eyes than a channel has. So without
    reasons, details of errors and owners too, which a playbook may make of the payload."""
    severity = f" ({incident.severity.value})" if incident.severity else ""
    facts = {
        "exception_id": incident.id,
        "exception_type": incident.exception_type,
        "severity": incident.severity and incident.severity.value,
        "source_system": incident.source_system,
        _RAISED_BY: kind_of(incident.raised_by).value,
        "status": incident.status.value,
        "playbook": incident.playbook,
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
