"""The nouns of this room: a task that is to be kept, one that is claimed, and how it can fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from nilometer.errors import NilometerError


class TaskState(StrEnum):
    """Where a task stands. One that is done has no row any more."""

    READY = "ready"
    """It waits for its time, its turn in the lane, and a worker."""
    LEASED = "leased"
    """A worker has it, until its lease ends."""
    DEAD = "dead"
    """It is a dead letter: given up, and its lane waits until somebody decides."""
    DISCARDED = "discarded"
    """Somebody decided that it is not to be done; kept for a while to be read."""


class ErrorClass(StrEnum):
    """Whether trying again can help."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    UNKNOWN = "unknown"
    """Nobody can tell: it is tried again as often as one that is transient."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed. `detail` is one sentence without secrets; `retry_after` is how many
    seconds at least the other side asked to be left alone."""

    code: str
    detail: str
    error_class: ErrorClass = ErrorClass.UNKNOWN
    retry_after: float | None = None


class TaskFailed(NilometerError):
    """Raised by a stage for a task that it cannot do: the failure says whether it is tried again.

    What the transaction had written for this task is undone; the others of its batch are done.
    """

    code = "task_failed"

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail, code=failure.code)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to keep.

    - `lane`: what it must keep its order in, such as an incident. A time to wait for (a deadline)
      needs a lane of its own, or it would hold up the others.
    - `sequence`: its place in the lane, there once; given in the order in which the transactions
      that write to the lane are committed.
    - `due_at`: not before then; None for at once.
    - `limit_key`, `limit`: of this key at most so many tasks of the project are worked at once.
    - `causation_id`: the event that asked for it. `trace_context`: a W3C `traceparent`.
    """

    project_id: int
    queue: str
    lane: str
    sequence: int
    kind: str
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])
    due_at: datetime | None = None
    limit_key: str | None = None
    limit: int | None = None
    causation_id: str | None = None
    trace_context: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A task in a worker's hands, until the lease named `lease` ends.

    `attempts` counts this one. `losses` is how often a worker had it and was heard of no more.
    `due_at` is when the lease ends.
    """

    project_id: int
    queue: str
    lane: str
    sequence: int
    kind: str
    payload: Mapping[str, Any] = field(repr=False)
    attempts: int
    losses: int
    lease: str
    due_at: datetime
    created_at: datetime
    limit_key: str | None
    limit: int | None
    causation_id: str | None
    trace_context: str | None

    @property
    def id(self) -> str:
        """Its name within the project."""
        return task_id(self.lane, self.sequence)

    @property
    def key(self) -> tuple[int, str, int]:
        """What the database knows it by."""
        return self.project_id, self.lane, self.sequence


def task_id(lane: str, sequence: int) -> str:
    """The name of a task within its project."""
    return f"{lane}.{sequence}"


def parse_task_id(name: str) -> tuple[str, int]:
    """The lane and the sequence of a task's name. Raises ValueError."""
    lane, dot, sequence = name.rpartition(".")
    if not dot or not lane or not sequence.isascii() or not sequence.isdigit() or len(sequence) > 9:
        raise ValueError("this is not the id of a task")
    return lane, int(sequence)
