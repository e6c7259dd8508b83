"""Executions: begun and recorded, each within a transaction of the caller's.

An attempt is counted before anything is sent, and what came of it is kept in the same transaction
as what follows from it. What is a change of the database itself is made in that transaction too, so
that it happens exactly once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any, TypeGuard, cast

import orjson
from sqlalchemy import Row, Table, bindparam, delete, select, tuple_
from sqlalchemy.orm import Session

from nilometer.database.bulk import Bulk, bulk_insert
from nilometer.errors import InvalidInput, NotFound
from nilometer.incidents.tools import breaker
from nilometer.incidents.tools.breaker import Settled
from nilometer.incidents.tools.call import (
    TIMED_OUT,
    Beginning,
    Begun,
    Deferred,
    ErrorClass,
    Failed,
    Interrupted,
    Outcome,
    Over,
    Pending,
    Performed,
    Succeeded,
    ToolCall,
    Unknown,
)
from nilometer.incidents.tools.execution import Execution, execution, kept_outcome, outcome_of
from nilometer.incidents.tools.keeping import kept
from nilometer.incidents.tools.kinds import REMOTE
from nilometer.incidents.tools.own.carrying_out import carry_out
from nilometer.incidents.tools.remote_config import MAX_ANSWER
from nilometer.incidents.tools.resolving import Key, Resolved, resolve
from nilometer.incidents.tools.tables import (
    BreakerRow,
    ExecutionRow,
    ExecutionState,
    ToolRow,
    ToolSecretRow,
)
from nilometer.observability import metrics

_REDACTION_WAIT = 60.0
_TABLE = cast("Table", ExecutionRow.__table__)
# What is decided by. Core's rows: an object of the ORM for each would take ten times as long.
_STATE = select(
    *(
        _TABLE.c[name]
        for name in (
            *("project_id", "id", "tool", "kind", "tool_version", "state", "dry_run", "attempts"),
            *("output", "error_code", "error", "error_class", "began_at"),
        )
    )
)
_KEY = ("project_id", "id")
_PLACE = tuple(_TABLE.c[name] for name in _KEY)
_LOCKED = (
    _STATE.where(tuple_(*_PLACE).in_(bindparam("ids", expanding=True)))
    .order_by(*_PLACE)
    .with_for_update()
)

_Id = tuple[int, str]


class Executions:
    """Keeps what becomes of calls. Holds nothing; safe between threads.

    Every method is part of the caller's transaction, which may touch the rows of all the projects
    of its calls. Calls of many projects may come together: a method takes a few statements, however
    many they are, and one more for each that is `Pending`.
    """

    def begin(self, session: Session, calls: Sequence[ToolCall], now: datetime) -> list[Beginning]:
        """What to do about each of these calls, in their order; an attempt is counted of those that
        are `Begun`. To be committed before anything is executed."""
        rows = _locked(session, [_id(call) for call in calls])
        tools = resolve(session, {(call.project_id, call.tool) for call in calls}, now)
        judged = [
            _judged(call, rows.get(_id(call)), tools[call.project_id, call.tool], now)
            for call in calls
        ]
        found = _admitted(session, judged, now)
        _count(session, found, rows, now)
        return found

    def record(
        self, session: Session, performed: Sequence[tuple[ToolCall, Performed]], now: datetime
    ) -> list[Outcome]:
        """Keep what came of these calls, which are as `begin` gave them, and do what is `Pending`;
        what came of each, in their order. One that has succeeded before stays as it is."""
        rows = _locked(session, [_id(call) for call, _ in performed])
        outcomes: list[Outcome] = []
        settled: list[Settled] = []
        changes: list[dict[str, Any]] = []
        for call, result in performed:
            row = rows.get(_id(call))
            if row is None:
                raise NotFound(f"execution {call.execution_id} was never begun")
            if row.state is ExecutionState.SUCCEEDED:
                outcomes.append(outcome_of(row))
                continue
            outcome = _keepable(_carried_out(session, call, result))
            outcomes.append(outcome)
            metrics.TOOL_EXECUTIONS.labels(row.kind, _named(outcome)).inc()
            changes.append(_of(call) | kept_outcome(outcome, now))
            if not call.dry_run and call.resolved is not None:
                settled.append(Settled(call.resolved.tool, call.execution_id, outcome))
        _write(session, changes)
        breaker.settle(session, settled, now)
        return outcomes

    def decide(
        self,
        session: Session,
        project_id: int,
        execution_id: str,
        *,
        succeeded: bool,
        output: Mapping[str, Any] | None = None,
        actor: str,
        now: datetime,
    ) -> Outcome:
        """A person says what became of an execution that nobody knows: the outcome that it then
        has. `output` is what it gave back, for the steps that read it. Raises NotFound, and
        InvalidInput for one of which it is known, and for an output that cannot be kept."""
        row = _locked(session, [(project_id, execution_id)]).get((project_id, execution_id))
        if row is None:
            raise NotFound("There is no such execution.", attr="execution_id")
        if row.state is ExecutionState.RUNNING:
            raise InvalidInput(
                "an attempt is under way, or its worker died: where the exception has a dead "
                "letter, replay it, and what became of the attempt is found out or is unknown",
                code="not_unknown",
            )
        if row.state is not ExecutionState.UNKNOWN:
            raise InvalidInput("what became of this execution is known", code="not_unknown")
        if output is not None and not succeeded:
            raise InvalidInput("only what succeeded has an output", attr="output")
        outcome = _found_done(session, row, output or {}, now) if succeeded else _NOT_DONE
        decided = {"project_id": project_id, "id": execution_id, "decided_by": actor[:200]}
        _write(session, [decided | kept_outcome(outcome, now)])
        return outcome

    def of_incident(self, session: Session, project_id: int, incident_id: str) -> list[Execution]:
        """The executions of an incident, oldest first."""
        query = select(ExecutionRow).where(
            ExecutionRow.project_id == project_id, ExecutionRow.incident_id == incident_id
        )
        order = (ExecutionRow.began_at, ExecutionRow.id)
        return [execution(row) for row in session.scalars(query.order_by(*order))]

    def forget(self, session: Session, project_id: int) -> None:
        """Delete all that this room has of a project that is being deleted: its tools, their
        secrets, executions and breakers."""
        for table in (BreakerRow, ExecutionRow, ToolSecretRow, ToolRow):
            session.execute(delete(table).where(table.project_id == project_id))


_UNKEEPABLE = Failed(
    "output_unkeepable",
    "It was done, and what was given back cannot be kept.",
    ErrorClass.PERMANENT,
    asked=True,
)
_WAITED_TOO_LONG = Failed(
    breaker.OPEN,
    "The tool failed too often, and was left alone for longer than the step may wait.",
    ErrorClass.PERMANENT,
    asked=False,
)
_TOOL_CHANGED = Unknown(
    breaker.TOOL_CHANGED,
    "The tool was changed since the request was sent: who is asked now may know nothing of it.",
    reconcilable=False,
    asked=False,
)
_NOT_DONE = Failed(
    "found_not_done", "A person found that it was not done.", ErrorClass.PERMANENT, asked=False
)


def _id(call: ToolCall) -> _Id:
    return call.project_id, call.execution_id


def _tool(call: ToolCall) -> Key:
    return call.project_id, call.tool


def _of(call: ToolCall) -> dict[str, Any]:
    return {"project_id": call.project_id, "id": call.execution_id}


def _locked(session: Session, ids: Collection[_Id]) -> dict[_Id, Row[Any]]:
    """How these executions stand, for as long as the transaction lasts nobody else's."""
    found = session.execute(_LOCKED, {"ids": list(ids)})
    return {(row.project_id, row.id): row for row in found}


