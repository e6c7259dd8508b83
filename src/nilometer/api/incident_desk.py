"""Where the API's reads and decisions about incidents meet the database: in threads, one
transaction each, which sees one project's rows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import TypeVar

from sqlalchemy.orm import Session

from nilometer.api.workers import Workers
from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW, rows_of_project
from nilometer.domain import clock
from nilometer.incidents.reads import IncidentReads
from nilometer.incidents.stage_health import ChainHealth, chain_health
from nilometer.workflows.enqueueing import enqueued_in

Result = TypeVar("Result")


class IncidentDesk:
    """Opens the transactions. `wake` is called once a decision is committed, with the queues that
    it added to."""

    def __init__(
        self, database: Database, workers: Workers, wake: Callable[[Collection[str]], None]
    ) -> None:
        self._database = database
        self._workers = workers
        self._wake = wake

    async def read(self, project_id: int, ask: Callable[[IncidentReads], Result]) -> Result:
        """What was asked, of one consistent moment. Raises as `Workers.run` does."""

        def asked() -> Result:
            with self._database.read(rows_of_project(project_id)) as session:
                return ask(IncidentReads(session, project_id))

        return await self._workers.run(asked)

    async def chain(self) -> tuple[ChainHealth, datetime]:
        """How the stages keep up, over every tenant, and at which moment: for the operator of the
        deployment."""

        def asked() -> tuple[ChainHealth, datetime]:
            now = clock.now()
            with self._database.read(EVERY_ROW) as session:
                return chain_health(session, now), now

        return await self._workers.run(asked)

    async def decide(
        self, project_id: int, decide: Callable[[Session, datetime], Result]
    ) -> Result:
        """What came of a decision, durable when this returns. `decide` is given the moment, too."""

        def decided() -> Result:
            with self._database.concurrent(rows_of_project(project_id)) as session:
                result = decide(session, clock.now())
            self._wake(enqueued_in(session))
            return result

        return await self._workers.run(decided)
