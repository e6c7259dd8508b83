"""What a batch of a stage has at hand: the transaction, its changes, and the projects' packs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from nilometer.access.tables import Project
from nilometer.access.types import CaptureMode
from nilometer.errors import NilometerError
from nilometer.incidents import sla
from nilometer.incidents.accept import NO_PACK
from nilometer.incidents.events import moment
from nilometer.incidents.facts import NOT_TRIAGED, Facts, StepFacts
from nilometer.incidents.history import History
from nilometer.incidents.incident import Incident, kind_of
from nilometer.incidents.packs.pack import Pack
from nilometer.incidents.playbooks.machine import StepResult, StepStatus
from nilometer.observability.tracing import Spans
from nilometer.workflows.task import Failure, TaskFailed

_ENDED = frozenset(StepStatus)
_LIVE = select(Project.id, Project.capture_mode).where(
    Project.id.in_(bindparam("projects", expanding=True)), Project.tombstoned_at.is_(None)
)


class TooMuchAtOnce(NilometerError):
    """Several tasks are too much work for one transaction; each of them alone is not."""

    code = "too_much_at_once"


UNREAD_SECONDS = 60.0
"""For how long a version of a pack that could not be read is not read again."""


class PackUnreadable(TaskFailed):
    """The version of a pack that an incident goes by cannot be had: a later release wrote it. The
    task is tried again when it would be read again, as another worker may be able to sooner, and
    is a dead letter then."""

    def __init__(self, name: str, version: int) -> None:
        detail = f"version {version} of the pack {name} cannot be read by this release"
        super().__init__(Failure("pack_unreadable", detail, retry_after=UNREAD_SECONDS))


@dataclass(frozen=True, slots=True)
class PackVersion:
    """A pack as it was at one version; without a name, none is active."""

    pack: Pack
    name: str | None = None
    version: int | None = None


NONE_ACTIVE = PackVersion(NO_PACK)


class Packs(Protocol):
    """Where packs are kept. Part of the caller's transaction; may answer from memory what cannot
    have changed: a version never does."""

    def choose(
        self, session: Session, project_id: int, exception_type: str, domain: str | None
    ) -> PackVersion | None:
        """The active pack that judges exceptions of this type and domain, None without one. Raises
        PackUnreadable where it cannot be told, as an active one cannot be read."""
        ...

    def version(
        self, session: Session, project_id: int, name: str, version: int
    ) -> PackVersion | None:
        """One version of a pack, active or not; None where this release cannot read it, too."""
        ...


class NoPacks:
    """Of a deployment without packs."""

    def choose(
        self,
        session: Session,  # noqa: ARG002
        project_id: int,  # noqa: ARG002
        exception_type: str,  # noqa: ARG002
        domain: str | None,  # noqa: ARG002
    ) -> PackVersion | None:
        """None."""
        return None

    def version(
        self,
        session: Session,  # noqa: ARG002
        project_id: int,  # noqa: ARG002
        name: str,  # noqa: ARG002
        version: int,  # noqa: ARG002
    ) -> PackVersion | None:
        """None."""
        return None


@dataclass(slots=True)
class Work:
    """An incident with what is to be done about it: the kind of event that asks for it, that
    event's payload by its JSON names and id, and the trace context (W3C) that it was asked in."""

    incident: Incident
    kind: str
    payload: Mapping[str, Any]
    causation_id: str | None
    trace_context: str | None


