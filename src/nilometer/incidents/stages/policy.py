"""Policy: whether an incident may be handled without a person. What is not allowed stops here,
until somebody decides."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from sqlalchemy import func, select

from nilometer.incidents import approvals
from nilometer.incidents.approvals import DEFAULT_TIMEOUT, Question
from nilometer.incidents.events import (
    ExceptionBlocked,
    ExceptionEscalated,
    Payload,
    PolicyEvaluated,
)
from nilometer.incidents.incident import Incident, Status, system
from nilometer.incidents.packs.pack import Outcome
from nilometer.incidents.policy import Counted, Decision, decide, to_count
from nilometer.incidents.stages.context import Context, Work, facts_of
from nilometer.incidents.stages.stage import ChainStage
from nilometer.incidents.tables import IncidentRow

_COLUMNS = {
    "type": IncidentRow.exception_type,
    "entity": IncidentRow.entity,
    "playbook": IncidentRow.playbook,
}


class Policy(ChainStage):
    """See the module. A project whose pack caps rates is decided on by one worker at a time, so
    that two do not take the last place both."""

    queue: ClassVar[str] = "policy"
    kinds: ClassVar[frozenset[str]] = frozenset(
        {"TriageCompleted", "PlaybookRecalculationRequested"}
    )

    def do(self, context: Context, work: Work) -> None:
        """Decide on one."""
        incident = work.incident
        if incident.status is not Status.TRIAGED:
            return
        pack = context.judged_by(incident).pack
        facts = facts_of(incident, context.now)
        wanted = to_count(pack, facts)
        if wanted:
            context.alone(incident.project_id)
        counts = {each.name: _count(context, incident, each) for each in wanted}
        # Whoever rejects it touches it: of most nothing has to be asked.
        rejected = incident.touched and approvals.rejected(context.session, incident)
        decision = decide(pack, facts, counts, rejected=rejected)
        to, events, columns = _consequences(context, incident, decision)
        if decision.outcome is Outcome.ALLOW and wanted:
            columns |= _counted(context, incident, wanted)
        context.history.change(
            incident,
            PolicyEvaluated(
                decision.outcome.value, decision.rule, decision.reason, decision.playbook
            ),
            *events,
            actor=system("policy"),
            causation_id=work.causation_id,
            to=to,
            **columns,
        )


def _consequences(
    context: Context, incident: Incident, decision: Decision
) -> tuple[Status, list[Payload], dict[str, Any]]:
    """Where the incident goes, what is told of it, and the columns that change."""
    rule, reason = decision.rule, decision.reason
    if decision.outcome is Outcome.ALLOW:
        return Status.TRIAGED, [], {"reason": None}
    because = {"reason": f"{rule}: {reason}"}
    if decision.outcome is Outcome.BLOCK:
        return Status.BLOCKED, [ExceptionBlocked(rule, reason)], because
    if decision.outcome is Outcome.ESCALATE:
        return Status.ESCALATED, [ExceptionEscalated(rule, reason)], because
    seconds = decision.approval_seconds
    question = Question(
        rule=rule,
        reason=reason,
        timeout=DEFAULT_TIMEOUT if seconds is None else timedelta(seconds=seconds),
        separate=decision.separate_duties,
    )
    asked = approvals.ask(
        context.session, incident, question, context.history.new_id(), context.now
    )
    return Status.AWAITING_APPROVAL, [asked], because


def _counted(context: Context, incident: Incident, wanted: Sequence[Counted]) -> dict[str, Any]:
    """The columns by which it counts from now on; its last run does so no more."""
    if incident.allowed_at is not None:
        _counted_anew(context).add(incident.id)
        context.notes.pop("counted", None)
    allowed = _allowed(context)
    allowed.extend((incident.project_id, each.name, each.value) for each in wanted)
    playbooks = [each.value for each in wanted if each.per == "playbook" and each.value]
    return {"allowed_at": context.now, **({"playbook": playbooks[0]} if playbooks else {})}


def _allowed(context: Context) -> list[tuple[int, str, str]]:
    """What this batch has allowed, which the database does not have yet: project, cap, value."""
    return context.notes.setdefault("allowed", [])


def _counted_anew(context: Context) -> set[str]:
    """The incidents that were allowed in an earlier run and again in this batch."""
    return context.notes.setdefault("anew", set())


def _count(context: Context, incident: Incident, wanted: Counted) -> int:
    """How many others were allowed in the window of a cap, this batch's among them."""
    here = (incident.project_id, wanted.name, wanted.value)
    anew = _counted_anew(context)
    if incident.allowed_at is not None:  # handled again: it was counted itself
        kept = _count_kept(context, incident, wanted, anew | {incident.id})
        return kept + _allowed(context).count(here)
    counted = context.notes.setdefault("counted", {})
    asked = (incident.project_id, wanted)
    if asked not in counted:
        counted[asked] = _count_kept(context, incident, wanted, anew)
    return counted[asked] + _allowed(context).count(here)


def _count_kept(context: Context, incident: Incident, wanted: Counted, but: Collection[str]) -> int:
    since = context.now - timedelta(seconds=wanted.window_seconds)
    query = (
        select(func.count())
        .select_from(IncidentRow)
        .where(
            IncidentRow.project_id == incident.project_id,
            IncidentRow.allowed_at > since,
        )
    )
    if but:
        query = query.where(IncidentRow.id.not_in(but))
    column = _COLUMNS.get(wanted.per)
    if column is not None:
        # One without an entity, or a playbook, counts with the others without.
        query = query.where(func.coalesce(column, "") == wanted.value)
    return context.session.scalar(query) or 0