def _judged(call: ToolCall, row: Row[Any] | None, tool: Resolved, now: datetime) -> Beginning:
    attempt, began_at = (row.attempts + 1, row.began_at) if row else (1, now)
    resolved = replace(call, resolved=tool, attempt=attempt, began_at=began_at)
    if row is not None and row.state is ExecutionState.SUCCEEDED:
        return Over(replace(resolved, attempt=row.attempts), outcome_of(row))
    if tool.rules is not None and not tool.rules.readable:
        return Deferred(
            "redaction_unavailable",
            "The project's redaction rules cannot be read by this release.",
            _REDACTION_WAIT,
        )
    if row is not None and row.state in (ExecutionState.RUNNING, ExecutionState.UNKNOWN):
        same = replace(resolved, attempt=row.attempts)
        changed = row.tool_version != tool.tool.version and row.kind in REMOTE and not row.dry_run
        return Over(same, _TOOL_CHANGED) if changed else Interrupted(same)
    return Over(resolved, tool.refusal) if tool.refusal else Begun(resolved)


def _admitted(session: Session, judged: list[Beginning], now: datetime) -> list[Beginning]:
    judged = _in_time(session, judged, now)
    asking = [
        (_tool(each.call), each.call.execution_id)
        for each in judged
        if isinstance(each, Begun) and not each.call.dry_run
    ]
    refused = breaker.admit(session, asking, now)
    return [
        _waiting(each, refused[_id(each.call)], now)
        if isinstance(each, Begun) and _id(each.call) in refused
        else each
        for each in judged
    ]


def _in_time(session: Session, judged: list[Beginning], now: datetime) -> list[Beginning]:
    """None of which is begun after its time: it waited for a breaker, or for something else."""
    late = {_tool(each.call) for each in judged if _is_late(each, now)}
    if not late:
        return judged
    waited = breaker.troubled(session, late)
    return [_not_begun(each, waited) if _is_late(each, now) else each for each in judged]


def _is_late(each: Beginning, now: datetime) -> TypeGuard[Begun]:
    return isinstance(each, Begun) and each.call.is_late(now)


