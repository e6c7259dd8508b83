"""Feedback: what came of an incident, once it is at rest, and how long it took."""

from __future__ import annotations

from typing import ClassVar

from nilometer.incidents.feedback import captured
from nilometer.incidents.incident import system
from nilometer.incidents.lifecycle import AT_REST
from nilometer.incidents.stages.context import Context, Work
from nilometer.incidents.stages.stage import ChainStage


class Feedback(ChainStage):
    """See the module."""

    queue: ClassVar[str] = "feedback"
    kinds: ClassVar[frozenset[str]] = frozenset(
        {"ExceptionResolved", "ExceptionBlocked", "ExceptionEscalated"}
    )

    def do(self, context: Context, work: Work) -> None:
        """Write down what came of one."""
        incident = work.incident
        if incident.status not in AT_REST:
            return
        told = captured(incident, context.now)
        context.history.change(
            incident,
            told,
            actor=system("feedback"),
            causation_id=work.causation_id,
            automatic=told.automatic,
        )
