"""What a stage is to its runner: the two protocols that are implemented for each queue.

A runner claims tasks of the queue, in batches, and settles each batch in one transaction. A stage
without an effect outside the database is a `Stage`; one that calls others is an `Effect`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Generic, Protocol, TypeVar

from sqlalchemy.orm import Session

from nilometer.workflows.task import Failure, Task


class Failures(Protocol):
    """What a stage writes when one of its tasks has failed, in the transaction that says so."""

    def lock(self, session: Session, tasks: Sequence[Task]) -> None:
        """Lock what these tasks are about. Called before the tasks themselves are locked: whoever
        decides about it and then drops its tasks locks in the same order, so that neither waits for
        the other for ever."""
        ...

    def retried(
        self, session: Session, task: Task, failure: Failure, due_at: datetime, now: datetime
    ) -> None:
        """It failed and is tried again then."""
        ...

    def died(self, session: Session, task: Task, failure: Failure, now: datetime) -> None:
        """It is given up: a dead letter from now on, and its lane waits."""
        ...


class Stage(Failures, Protocol):
    """Works in the database alone."""

    queue: ClassVar[str]
    """The queue that it works on."""

    def work(self, session: Session, tasks: Sequence[Task], now: datetime) -> None:
        """Do these tasks, each of another lane, in this transaction, which also ends them and keeps
        the tasks that it enqueues.

        Must not call anything outside the database: it may be undone and done again. Raising means
        that one of them cannot be done: when there are several, each is then tried alone, in a
        transaction of its own. Raises TaskFailed to say how a task failed; any other error counts
        as of an unknown class, and `Unavailable` as nobody's failure.
        """
        ...


Begun = TypeVar("Begun")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Postponed:
    """A task that cannot be begun before then, because of `why`. It keeps its row and its place; no
    attempt took place. `settling.hasten` lets those begin that wait for one thing."""

    due_at: datetime
    why: Failure


@dataclass(frozen=True, slots=True)
class Performed(Generic[Begun, Outcome]):
    """A task, what was begun for it, and what came of that."""

    task: Task
    begun: Begun
    outcome: Outcome


class Effect(Failures, Protocol[Begun, Outcome]):
    """Calls others: begun in one transaction, performed outside of any, recorded in another.

    A process that dies between the two leaves what was begun behind. The task is claimed again when
    its lease has ended, and `begin` finds that, and decides.
    """

    queue: ClassVar[str]
    """The queue that it works on."""

    def begin(
        self, session: Session, tasks: Sequence[Task], now: datetime
    ) -> Sequence[Begun | Postponed | None]:
        """Write down that each is about to be performed; what `perform` gets, in their order. None
        for a task with nothing to perform: it is done with this transaction. Raises as
        `Stage.work`."""
        ...

    def perform(self, begun: Begun) -> Outcome:
        """Do it. Blocks, in one of many threads, and must end by itself. Must not raise: what
        raises is left as if the process had died."""
        ...

    def record(
        self, session: Session, performed: Sequence[Performed[Begun, Outcome]], now: datetime
    ) -> list[Failure | None]:
        """Write down what came of each, in the transaction that ends the tasks; for each, in their
        order, the failure after which it is tried again or given up, or None: it is done. Raises as
        `Stage.work`, and is then called for each alone; an outcome that cannot be recorded is left
        as if the process had died."""
        ...
