"""Every change of an incident goes through here: its row, its events, the tasks that they lead to
and what the topic is told, all in the caller's transaction.

A `History` holds the changes of many incidents in memory and writes them at `flush`, with one
statement for each kind of change. Rows are locked when they are read, in the order of their keys,
so that two transactions neither wait for each other in a circle nor use one sequence twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any, Final, cast

import orjson
from sqlalchemy import Table, Update, bindparam, insert, select, tuple_, update
from sqlalchemy.orm import Session

from nilometer.domain import clock
from nilometer.domain.identity import uuid7
from nilometer.errors import NotFound
from nilometer.incidents import lifecycle
from nilometer.incidents.events import (
    IncidentEvent,
    Payload,
    consumers_of,
    payload_json,
    read_payload,
    type_of,
)
from nilometer.incidents.incident import Actor, Incident, Status
from nilometer.incidents.tables import IncidentEventRow, IncidentRow
from nilometer.workflows.enqueueing import enqueue
from nilometer.workflows.outbox import Notice, publish
from nilometer.workflows.task import NewTask

Key = tuple[int, str]
"""A project's id and an incident's."""

_TABLE: Final = cast("Table", IncidentRow.__table__)
_EVENTS: Final = cast("Table", IncidentEventRow.__table__)
_COLUMNS: Final = tuple(each.name for each in fields(Incident))
_CHUNK = 400


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many tasks of this key are under way at once."""

    key: str
    places: int


class History:
    """The changes of one transaction. `now` is the moment of all of them."""

    def __init__(self, session: Session, now: datetime) -> None:
        self.session = session
        self.now = now
        self.tasks: list[NewTask] = []
        self._micros = clock.to_micros(now)
        self._changed: dict[Key, tuple[Incident, dict[str, Any]]] = {}
        self._added: list[Incident] = []
        self._events: list[IncidentEvent] = []

    def load(self, keys: Iterable[Key]) -> dict[Key, Incident]:
        """The incidents of these keys that there are, locked until the transaction ends."""
        found: dict[Key, Incident] = {}
        wanted = sorted(set(keys))
        for start in range(0, len(wanted), _CHUNK):
            key = tuple_(_TABLE.c.project_id, _TABLE.c.id)
            query = select(_TABLE).where(key.in_(wanted[start : start + _CHUNK]))
            query = query.order_by(_TABLE.c.project_id, _TABLE.c.id).with_for_update()
            for row in self.session.execute(query).mappings():
                incident = Incident(**row)
                found[incident.project_id, incident.id] = incident
        return found

    def one(self, project_id: int, incident_id: str) -> Incident:
        """One incident, locked. Raises NotFound, the same for others' and none."""
        found = self.load([(project_id, incident_id)])
        if not found:
            raise NotFound("There is no such exception in this project.", attr="exception_id")
        return found[project_id, incident_id]

    def new_id(self) -> str:
        """An id for what is made now."""
        return uuid7(self._micros)

    def add(self, incident: Incident) -> None:
        """Have a new incident written, as it is when this is flushed."""
        self._added.append(incident)
        self._changed[incident.project_id, incident.id] = (incident, {})

    def change(
        self,
        incident: Incident,
        *payloads: Payload,
        actor: Actor,
        to: Status | None = None,
        causation_id: str | None = None,
        limit: Limit | None = None,
        details: Mapping[str, Any] | None = None,
        due_at: datetime | None = None,
        **values: Any,
    ) -> str | None:
        """Change an incident: columns by name, its status, and the events that tell of it; the
        tasks that they lead to follow from the registry. Returns the id of the last event. Each
        event after the first is caused by the one before it. Raises IllegalTransition.

        `limit`, `due_at` and `details`, which are added to the event's facts, are of those tasks.
        """
        if to is not None:
            lifecycle.check(incident.status, to)
            values["status"] = to
        for name, value in values.items():
            setattr(incident, name, value)
        _, changed = self._changed.setdefault((incident.project_id, incident.id), (incident, {}))
        changed.update(values)
        cause = causation_id
        for payload in payloads:
            cause = self._append(incident, payload, actor, cause)
            for queue in consumers_of(payload):
                facts = {**payload_json(payload), **(details or {})}
                self.ask(incident, queue, type_of(payload).name, facts, cause, limit, due_at)
        return cause

    def ask(
        self,
        incident: Incident,
        queue: str,
        kind: str,
        facts: Mapping[str, Any],
        causation_id: str | None,
        limit: Limit | None = None,
        due_at: datetime | None = None,
    ) -> None:
        """Have a stage do something about an incident, because of its last event."""
        self.tasks.append(
            NewTask(
                project_id=incident.project_id,
                queue=queue,
                lane=incident.id,
                sequence=incident.sequence,
                kind=kind,
                payload=facts,
                due_at=due_at,
                limit_key=limit and limit.key,
                limit=limit and limit.places,
                causation_id=causation_id,
                trace_context=incident.traceparent,
            )
        )

    def flush(self) -> None:
        """Write everything. Raises Conflict where a row was changed behind the lock."""
        if self._added:
            rows = [{name: getattr(each, name) for name in _COLUMNS} for each in self._added]
            self.session.execute(insert(_TABLE), rows)
        self._update()
        if self._events:
            self.session.execute(insert(_EVENTS), [_row(each) for each in self._events])
            publish(self.session, [_notice(each) for each in self._events])
        if self.tasks:
            enqueue(self.session, self.tasks, self.now)
        self._added, self._events, self.tasks = [], [], []
        self._changed = {}

    def _append(
        self, incident: Incident, payload: Payload, actor: Actor, causation_id: str | None
    ) -> str:
        incident.sequence += 1
        event = IncidentEvent(
            event_id=uuid7(self._micros),
            project_id=incident.project_id,
            incident_id=incident.id,
            sequence=incident.sequence,
            occurred_at=self.now,
            actor=actor,
            causation_id=causation_id,
            correlation_id=incident.id,
            traceparent=incident.traceparent,
            payload=payload,
        )
        self._events.append(event)
        return event.event_id

    def _update(self) -> None:
        """One statement for each set of columns that were changed together."""
        added = {(each.project_id, each.id) for each in self._added}
        groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for key, (incident, values) in self._changed.items():
            if key in added:
                continue
            written = {
                **values,
                "version": incident.version + 1,
                "sequence": incident.sequence,
                "updated_at": self.now,
            }
            bound = {f"new_{name}": value for name, value in written.items()}
            bound |= {
                "of_project": incident.project_id,
                "of_id": incident.id,
                "of_version": incident.version,
            }
            groups[tuple(sorted(written))].append(bound)
            incident.version += 1
            incident.updated_at = self.now
        for names, rows in groups.items():
            result = self.session.connection().execute(_statement(names), rows)
            if result.rowcount != len(rows):
                raise lifecycle.Conflict("the exception was changed meanwhile", code="changed")


