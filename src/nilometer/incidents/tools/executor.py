"""Executes calls: the one place that knows what is done for which kind of tool.

Everything here is done outside of any transaction. What is a change of the database is only checked
here (`Pending`); `Executions.record` makes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nilometer.database.engine import Database
from nilometer.database.fence import rows_of_project
from nilometer.domain import clock
from nilometer.errors import InvalidInput, NotFound, Unavailable
from nilometer.incidents.tools import schemas
from nilometer.incidents.tools.call import (
    TIMED_OUT,
    ErrorClass,
    Failed,
    Json,
    Outcome,
    Pending,
    Performed,
    Succeeded,
    ToolCall,
    Unknown,
    code_of,
)
from nilometer.incidents.tools.keeping import kept
from nilometer.incidents.tools.kinds import INPUTS, REMOTE, ToolKind
from nilometer.incidents.tools.own.arguments import actor_of, arguments
from nilometer.incidents.tools.own.carrying_out import refused, rehearse
from nilometer.incidents.tools.own.changes import CHANGES
from nilometer.incidents.tools.own.elsewhere import Elsewhere
from nilometer.incidents.tools.remote import Remote
from nilometer.incidents.tools.resolving import Resolved, resolve
from nilometer.observability import tracing
from nilometer.observability.tracing import Kind

DEFAULT_LETTERS = 100
DEFAULT_DAYS = 7
DEFAULT_LEVELS = ("service", "model", "user")

_log = logging.getLogger(__name__)


class Executor:
    """Executes one call at a time. Blocks, for as long as a tool's timeout at most for what goes
    to an address; safe between threads."""

    def __init__(self, database: Database, remote: Remote, elsewhere: Elsewhere) -> None:
        self._database = database
        self._remote = remote
        self._elsewhere = elsewhere

    def execute(self, call: ToolCall) -> Performed:
        """Do it, once; of a dry run, tell what would be done, and do nothing.

        Raises DatabaseUnavailable where the tool must be looked up or a change be rehearsed, and
        nothing else.
        """
        tool = call.resolved or self._resolved(call)
        return _traced("execute", call, tool, lambda same: self._executed(same, tool))

    def _executed(self, call: ToolCall, tool: Resolved) -> Performed:
        if tool.refusal is not None:
            return tool.refusal
        if wrong := _wrong_input(call, tool):
            return wrong
        if call.dry_run:
            return self._guarded(lambda: self._rehearsed(call, tool), tool, sends=False)
        return self._guarded(lambda: self._performed(call, tool), tool, sends=True)

    def reconcile(self, call: ToolCall) -> Performed:
        """Find out what became of a call that began and has no outcome, or do it again where that
        does it once all the same. `Unknown` that is reconcilable: ask again later."""
        tool = call.resolved or self._resolved(call)
        return _traced("reconcile", call, tool, lambda same: self._reconciled(same, tool))

    def _reconciled(self, call: ToolCall, tool: Resolved) -> Performed:
        if call.dry_run:
            return self._executed(call, tool)
        if tool.refusal is not None:
            refusal = tool.refusal
            return Unknown(refusal.code, refusal.detail, reconcilable=False, asked=False)
        if tool.kind in REMOTE:
            return self._guarded(lambda: self._remote.reconcile(call, tool), tool, sends=True)
        if tool.kind in CHANGES and call.is_late(clock.now()):
            return TIMED_OUT  # what is done in the transaction that records it was not done
        return self._executed(call, tool)

    def _resolved(self, call: ToolCall) -> Resolved:
        key = call.project_id, call.tool
        with self._database.read(rows_of_project(call.project_id)) as session:
            return resolve(session, [key], clock.now())[key]

    def _performed(self, call: ToolCall, tool: Resolved) -> Performed:
        kind = tool.kind
        if kind in REMOTE:
            return self._remote.perform(call, tool)
        if kind in CHANGES:
            return Pending(tool)
        return Succeeded(kept(tool, self._elsewhere_done(call, tool)))

    def _elsewhere_done(self, call: ToolCall, tool: Resolved) -> Json:
        asked = arguments(call, tool)
        if tool.kind is ToolKind.DEAD_LETTERS_REPLAY:
            return self._elsewhere.letters.replay(
                call.project_id,
                reason=asked.get("reason"),
                most=asked.get("limit", DEFAULT_LETTERS),
                actor=actor_of(call),
                note=f"execution {call.execution_id}",
            )
        if tool.kind is ToolKind.REPORT_ATTACH:
            days, levels = asked.get("days", DEFAULT_DAYS), asked.get("group_by", DEFAULT_LEVELS)
            return self._elsewhere.reports.make(call.project_id, days=days, group_by=levels)
        raise InvalidInput(f"Nothing is known to do for tools of kind {tool.kind}.", code="no_way")

    def _rehearsed(self, call: ToolCall, tool: Resolved) -> Outcome:
        kind, asked = tool.kind, arguments(call, tool)
        would: Json | Failed
        if kind in REMOTE:
            would = self._remote.preview(call, tool)
        elif kind in CHANGES:
            outcome = rehearse(self._database, call, tool)
            if not isinstance(outcome, Succeeded):
                return outcome
            would = outcome.output
        elif kind is ToolKind.DEAD_LETTERS_REPLAY:
            reason, most = asked.get("reason"), asked.get("limit", DEFAULT_LETTERS)
            found = self._elsewhere.letters.count(call.project_id, reason)
            would = {"replayed": min(found, most), "open": found}
        else:
            would = self._elsewhere_done(call, tool)
        if isinstance(would, Failed):
            return would
        return Succeeded(kept(tool, {"dry_run": True, "would": would}))

    def _guarded(self, do: Callable[[], Performed], tool: Resolved, *, sends: bool) -> Performed:
        """What it gives; of what it raises, whether it may have been done."""
        try:
            return do()
        except (InvalidInput, NotFound) as error:
            return refused(error)
        except Unavailable as error:
            wait = float(error.retry_after)
            return Failed(error.code, error.detail, ErrorClass.TRANSIENT, wait, asked=True)
        except Exception as error:  # noqa: BLE001  (what was sent must not be sent again for it)
            _log.error("a tool of kind %s ended otherwise than it may: %r", tool.kind, type(error))
            told = f"It ended otherwise than it may ({type(error).__name__})."
            if sends and tool.kind in REMOTE:
                return Unknown("defect", told, reconcilable=True, asked=True)
            return Failed("defect", told, ErrorClass.TRANSIENT, asked=True)


def _traced(
    verb: str, call: ToolCall, tool: Resolved, do: Callable[[ToolCall], Performed]
) -> Performed:
    """Do it within a span, whose context is what goes along with it."""
    told = {
        "nilometer.project.id": call.project_id,
        "nilometer.exception.id": call.incident_id,
        "nilometer.tool.kind": tool.tool.kind,
        "nilometer.tool.attempt": call.attempt,
    }
    kind = Kind.CLIENT if tool.tool.kind in REMOTE else Kind.INTERNAL
    with tracing.started(f"{verb} {call.tool}", call.traceparent, kind, told) as span:
        performed = do(replace(call, traceparent=span.traceparent))
        span.end(code_of(performed))
    return performed


def _wrong_input(call: ToolCall, tool: Resolved) -> Failed | None:
    """Why the input cannot be taken: by the kind's schema, and by the tool's own."""
    own = INPUTS.get(tool.kind)
    checks: list[tuple[Mapping[str, Any], Json]] = []
    if own is not None:
        checks.append((own, arguments(call, tool)))
    if tool.tool.input_schema is not None:
        checks.append((tool.tool.input_schema, dict(call.input)))
    for schema, given in checks:
        wrong = schemas.objection(schema, given)
        if wrong is not None:
            return Failed(
                "input_invalid",
                f"The input {wrong} the tool's input schema.",
                ErrorClass.PERMANENT,
                asked=False,
            )
    return None
