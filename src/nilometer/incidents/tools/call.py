"""The nouns of this room that its callers need: a call of a tool, and what can come of it.

What a caller does with them, for each step of a playbook:

1. `Executions.begin`, in a transaction: `Begun` to `execute`, `Interrupted` to `reconcile`, `Over`
   to take what was recorded before, `Deferred` to come again later.
2. `Executor.execute` or `Executor.reconcile`, outside of any transaction.
3. `Executions.record`, in the transaction of what follows from it. What it returns is what came of
   the call: a `Pending` is only carried out there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from nilometer.incidents.tools.resolving import Resolved

Json = dict[str, Any]


class ErrorClass(StrEnum):
    """Whether the same again can succeed without somebody changing something."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool to be called once, for an incident.

    `execution_id` (1 to 64 letters, digits, `-`, `_`, `.` and `:`) names it, unique in its project
    and the same over all attempts: it is what a receiver gets as the idempotency key. `tool` is the
    tool's name. `traceparent` is W3C's. `begin` fills in the rest: `attempt` counts from 1,
    `began_at` is of the first one, and `resolved` is the tool as it was then; without it,
    `execute` looks it up. `until` is how long it may wait for a breaker, None for any time; `ends`
    is when no attempt may begin any more, and nothing be sent again, None for never.
    """

    project_id: int
    incident_id: str
    execution_id: str
    tool: str
    input: Mapping[str, Any] = field(repr=False)
    dry_run: bool = False
    attempt: int = 1
    traceparent: str | None = None
    began_at: datetime | None = None
    until: datetime | None = None
    ends: datetime | None = None
    resolved: Resolved | None = field(default=None, repr=False, compare=False)

    def is_late(self, now: datetime) -> bool:
        """Whether an attempt that begins now would come too late."""
        return self.ends is not None and now >= self.ends


@dataclass(frozen=True, slots=True)
class Succeeded:
    """It was done. `output` is as it may be kept: redacted, and without the tool's secrets."""

    output: Json = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """It was not done, or the receiver said that it failed. `detail` is a sentence of ours, without
    an address, a secret or what a receiver wrote. `retry_after` is in how many seconds it may be
    tried again at the earliest, None where nobody said. `asked`: see `Unknown`."""

    code: str
    detail: str
    error_class: ErrorClass
    retry_after: float | None = None
    asked: bool = field(kw_only=True)

    @property
    def is_transient(self) -> bool:
        """Whether to try again."""
        return self.error_class is ErrorClass.TRANSIENT


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody here knows whether it was done: it must not simply be done again.

    `reconcilable`: `Executor.reconcile` can find out, now or later (with the backoff of a retry).
    Otherwise a person has to say what became of it (`Executions.decide`).

    `asked` is whether this attempt came so far as to ask the receiver, or to find nobody there:
    what else ended it says nothing of him, and so nothing to the breaker. It has no default: who
    makes an outcome has to know.
    """

    code: str
    detail: str
    reconcilable: bool
    asked: bool = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Pending:
    """It is done within `Executions.record`, in that transaction, and so exactly once; until then
    nothing is. Its members are this room's."""

    resolved: Resolved = field(repr=False)


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now: the tool's breaker is open. Nothing was tried and no attempt was counted. `since`
    is when that began, where it is known."""

    code: str
    detail: str
    retry_after: float
    since: datetime | None = None


TIMED_OUT: Final = Failed(
    "timed_out",
    "The step's time was over before this attempt could begin.",
    ErrorClass.PERMANENT,
    asked=False,
)
"""What became of an attempt that was not made."""

Outcome = Succeeded | Failed | Unknown
"""What is kept of a call."""

Performed = Outcome | Pending
"""What `execute` and `reconcile` give, for `record`."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The call was counted: execute it as it is here."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An earlier attempt began and nobody knows what came of it: reconcile the call. Not counted
    again."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class Over:
    """What came of it was recorded before, or nothing can come of it. There is nothing to do."""

    call: ToolCall
    outcome: Outcome


Beginning = Begun | Interrupted | Over | Deferred


def code_of(performed: Performed) -> str | None:
    """The code of what failed, or of what nobody knows; None for what did not."""
    return performed.code if isinstance(performed, Failed | Unknown) else None
