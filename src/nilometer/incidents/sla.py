"""The SLA of an incident: when its deadline is, and when that is to be told."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from nilometer.incidents.incident import Deadline, Incident

IMMINENT_SHARE: Final = 0.8
"""Of the time that there is; with less than the rest left, the deadline is imminent."""


def started(begun_at: datetime, seconds: float | None) -> dict[str, Any]:
    """The columns of a deadline so many seconds after `begun_at`; of none for None."""
    if seconds is None:
        return {"sla_deadline": None, "sla_next_at": None, "sla_state": Deadline.NONE}
    return {
        "sla_deadline": begun_at + timedelta(seconds=seconds),
        "sla_next_at": begun_at + timedelta(seconds=seconds * IMMINENT_SHARE),
        "sla_state": Deadline.RUNNING,
    }


def passed(incident: Incident, now: datetime) -> tuple[Deadline, ...]:
    """What has to be told at this moment, in order: nothing, that the deadline is imminent, that
    it has passed, or both, where nobody looked in between."""
    if incident.sla_deadline is None or incident.sla_next_at is None or now < incident.sla_next_at:
        return ()
    late = now >= incident.sla_deadline
    if incident.sla_state is Deadline.RUNNING:
        return (Deadline.IMMINENT, Deadline.EXPIRED) if late else (Deadline.IMMINENT,)
    return (Deadline.EXPIRED,) if late and incident.sla_state is Deadline.IMMINENT else ()


def ended(incident: Incident, now: datetime) -> dict[str, Any]:
    """The columns once the incident is done: nothing more is told; met, unless it is too late."""
    if incident.sla_deadline is None:
        return {}
    late = incident.sla_state is Deadline.EXPIRED or now > incident.sla_deadline
    return {"sla_next_at": None, "sla_state": Deadline.EXPIRED if late else Deadline.MET}


def seconds_left(incident: Incident, now: datetime) -> float | None:
    """Until the deadline, negative after it; None without one."""
    if incident.sla_deadline is None:
        return None
    return (incident.sla_deadline - now).total_seconds()
