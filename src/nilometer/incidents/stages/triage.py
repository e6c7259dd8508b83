"""Triage: of which type an incident is and how severe, with the reasons."""

from __future__ import annotations

from typing import Any, ClassVar

from nilometer.incidents import sla
from nilometer.incidents.events import TriageCompleted
from nilometer.incidents.incident import Deadline, Incident, Severity, Status, system
from nilometer.incidents.normalisation import sla_seconds_of
from nilometer.incidents.packs.pack import Pack
from nilometer.incidents.stages.context import Context, Work, facts_of
from nilometer.incidents.stages.stage import ChainStage
from nilometer.incidents.triage import kept_of, triage


class Triage(ChainStage):
    """See the module. The deadline is that of the severity now known, while nobody was told of
    another one."""

    queue: ClassVar[str] = "triage"
    kinds: ClassVar[frozenset[str]] = frozenset({"ExceptionNormalized"})

    def do(self, context: Context, work: Work) -> None:
        """Judge one."""
        incident = work.incident
        if incident.status is not Status.OPEN:
            return
        pack = context.judged_by(incident).pack
        judged = triage(pack, facts_of(incident, context.now))
        reasons = kept_of([str(each) for each in judged.reasons])
        context.history.change(
            incident,
            TriageCompleted(judged.type, judged.severity.value, judged.confidence, reasons),
            actor=system("triage"),
            causation_id=work.causation_id,
            to=Status.TRIAGED,
            exception_type=judged.type,
            severity=judged.severity,
            confidence=judged.confidence,
            rules=list(judged.rules),
            reasons=reasons,
            **_deadline(context, incident, pack, judged.type, judged.severity),
        )


def _deadline(
    context: Context, incident: Incident, pack: Pack, kind: str, severity: Severity
) -> dict[str, Any]:
    if incident.sla_state not in (Deadline.NONE, Deadline.RUNNING):
        return {}
    begun_at = incident.received_at if incident.run == 1 else context.now
    seconds = sla_seconds_of(pack, kind, severity, incident.project_id)
    wanted = sla.started(begun_at, seconds)
    same = wanted["sla_deadline"] == incident.sla_deadline
    return {} if same else wanted
