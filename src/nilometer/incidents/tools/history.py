"""The executions of a project: listed, shown, and decided where nobody else knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any, Final

from sqlalchemy import Text, cast, func, literal, select, tuple_

from nilometer.access import audit
from nilometer.access.lookup import live_project
from nilometer.access.types import OPERATOR, Action, Authority
from nilometer.database.engine import Database
from nilometer.domain import clock
from nilometer.errors import NotFound
from nilometer.incidents.tools.execution import Execution, execution
from nilometer.incidents.tools.executions import Executions
from nilometer.incidents.tools.tables import EXECUTION_ID, ExecutionRow, ExecutionState
from nilometer.query import paging
from nilometer.query.paging import Listing, Page

MAX_PAGE: Final = 8 * 1024 * 1024
"""Characters of JSON that the inputs and outputs of a page have together, but for one execution."""
_LENGTH: Final = func.length(cast(ExecutionRow.input, Text)) + func.coalesce(
    func.length(cast(ExecutionRow.output, Text)), 0
)


class History:
    """The executions that an authority may see. Blocks; safe between threads.

    Every method raises DatabaseUnavailable, and NotFound for a project or execution that is not the
    authority's.
    """

    def __init__(self, database: Database, authority: Authority = OPERATOR) -> None:
        self._database = database
        self._authority = authority

    def acting_as(self, authority: Authority) -> History:
        """The same for somebody else."""
        return History(self._database, authority)

    def list(
        self,
        project_id: int,
        *,
        state: ExecutionState | None = None,
        tool: str | None = None,
        incident_id: str | None = None,
        limit: int = paging.DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Page[Execution]:
        """A project's executions, newest first: `limit` at most, and as many as `MAX_PAGE` lets
        through. `cursor` is of the page before, under the same filters. Raises InvalidInput."""
        filters = {"state": state, "tool": tool, "incident": incident_id}
        listing = Listing("tool executions", project_id, filters)
        query = select(ExecutionRow.id, _LENGTH).where(ExecutionRow.project_id == project_id)
        wanted = {"state": state, "tool": tool, "incident_id": incident_id}
        for name, value in wanted.items():
            if value is not None:
                query = query.where(getattr(ExecutionRow, name) == value)
        place = (ExecutionRow.began_at, ExecutionRow.id)
        start = paging.decode(cursor, listing, key_is_valid=_is_id) if cursor else None
        newer = start is not None and start.newer
        if start is not None:
            values = (clock.from_micros(start.micros), start.key)
            last = tuple_(
                *(literal(v, column.type) for v, column in zip(values, place, strict=True))
            )
            query = query.where(tuple_(*place) > last if newer else tuple_(*place) < last)
        order = place if newer else tuple(column.desc() for column in place)
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            sizes = session.execute(query.order_by(*order).limit(limit + 1)).all()
            ids = [each.id for each in sizes[: min(limit, _fitting(size for _, size in sizes))]]
            rows = session.scalars(
                select(ExecutionRow)
                .where(ExecutionRow.project_id == project_id, ExecutionRow.id.in_(ids))
                .order_by(*order)
            )
            found = [execution(row) for row in rows]
        return paging.page(
            found,
            more=len(sizes) > len(ids),
            cursor=start,
            listing=listing,
            place=lambda each: (clock.to_micros(each.began_at), each.id),
        )

    def get(self, project_id: int, execution_id: str) -> Execution:
        """One execution."""
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            known = _is_id(execution_id)
            row = session.get(ExecutionRow, (project_id, execution_id)) if known else None
            if row is None:
                raise NotFound("There is no such execution.", attr="execution_id")
            return execution(row)

    def decide(
        self,
        project_id: int,
        execution_id: str,
        *,
        succeeded: bool,
        output: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> Execution:
        """Say what became of one that is `unknown`, what it gave back, and how that is known
        (`reason`, kept in the audit log): whoever asked the receiver. Replayed, its task goes on
        from there: what was done is not done again, what was not is. Raises InvalidInput for one of
        which it is known, and for an output that cannot be kept."""
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            Executions().decide(
                *(session, project_id, execution_id),
                succeeded=succeeded,
                output=output,
                actor=self._authority.actor,
                now=clock.now(),
            )
            audit.record_of_project(
                *(session, self._authority, Action.TOOL_EXECUTION_DECIDE, project),
                subject=execution_id,
                detail={"succeeded": succeeded, **({"reason": reason} if reason else {})},
            )
            row = session.get_one(ExecutionRow, (project_id, execution_id), populate_existing=True)
            return execution(row)


def _fitting(sizes: Iterable[int]) -> int:
    """How many of these, in their order, fit on a page: one at least."""
    return max(1, sum(total <= MAX_PAGE for total in accumulate(sizes)))


def _is_id(text: str) -> bool:
    return 1 <= len(text) <= EXECUTION_ID and text.isprintable()