def _not_begun(each: Begun, waited: Collection[Key]) -> Over:
    why = _WAITED_TOO_LONG if _tool(each.call) in waited else TIMED_OUT
    return Over(replace(each.call, attempt=each.call.attempt - 1), why)


def _waiting(each: Begun, refused: Deferred, now: datetime) -> Deferred | Over:
    """One whose tool's breaker is open: it waits, for as long as it may."""
    call = each.call
    if call.until is None or now < call.until:
        metrics.TOOL_EXECUTIONS.labels(_kind(call), "deferred").inc()
        return refused
    return Over(replace(call, attempt=call.attempt - 1), _WAITED_TOO_LONG)


def _count(
    session: Session,
    found: Sequence[Beginning],
    rows: Mapping[_Id, Row[Any]],
    now: datetime,
) -> None:
    """Keep that these attempts began, and what can come of no attempt."""
    new: list[dict[str, Any]] = []
    again: list[dict[str, Any]] = []
    for each in found:
        if isinstance(each, Deferred | Interrupted):
            continue
        row = rows.get(_id(each.call))
        if row is None:
            new.append(_first(each, now))
        elif row.state is not ExecutionState.SUCCEEDED and not _asked_before(each):
            again.append(_of(each.call) | _attempt(each, now))
    if new:
        names = tuple(new[0])
        _insert(names).run(session, ([each[name] for name in names] for each in new))
    _write(session, again)


def _asked_before(each: Begun | Over) -> bool:
    """Whether it is over because of an earlier attempt, which stays as it was begun."""
    return isinstance(each, Over) and each.outcome == _TOOL_CHANGED


def _first(each: Begun | Over, now: datetime) -> dict[str, Any]:
    call = each.call
    assert call.resolved is not None, "it was judged"
    return {
        "project_id": call.project_id,
        "id": call.execution_id,
        "incident_id": call.incident_id,
        "tool": call.tool,
        "kind": _kind(call),
        "dry_run": call.dry_run,
        "input": kept(call.resolved, call.input),
        "traceparent": call.traceparent,
        "began_at": call.began_at,
        **_attempt(each, now),
    }


def _attempt(each: Begun | Over, now: datetime) -> dict[str, Any]:
    call = each.call
    assert call.resolved is not None, "it was judged"
    outcome = {
        "state": ExecutionState.RUNNING,
        "output": None,
        "error_code": None,
        "error": None,
        "error_class": None,
        "finished_at": None,
    }
    if isinstance(each, Over):
        outcome = kept_outcome(each.outcome, now)
    return {
        "attempts": call.attempt,
        "attempted_at": now,
        "tool_version": call.resolved.tool.version,
        **outcome,
    }


def _carried_out(session: Session, call: ToolCall, result: Performed) -> Outcome:
    return carry_out(session, call, result.resolved) if isinstance(result, Pending) else result


def _found_done(
    session: Session, row: Row[Any], output: Mapping[str, Any], now: datetime
) -> Succeeded:
    """What a person says that an execution gave back, as it may be kept."""
    key = row.project_id, row.tool
    told = kept(resolve(session, [key], now)[key], output)
    if len(orjson.dumps(told)) > MAX_ANSWER:
        raise InvalidInput(f"give at most {MAX_ANSWER} bytes of JSON", attr="output")
    return Succeeded(told)


def _keepable(outcome: Outcome) -> Outcome:
    """The outcome, or that what was given back cannot be kept. Left unrecorded it would look like a
    process that died, and be asked for again and again."""
    if isinstance(outcome, Succeeded):
        try:
            orjson.dumps(outcome.output)
            json.dumps(outcome.output, allow_nan=False)
        except (TypeError, ValueError):
            return _UNKEEPABLE
    return outcome


def _kind(call: ToolCall) -> str:
    assert call.resolved is not None, "it was judged"
    return call.resolved.tool.kind


def _named(outcome: Outcome) -> str:
    """As the metric has it."""
    if isinstance(outcome, Failed):
        return "failed_for_now" if outcome.is_transient else "failed"
    return "succeeded" if isinstance(outcome, Succeeded) else "unknown"


def _write(session: Session, changes: Sequence[Mapping[str, Any]]) -> None:
    """Change executions, each by its key; all of them the same columns."""
    if changes:
        names = tuple(name for name in changes[0] if name not in _KEY)
        wanted = (*names, *_KEY)
        _update(names).run(session, ([each[name] for name in wanted] for each in changes))


@cache
def _insert(names: tuple[str, ...]) -> Bulk:
    return bulk_insert(_TABLE, names)


@cache
def _update(names: tuple[str, ...]) -> Bulk:
    given = ", ".join(f"{name} = ?" for name in names)
    found = " AND ".join(f"{name} = ?" for name in _KEY)
    statement = f"UPDATE {_TABLE.name} SET {given} WHERE {found}"  # noqa: S608
    return Bulk(statement, [_TABLE.c[name] for name in (*names, *_KEY)])
