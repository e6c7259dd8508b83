"""Every change of an incident goes through here: its row, its events, the tasks that they lead to
and what the topic is told, all in the caller's transaction.

A `History` holds the changes of many incidents in memory and writes them at `flush`, with one
statement for each kind of change. Rows are locked when they are read, in the order of their keys,
so that two transactions neither wait for each other in a circle nor use one sequence twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, Final, cast

import orjson
from sqlalchemy import Table, bindparam, select, tuple_
from sqlalchemy.orm import Session

from nilometer.database.bulk import Bulk, bulk_insert
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
from nilometer.incidents.telling import TOLD, tell
from nilometer.workflows.enqueueing import enqueue
from nilometer.workflows.outbox import Notice, publish
from nilometer.workflows.task import NewTask

Key = tuple[int, str]
"""A project's id and an incident's."""

_TABLE: Final = cast("Table", IncidentRow.__table__)
_EVENTS: Final = cast("Table", IncidentEventRow.__table__)
_COLUMNS: Final = tuple(each.name for each in fields(Incident))
_ADD: Final = bulk_insert(_TABLE, _COLUMNS)
_TELL: Final = bulk_insert(
    _EVENTS,
    (
        *("project_id", "incident_id", "sequence", "event_id", "type", "version", "occurred_at"),
        *("actor_kind", "actor_id", "causation_id", "correlation_id", "traceparent", "payload"),
    ),
)
# Reads of incidents by their keys, that lock them in the order in which everybody does.
_KEY: Final = (_TABLE.c.project_id, _TABLE.c.id)
_OURS: Final = tuple_(*_KEY).in_(bindparam("keys", expanding=True))
_LOCK: Final = select(_TABLE.c.id).where(_OURS).order_by(*_KEY).with_for_update()
_WHOLE: Final = (
    select(*(_TABLE.c[name] for name in _COLUMNS)).where(_OURS).order_by(*_KEY).with_for_update()
)
_CHUNK = 400


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many tasks of this key are under way at once."""

    key: str
    places: int


def lock(session: Session, keys: Iterable[Key]) -> None:
    """Lock these incidents until the transaction ends, as `History.load` does. SQLite has one
    writer, and nothing to lock."""
    if session.get_bind().dialect.name == "postgresql":
        for wanted in _chunks(keys):
            session.execute(_LOCK, {"keys": wanted})


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
        for wanted in _chunks(keys):
            for row in self.session.execute(_WHOLE, {"keys": wanted}):
                incident = Incident(**dict(zip(_COLUMNS, row, strict=True)))
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
        # What else is pending in the session was said before.
        self.session.flush()
        _ADD.run(self.session, map(_values, self._added))
        self._update()
        told = [(each, payload_json(each.payload)) for each in self._events]
        _TELL.run(self.session, [_row(event, facts) for event, facts in told])
        publish(self.session, [_notice(event, facts) for event, facts in told])
        if self.tasks:
            enqueue(self.session, self.tasks, self.now)
        tell(self.session, self._told())
        self._added, self._events, self.tasks = [], [], []
        self._changed = {}

    def _told(self) -> list[tuple[IncidentEvent, Incident]]:
        """The events that people are told of."""
        told = [each for each in self._events if type(each.payload) in TOLD]
        return [(each, self._changed[each.project_id, each.incident_id][0]) for each in told]

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
        groups: dict[tuple[str, ...], list[list[Any]]] = defaultdict(list)
        for key, (incident, values) in self._changed.items():
            if key in added:
                continue
            written = {
                **values,
                "version": incident.version + 1,
                "sequence": incident.sequence,
                "updated_at": self.now,
            }
            names = tuple(sorted(written))
            place = (incident.project_id, incident.id, incident.version)
            groups[names].append([*(written[name] for name in names), *place])
            incident.version += 1
            incident.updated_at = self.now
        for names, rows in groups.items():
            if _statement(names).run(self.session, rows) != len(rows):
                raise lifecycle.Conflict("the exception was changed meanwhile", code="changed")


def _chunks(keys: Iterable[Key]) -> Iterator[list[Key]]:
    wanted = sorted(set(keys))
    for start in range(0, len(wanted), _CHUNK):
        yield wanted[start : start + _CHUNK]


@cache
def _statement(names: tuple[str, ...]) -> Bulk:
    """Changes these columns of an incident that is of a version still."""
    key = ("project_id", "id", "version")
    given = ", ".join(f"{name} = ?" for name in names)
    found = " AND ".join(f"{name} = ?" for name in key)
    statement = f"UPDATE {_TABLE.name} SET {given} WHERE {found}"  # noqa: S608
    return Bulk(statement, [_TABLE.c[name] for name in (*names, *key)])


_values = attrgetter(*_COLUMNS)


def _row(event: IncidentEvent, facts: dict[str, Any]) -> tuple[Any, ...]:
    kind = event.kind
    return (
        *(event.project_id, event.incident_id, event.sequence, event.event_id),
        *(kind.name, kind.version, event.occurred_at),
        *(event.actor.kind, event.actor.id, event.causation_id, event.correlation_id),
        *(event.traceparent, facts),
    )


def event_of(row: IncidentEventRow) -> IncidentEvent:
    """The event of a row."""
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


def _notice(event: IncidentEvent, facts: dict[str, Any]) -> Notice:
    return Notice(
        project_id=event.project_id,
        lane=event.incident_id,
        sequence=event.sequence,
        event_id=event.event_id,
        occurred_at=event.occurred_at,
        trace_context=event.traceparent,
        record=orjson.dumps(event.to_json(facts)),
    )
