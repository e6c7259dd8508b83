"""What may follow what: the one table of an incident's legal transitions."""

from __future__ import annotations

from typing import Final

from nilometer.errors import NilometerError
from nilometer.incidents.incident import Status

_WORKING = {Status.BLOCKED, Status.ESCALATED, Status.FAILED}
_AGAIN = {Status.RECEIVED}
"""Reprocessed: the chain begins again."""

TRANSITIONS: Final[dict[Status, frozenset[Status]]] = {
    Status.RECEIVED: frozenset({Status.OPEN, Status.DUPLICATE, Status.FAILED}),
    Status.OPEN: frozenset({Status.TRIAGED, Status.FAILED}),
    Status.TRIAGED: frozenset(
        {Status.IN_PROGRESS, Status.AWAITING_APPROVAL, Status.RESOLVED, *_WORKING}
    ),
    Status.AWAITING_APPROVAL: frozenset(
        {Status.TRIAGED, Status.IN_PROGRESS, Status.RESOLVED, *_WORKING, *_AGAIN}
    ),
    Status.IN_PROGRESS: frozenset(
        {Status.WAITING, Status.AWAITING_APPROVAL, Status.TRIAGED, Status.RESOLVED, *_WORKING}
    ),
    Status.WAITING: frozenset(
        {Status.IN_PROGRESS, Status.TRIAGED, Status.RESOLVED, *_WORKING, *_AGAIN}
    ),
    Status.DUPLICATE: frozenset(_AGAIN),
    Status.BLOCKED: frozenset({Status.TRIAGED, Status.RESOLVED, *_AGAIN}),
    Status.ESCALATED: frozenset({Status.TRIAGED, Status.IN_PROGRESS, Status.RESOLVED, *_AGAIN}),
    # A dead letter that is replayed puts an incident back to where it was.
    Status.FAILED: frozenset(set(Status) - {Status.FAILED, Status.DUPLICATE}),
    Status.RESOLVED: frozenset(_AGAIN),
}
"""By status, those that may come next. An incident may always stay where it is."""

AT_REST: Final = frozenset(
    {Status.DUPLICATE, Status.BLOCKED, Status.ESCALATED, Status.FAILED, Status.RESOLVED}
)
"""Nothing happens to the incident by itself."""

CLOSED: Final = frozenset({Status.DUPLICATE, Status.RESOLVED})
"""Nothing is left to do."""

REPROCESSABLE: Final = frozenset(
    status for status, following in TRANSITIONS.items() if Status.RECEIVED in following
)


class IllegalTransition(NilometerError):
    """The incident cannot go from its status to this one."""

    code = "illegal_transition"


class Conflict(NilometerError):
    """What was asked does not go with how things stand; `code` says what stands against it."""

    code = "conflict"


def check(current: Status, following: Status) -> None:
    """Raises IllegalTransition unless `following` is the same or may come next."""
    if current is not following and following not in TRANSITIONS[current]:
        raise IllegalTransition(
            f"an incident that is {current.value} does not become {following.value}",
            attr="status",
        )
