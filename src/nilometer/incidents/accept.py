"""Accepting what is raised: durable, under its final id, in the caller's transaction.

A key of idempotency belongs to a project. Used again for the same, it gives the answer of the first
time; for something else, it is refused. Digests are kept, not what was sent.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

import orjson
from sqlalchemy import Table, delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from nilometer.access.tables import Project
from nilometer.access.types import CaptureMode
from nilometer.domain.redaction.reading import InvalidRules, read_rules
from nilometer.domain.redaction.rules import UNREADABLE, RedactionRules
from nilometer.errors import InvalidInput, NilometerError, NotFound, Unavailable
from nilometer.incidents.events import ExceptionIngested, moment
from nilometer.incidents.history import History
from nilometer.incidents.incident import (
    OWN_SOURCE,
    Accepted,
    Actor,
    ActorKind,
    Deadline,
    Incident,
    NewException,
    Status,
)
from nilometer.incidents.lifecycle import Conflict
from nilometer.incidents.normalisation import normalise
from nilometer.incidents.packs.pack import Pack
from nilometer.incidents.raising import Outcome, Raise
from nilometer.incidents.tables import NAME_LENGTH, AcceptanceRow

KEEP_KEYS: Final = timedelta(days=7)
KEYS_AT_ONCE: Final = 5000
"""How long an idempotency key is known."""
MAX_PAYLOAD_BYTES: Final = 256 * 1024

NO_PACK: Final = Pack(format=1, name="none")
"""Judges an exception by what it says of itself, and has no playbook for it."""


class ProjectPaused(Unavailable):
    """The project takes nothing in for now: its capture is dropped, or over its quota."""

    code = "project_paused"


@dataclass(frozen=True, slots=True)
class _Door:
    """What a project lets in."""

    paused: bool
    rules: RedactionRules | None


def raise_exceptions(
    session: Session,
    project_id: int,
    exceptions: Sequence[NewException],
    *,
    actor: Actor,
    idempotency_key: str | None = None,
    traceparent: str | None = None,
    now: datetime,
) -> list[Accepted]:
    """Raise exceptions of a project, all or none; their ids, in their order, final and readable
    with the caller's commit. Raises InvalidInput (`check`), NotFound for a project that there is
    not, ProjectPaused, and Conflict for a key that was used for something else."""
    asked = Raise(project_id, exceptions, actor, idempotency_key, traceparent, 0)
    [outcome] = accept(session, [asked], now)
    if isinstance(outcome, NilometerError):
        raise outcome
    return outcome


def accept(session: Session, asked: Sequence[Raise], now: datetime) -> list[Outcome]:
    """What `raise_exceptions` does, for many requests of many projects with few statements. What is
    wrong with one is its outcome, and does not touch the others."""
    doors = _doors(session, {each.project_id for each in asked})
    history = History(session, now)
    # Of what comes at one moment the ids are in the order in which it came.
    ids = iter(sorted(history.new_id() for each in asked for _ in each.exceptions))
    outcomes: list[Outcome] = []
    for each in asked:
        own = [next(ids) for _ in each.exceptions]
        try:
            outcomes.append(_accepted(history, doors.get(each.project_id), each, own))
        except NilometerError as error:
            outcomes.append(error)
    history.flush()
    return outcomes


def check(exception: NewException, by: ActorKind = ActorKind.KEY) -> None:
    """Raises InvalidInput for an exception that cannot be raised, or not by such an actor."""
    for name in ("exception_type", "source_system"):
        _check_name(getattr(exception, name), name, least=1)
    for name in ("severity", "domain"):
        _check_name(getattr(exception, name) or "", name, least=0)
    if by is ActorKind.KEY and _folded(exception.source_system) == OWN_SOURCE:
        raise InvalidInput(
            f"{OWN_SOURCE} is the source of what its own rules raise; name the system that sends.",
            code="reserved_source",
            attr="source_system",
        )
    if exception.occurred_at is not None and exception.occurred_at.tzinfo is None:
        raise InvalidInput("give the moment with a time zone", attr="occurred_at")
    if len(_json(exception.payload)) > MAX_PAYLOAD_BYTES:
        raise InvalidInput(
            f"payload may have at most {MAX_PAYLOAD_BYTES} bytes; keep what is larger elsewhere "
            "and send where it is.",
            code="too_large",
            attr="payload",
        )


def _check_name(text: str, name: str, *, least: int) -> None:
    if not least <= len(text) <= NAME_LENGTH:
        raise InvalidInput(f"{name} has {least} to {NAME_LENGTH} characters.", attr=name)
    if not text.isprintable():
        first = next(each for each in text if not each.isprintable())
        raise InvalidInput(
            f"{name} holds U+{ord(first):04X}, and may hold printable characters alone.", attr=name
        )


def _folded(name: str) -> str:
    """A name as it looks: without its case, blanks around it, and other forms of its letters."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def forget_keys(session: Session, now: datetime, most: int = KEYS_AT_ONCE) -> int:
    """Delete idempotency keys that are old, at most so many; how many those were."""
    key = (AcceptanceRow.project_id, AcceptanceRow.key_digest)
    old = select(*key).where(AcceptanceRow.created_at < now - KEEP_KEYS).limit(most)
    table = cast("Table", AcceptanceRow.__table__)
    return session.connection().execute(delete(table).where(tuple_(*key).in_(old))).rowcount