@cache
def _statement(names: tuple[str, ...]) -> Update:
    return (
        update(_TABLE)
        .where(
            _TABLE.c.project_id == bindparam("of_project"),
            _TABLE.c.id == bindparam("of_id"),
            _TABLE.c.version == bindparam("of_version"),
        )
        .values({name: bindparam(f"new_{name}") for name in names})
    )


def _row(event: IncidentEvent) -> dict[str, Any]:
    return {
        "project_id": event.project_id,
        "incident_id": event.incident_id,
        "sequence": event.sequence,
        "event_id": event.event_id,
        "type": event.kind.name,
        "version": event.kind.version,
        "occurred_at": event.occurred_at,
        "actor_kind": event.actor.kind,
        "actor_id": event.actor.id,
        "causation_id": event.causation_id,
        "correlation_id": event.correlation_id,
        "traceparent": event.traceparent,
        "payload": payload_json(event.payload),
    }


def event_of(row: IncidentEventRow) -> IncidentEvent:
    """The event of a row. Raises UnknownEvent for one of a later release."""
    return IncidentEvent(
        event_id=row.event_id,
        project_id=row.project_id,
        incident_id=row.incident_id,
        sequence=row.sequence,
        occurred_at=row.occurred_at,
        actor=Actor(row.actor_kind, row.actor_id),
        causation_id=row.causation_id,
        correlation_id=row.correlation_id,
        traceparent=row.traceparent,
        payload=read_payload(row.type, row.version, row.payload),
    )


def events_of(session: Session, project_id: int, incident_id: str) -> list[IncidentEvent]:
    """An incident's history, from its first event. Empty for an incident that there is not."""
    query = (
        select(IncidentEventRow)
        .where(
            IncidentEventRow.project_id == project_id, IncidentEventRow.incident_id == incident_id
        )
        .order_by(IncidentEventRow.sequence)
    )
    return [event_of(row) for row in session.scalars(query)]


def change(
    session: Session,
    incident: Incident,
    *payloads: Payload,
    now: datetime,
    actor: Actor,
    to: Status | None = None,
    causation_id: str | None = None,
    **values: Any,
) -> None:
    """Change one incident, which `History.load` locked in this transaction, and write it."""
    history = History(session, now)
    history.change(incident, *payloads, actor=actor, to=to, causation_id=causation_id, **values)
    history.flush()


def _notice(event: IncidentEvent) -> Notice:
    return Notice(
        project_id=event.project_id,
        lane=event.incident_id,
        sequence=event.sequence,
        event_id=event.event_id,
        occurred_at=event.occurred_at,
        trace_context=event.traceparent,
        record=orjson.dumps(event.to_json()),
    )
