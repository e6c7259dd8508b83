"""What came of incidents: the outcome and durations of one, and the rates of many."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from nilometer.incidents.accepted_within import ids_within
from nilometer.incidents.events import FeedbackCaptured
from nilometer.incidents.incident import Deadline, Incident, Status
from nilometer.incidents.tables import IncidentRow


@dataclass(frozen=True, slots=True)
class Rates:
    """Of the incidents of a project that were received in some time. `automatic` are those that
    were resolved without a person; `late` those whose deadline passed."""

    received: int
    resolved: int
    automatic: int
    escalated: int
    blocked: int
    failed: int
    late: int

    @property
    def automatic_resolution(self) -> float | None:
        """The share of those resolved that no person had a part in; None without any."""
        return self.automatic / self.resolved if self.resolved else None


def captured(incident: Incident, now: datetime) -> FeedbackCaptured:
    """What came of an incident that is at rest."""
    ended = incident.closed_at or now
    first = incident.first_action_at
    return FeedbackCaptured(
        outcome=incident.status.value,
        automatic=incident.status is Status.RESOLVED and not incident.touched,
        seconds=(ended - incident.received_at).total_seconds(),
        seconds_to_first_action=first and (first - incident.received_at).total_seconds(),
        sla=incident.sla_state.value,
    )


def rates(session: Session, project_id: int, since: datetime, until: datetime) -> Rates:
    """The rates of a project's incidents that were received in this time."""

    def of(status: Status) -> ColumnElement[int]:
        return func.count(case((IncidentRow.status == status, 1)))

    row = session.execute(
        select(
            func.count(),
            of(Status.RESOLVED),
            func.count(case((IncidentRow.automatic.is_(True), 1))),
            of(Status.ESCALATED),
            of(Status.BLOCKED),
            of(Status.FAILED),
            func.count(case((IncidentRow.sla_state == Deadline.EXPIRED, 1))),
        ).where(
            IncidentRow.project_id == project_id,
            IncidentRow.received_at >= since,
            IncidentRow.received_at < until,
            *ids_within(since, until),
        )
    ).one()
    return Rates(*row)
