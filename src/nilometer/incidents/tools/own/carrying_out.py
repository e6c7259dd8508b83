"""Carries out a change of the database: whole, or not at all, within the caller's transaction."""

from __future__ import annotations

from sqlalchemy.orm import Session

from nilometer.database.engine import Database
from nilometer.database.fence import rows_of_project
from nilometer.errors import InvalidInput, NilometerError, NotFound
from nilometer.incidents.tools.call import ErrorClass, Failed, Outcome, Succeeded, ToolCall
from nilometer.incidents.tools.keeping import kept
from nilometer.incidents.tools.own.arguments import arguments
from nilometer.incidents.tools.own.changes import CHANGES
from nilometer.incidents.tools.resolving import Resolved


def carry_out(session: Session, call: ToolCall, tool: Resolved) -> Outcome:
    """Do it; what came of it. What fails is undone to the last row, and the rest of the transaction
    goes on."""
    try:
        with session.begin_nested():
            done = CHANGES[tool.kind](session, call, arguments(call, tool))
            session.flush()
    except (InvalidInput, NotFound) as error:
        return refused(error)
    return Succeeded(kept(tool, done))


def rehearse(database: Database, call: ToolCall, tool: Resolved) -> Outcome:
    """Do it in a transaction that is then undone: what would come of it, now. Raises
    DatabaseUnavailable."""
    with database.session(rows_of_project(call.project_id)) as session:
        outcome = carry_out(session, call, tool)
        session.rollback()
        return outcome


def refused(error: NilometerError) -> Failed:
    """What cannot be done: the same again would fail again."""
    return Failed(error.code, error.detail, ErrorClass.PERMANENT, asked=False)
