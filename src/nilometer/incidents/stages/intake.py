"""Intake: an exception is read by its pack, redacted, given a deadline, told from duplicates."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from sqlalchemy import select

from nilometer.incidents import sla
from nilometer.incidents.events import DuplicateDetected, ExceptionNormalized, moment
from nilometer.incidents.incident import (
    Deadline,
    Incident,
    NewException,
    Status,
    kind_of,
    system,
)
from nilometer.incidents.normalisation import Normalised, normalise
from nilometer.incidents.stages.context import Context, Work
from nilometer.incidents.stages.stage import ChainStage
from nilometer.incidents.tables import IncidentRow

_ACTOR = system("intake")


class Intake(ChainStage):
    """See the module."""

    queue: ClassVar[str] = "intake"
    kinds: ClassVar[frozenset[str]] = frozenset({"ExceptionIngested", "ReprocessRequested"})

    def do(self, context: Context, work: Work) -> None:
        """Normalise one, or find that it is a duplicate."""
        incident = work.incident
        if incident.status is not Status.RECEIVED:
            return
        chosen = context.active(incident)
        # The project's own rules were applied when it was accepted.
        read = normalise(
            chosen.pack,
            _raised(incident),
            project_id=incident.project_id,
            now=incident.received_at,
            raised_by=kind_of(incident.raised_by),
        )
        columns: dict[str, Any] = {
            "exception_type": read.type,
            "domain": read.domain,
            "entity": read.entity,
            "amount": read.amount,
            "payload": read.payload,
            "redacted": [*incident.redacted, *read.redacted],
            "pack": chosen.name,
            "pack_version": chosen.version,
            "fingerprint": _fingerprint(incident, read),
        }
        if not _duplicate(context, work, read, columns):
            _open(context, work, read, columns)


def _raised(incident: Incident) -> NewException:
    return NewException(
        exception_type=incident.stated_type,
        source_system=incident.source_system,
        severity=incident.stated_severity,
        occurred_at=incident.occurred_at,
        payload=incident.payload,
        domain=incident.domain,
    )


def _fingerprint(incident: Incident, read: Normalised) -> str | None:
    """None as well where something was taken out before: two different texts may have become the
    same, and an exception must not be lost as a duplicate of another one."""
    return None if incident.redacted and incident.run == 1 else read.fingerprint


def _open(context: Context, work: Work, read: Normalised, columns: dict[str, Any]) -> None:
    incident = work.incident
    if incident.sla_state is Deadline.NONE:
        begun_at = incident.received_at if incident.run == 1 else context.now
        columns |= sla.started(begun_at, read.sla_seconds)
    deadline = columns.get("sla_deadline", incident.sla_deadline)
    context.history.change(
        incident,
        ExceptionNormalized(
            exception_type=read.type,
            domain=read.domain,
            entity=read.entity,
            amount=None if read.amount is None else format(read.amount, "f"),
            sla_deadline=deadline and moment(deadline),
            redacted=columns["redacted"],
            pack=columns["pack"],
            pack_version=columns["pack_version"],
        ),
        actor=_ACTOR,
        causation_id=work.causation_id,
        to=Status.OPEN,
        **columns,
    )


def _duplicate(context: Context, work: Work, read: Normalised, columns: dict[str, Any]) -> bool:
    """Whether it is one; then it is written down as one. What a person wants done again is done,
    whatever it is like."""
    incident, fingerprint = work.incident, columns["fingerprint"]
    if fingerprint is None or read.window_seconds is None or incident.run > 1:
        return False
    context.alone(incident.project_id)
    of = _original(context, incident, fingerprint, read.window_seconds)
    if of is None:
        _seen(context)[incident.project_id, fingerprint] = (incident.received_at, incident.id)
        return False
    context.history.change(
        incident,
        DuplicateDetected(of, fingerprint, read.window_seconds),
        actor=_ACTOR,
        causation_id=work.causation_id,
        to=Status.DUPLICATE,
        duplicate_of=of,
        reason=f"the same was raised as {of} within {read.window_seconds} seconds",
        closed_at=context.now,
        **columns,
    )
    return True


def _seen(context: Context) -> dict[tuple[int, str], tuple[datetime, str]]:
    """The originals of this batch, which the database does not have yet."""
    return context.notes.setdefault("fingerprints", {})


def _original(
    context: Context, incident: Incident, fingerprint: str, window_seconds: int
) -> str | None:
    since = incident.received_at - timedelta(seconds=window_seconds)
    in_batch = _seen(context).get((incident.project_id, fingerprint))
    if in_batch is not None and in_batch[0] > since:
        return in_batch[1]
    query = (
        select(IncidentRow.id)
        .where(
            IncidentRow.project_id == incident.project_id,
            IncidentRow.fingerprint == fingerprint,
            IncidentRow.received_at > since,
            IncidentRow.duplicate_of.is_(None),
            IncidentRow.id != incident.id,
        )
        .order_by(IncidentRow.received_at.desc())
        .limit(1)
    )
    return context.session.scalar(query)