@dataclass(slots=True)
class Context:
    """Of one batch."""

    history: History
    packs: Packs
    notes: dict[object, Any] = field(default_factory=dict[object, Any])
    """What stages remember within the batch, each under its own name."""
    spans: Spans = field(default_factory=Spans)
    """Of what the batch did so far."""
    most: int | None = None
    """What the expressions of all its tasks may take together, in units; None where there is but
    one."""
    spent: int = 0
    """By expressions so far, in units."""
    _known: dict[object, PackVersion] = field(default_factory=dict[object, PackVersion])

    @property
    def session(self) -> Session:
        """The transaction."""
        return self.history.session

    @property
    def now(self) -> datetime:
        """The moment of the batch."""
        return self.history.now

    def spend(self, units: int) -> None:
        """Expressions took so much. Raises TooMuchAtOnce where it comes to more than `most`: others
        wait for the transaction's end. The tasks are then done apart."""
        self.spent += units
        if self.most is not None and self.spent > self.most:
            raise TooMuchAtOnce("its expressions compare too much for one transaction")

    def active(self, incident: Incident) -> PackVersion:
        """The pack that judges an incident now; one that says nothing, where none is active. Raises
        PackUnreadable."""
        asked = (incident.project_id, incident.stated_type, incident.domain)
        if asked not in self._known:
            found = self.packs.choose(self.session, *asked)
            self._known[asked] = found or NONE_ACTIVE
        return self._known[asked]

    def judged_by(self, incident: Incident) -> PackVersion:
        """The version of the pack that intake read the incident by: it goes on by the rules that
        it began with. Raises PackUnreadable: no other rules, and not none, may stand for them."""
        if incident.pack is None or incident.pack_version is None:
            return NONE_ACTIVE
        asked = (incident.project_id, incident.pack, incident.pack_version)
        if asked not in self._known:
            found = self.packs.version(self.session, *asked)
            if found is None:
                raise PackUnreadable(incident.pack, incident.pack_version)
            self._known[asked] = found
        return self._known[asked]

    def alone(self, project_id: int) -> None:
        """Let no other transaction that asks for the same go on for this project until this one
        ends: what is counted or looked for here stays so."""
        held: set[int] = self.notes.setdefault("alone", set[int]())
        if project_id not in held:
            held.add(project_id)
            # Not against those who only refer to the project.
            query = select(Project.id).where(Project.id == project_id)
            self.session.execute(query.with_for_update(key_share=True))


def live(session: Session, project_ids: Collection[int]) -> dict[int, CaptureMode]:
    """Those of the projects that are not being deleted, and whether they are suspended."""
    found = session.execute(_LIVE, {"projects": list(project_ids)})
    return {row.id: row.capture_mode for row in found}


def facts_of(incident: Incident, now: datetime) -> Facts:
    """What expressions see of an incident."""
    left = sla.seconds_left(incident, now)
    return {
        "exception": {
            "type": incident.exception_type,
            "source_system": incident.source_system,
            "severity": stated_severity(incident),
            "domain": incident.domain,
            "entity": incident.entity,
            "amount": None if incident.amount is None else format(incident.amount, "f"),
            "occurred_at": moment(incident.occurred_at),
            "payload": incident.payload,
            "raised_by": {"kind": kind_of(incident.raised_by).value},
        },
        "incident": {
            "id": incident.id,
            "age_seconds": max(0, int((now - incident.received_at).total_seconds())),
            "sla_seconds_left": None if left is None else int(left),
            "attempts": incident.failures,
        },
        "triage": NOT_TRIAGED
        if incident.severity is None
        else {
            "severity": incident.severity.value,
            "confidence": incident.confidence or 0.0,
            "rules": incident.rules,
        },
        "steps": {
            name: StepFacts(status=step["status"], output=step.get("output") or {})
            for name, step in incident.steps.items()
            if step["status"] in _ENDED
        },
        "tenant": {"id": incident.project_id},
    }


def stated_severity(incident: Incident) -> str | None:
    """What the sender said, as triage compares it."""
    return incident.stated_severity and incident.stated_severity.strip().lower()


def results_of(incident: Incident) -> list[StepResult]:
    """What the steps of the playbook came to so far, in their order."""
    return [
        StepResult(
            name,
            StepStatus(step["status"]),
            step.get("output") or {},
            step.get("code"),
            step.get("detail"),
        )
        for name, step in incident.steps.items()
        if step["status"] in _ENDED
    ]