def _doors(session: Session, project_ids: set[int]) -> dict[int, _Door]:
    query = select(Project.id, Project.capture_mode, Project.redaction).where(
        Project.id.in_(project_ids), Project.tombstoned_at.is_(None)
    )
    return {
        project_id: _Door(mode is not CaptureMode.ACCEPT, _rules(stored))
        for project_id, mode, stored in session.execute(query)
    }


def _rules(stored: Mapping[str, Any] | None) -> RedactionRules | None:
    try:
        return None if stored is None else read_rules(stored)
    except InvalidRules:  # of a later release
        return UNREADABLE


def _accepted(history: History, door: _Door | None, asked: Raise, ids: list[str]) -> list[Accepted]:
    if door is None:
        raise NotFound(f"there is no project {asked.project_id}", attr="project_id")
    if door.paused:
        raise ProjectPaused("the project takes no exceptions in for now", retry_after=60)
    for each in asked.exceptions:
        check(each, asked.actor.kind)
    made = [
        _incident(history, asked, exception, door.rules, exception_id)
        for exception, exception_id in zip(asked.exceptions, ids, strict=True)
    ]
    # Last of what may fail: the key is written here, and stands for what follows.
    before = _answered(history, asked, ids)
    if before is not None:
        return [Accepted(each, repeated=True) for each in before]
    for incident in made:
        history.add(incident)
        told = ExceptionIngested(
            exception_type=incident.exception_type,
            source_system=incident.source_system,
            severity=incident.stated_severity,
            occurred_at=moment(incident.occurred_at),
        )
        history.change(incident, told, actor=asked.actor)
    return [Accepted(each) for each in ids]


def _answered(history: History, asked: Raise, ids: list[str]) -> list[str] | None:
    """The ids that this key stood for before; None where it is new, and now stands for these."""
    if asked.idempotency_key is None:
        return None
    session = history.session
    key = hashlib.sha256(asked.idempotency_key.encode()).hexdigest()
    body = _digest(asked.exceptions)
    insert = (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert
    # Of two requests at once the second waits here for the commit of the first.
    written = session.scalar(
        insert(AcceptanceRow)
        .values(
            project_id=asked.project_id,
            key_digest=key,
            body_digest=body,
            exception_ids=ids,
            created_at=history.now,
        )
        .on_conflict_do_nothing()
        .returning(AcceptanceRow.key_digest)
    )
    if written is not None:
        return None
    known = session.execute(
        select(AcceptanceRow.body_digest, AcceptanceRow.exception_ids).where(
            AcceptanceRow.project_id == asked.project_id, AcceptanceRow.key_digest == key
        )
    ).one()
    if known.body_digest != body:
        raise Conflict(
            "this idempotency key was used for something else",
            code="idempotency_key_reused",
            attr="Idempotency-Key",
        )
    return known.exception_ids


def _digest(exceptions: Sequence[NewException]) -> str:
    body = [
        [
            *(each.exception_type, each.source_system, each.severity, each.domain),
            None if each.occurred_at is None else moment(each.occurred_at),
            dict(each.payload),
        ]
        for each in exceptions
    ]
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _incident(
    history: History,
    asked: Raise,
    exception: NewException,
    rules: RedactionRules | None,
    exception_id: str,
) -> Incident:
    payload, redacted = _redacted(exception, rules, asked.project_id, history.now)
    return Incident(
        project_id=asked.project_id,
        id=exception_id,
        version=1,
        sequence=0,
        run=1,
        status=Status.RECEIVED,
        severity=None,
        exception_type=exception.exception_type,
        source_system=exception.source_system,
        stated_type=exception.exception_type,
        stated_severity=exception.severity,
        domain=exception.domain,
        entity=None,
        amount=None,
        occurred_at=exception.occurred_at or history.now,
        received_at=history.now,
        updated_at=history.now,
        payload=payload,
        redacted=redacted,
        raised_by=str(asked.actor),
        traceparent=asked.traceparent,
        pack=None,
        pack_version=None,
        fingerprint=None,
        duplicate_of=None,
        sla_deadline=None,
        sla_next_at=None,
        sla_state=Deadline.NONE,
        confidence=None,
        rules=[],
        reasons=[],
        allowed_at=None,
        playbook=None,
        step=None,
        steps={},
        waits_until=None,
        failures=0,
        owner=None,
        reason=None,
        touched=False,
        automatic=None,
        first_action_at=None,
        closed_at=None,
    )


def _redacted(
    exception: NewException, rules: RedactionRules | None, project_id: int, now: datetime
) -> tuple[dict[str, Any], list[str]]:
    """The payload as the project's rules let it be kept, and the places where something was taken
    out. What the pack keeps out as well is for intake, which reads an entity and a fingerprint of
    it first; `IncidentReads.withholds_payload` until then."""
    if rules is None:
        return dict(exception.payload), []
    read = normalise(NO_PACK, exception, project_id=project_id, now=now, rules=rules)
    return read.payload, list(read.redacted)


def _json(payload: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(dict(payload))
    except (TypeError, ValueError):
        raise InvalidInput("the payload is not JSON", attr="payload") from None
