"""What budgets and rules raise becomes an incident, in the transaction that decided it."""

from __future__ import annotations

import logging

from sqlalchemy.orm import Session

from nilometer.budgets.raising import Raised
from nilometer.domain import clock
from nilometer.incidents.accept import ProjectPaused, raise_exceptions
from nilometer.incidents.incident import OWN_SOURCE, Actor, ActorKind, NewException
from nilometer.observability import tracing

_log = logging.getLogger(__name__)


def accepted(session: Session, project_id: int, raised: Raised) -> str | None:
    """Have it handled, once for its key: its id. None for a project that takes nothing in for now;
    the alert is then told all the same."""
    exception = NewException(
        exception_type=raised.exception_type,
        source_system=OWN_SOURCE,
        severity=raised.severity,
        occurred_at=raised.occurred_at,
        payload=raised.payload,
    )
    named = {"nilometer.project.id": project_id, "nilometer.rule": raised.actor}
    try:
        with tracing.started("raise exception", None, tracing.Kind.PRODUCER, named) as span:
            [told] = raise_exceptions(
                session,
                project_id,
                [exception],
                actor=Actor(ActorKind.RULE, raised.actor),
                idempotency_key=raised.key,
                traceparent=span.traceparent,
                now=clock.now(),
            )
    except ProjectPaused:
        _log.warning("project %d takes no exception of %s in for now", project_id, raised.actor)
        return None
    return told.exception_id
