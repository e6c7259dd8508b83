"""The SLA monitor: tells that a deadline is imminent, and that it has passed, once each.

When that has to be looked at next is on the incident's row, so a restart forgets nothing and looks
at nothing twice.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from nilometer.incidents import sla
from nilometer.incidents.events import Payload, SLAExpired, SLAImminent, moment
from nilometer.incidents.history import History, Key
from nilometer.incidents.incident import Deadline, Incident, system
from nilometer.incidents.stages.context import live
from nilometer.incidents.tables import IncidentRow

_TOLD: Final = {Deadline.IMMINENT: SLAImminent, Deadline.EXPIRED: SLAExpired}
_ACTOR = system("sla")


def due(session: Session, now: datetime) -> bool:
    """Whether there is anything to tell."""
    return bool(_due(session, now, 1))


def sweep(session: Session, now: datetime, limit: int) -> int:
    """Tell what has to be told of at most so many incidents; how many were looked at."""
    found = _due(session, now, limit)
    history = History(session, now)
    projects = live(session, {project_id for project_id, _ in found})
    for incident in history.load(found).values():
        _tell(history, incident, silent=incident.project_id not in projects)
    history.flush()
    return len(found)


def _due(session: Session, now: datetime, limit: int) -> list[Key]:
    query = (
        select(IncidentRow.project_id, IncidentRow.id)
        .where(IncidentRow.sla_next_at.is_not(None), IncidentRow.sla_next_at <= now)
        .order_by(IncidentRow.sla_next_at)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in session.execute(query)]


def _tell(history: History, incident: Incident, *, silent: bool) -> None:
    passed = sla.passed(incident, history.now)
    if incident.sla_deadline is None or silent:
        history.change(incident, actor=_ACTOR, sla_next_at=None)
        return
    if not passed:
        return
    events: list[Payload] = [_TOLD[each](moment(incident.sla_deadline)) for each in passed]
    state = passed[-1]
    history.change(
        incident,
        *events,
        actor=_ACTOR,
        sla_state=state,
        sla_next_at=incident.sla_deadline if state is Deadline.IMMINENT else None,
    )
