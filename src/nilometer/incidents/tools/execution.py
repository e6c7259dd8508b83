"""An execution as it is shown, and the outcome that its row has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from nilometer.incidents.tools.call import ErrorClass, Failed, Outcome, Succeeded, Unknown
from nilometer.incidents.tools.tables import ExecutionRow, ExecutionState


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A tool, executed for an incident: the last attempt of `attempts`. `input` and `output` are as
    they were kept: redacted, without secrets. See `ExecutionRow`."""

    id: str
    project_id: int
    incident_id: str
    tool: str
    kind: str
    tool_version: int
    state: ExecutionState
    dry_run: bool
    attempts: int
    input: Mapping[str, Any] = field(repr=False)
    output: Mapping[str, Any] | None = field(repr=False)
    error_code: str | None
    error: str | None
    error_class: str | None
    traceparent: str | None
    decided_by: str | None
    began_at: datetime
    attempted_at: datetime
    finished_at: datetime | None


def execution(row: ExecutionRow) -> Execution:
    """The execution of a row."""
    return Execution(**{name: getattr(row, name) for name in Execution.__slots__})


def outcome_of(row: ExecutionRow | Row[Any]) -> Outcome:
    """What came of one whose state is not `running`, of its row or its columns. Nobody is asked
    by reading it."""
    if row.state is ExecutionState.SUCCEEDED:
        return Succeeded(row.output or {})
    code, detail = row.error_code or "unknown", row.error or ""
    if row.state is ExecutionState.FAILED:
        error_class = ErrorClass(row.error_class or ErrorClass.PERMANENT)
        return Failed(code, detail, error_class, asked=False)
    return Unknown(code, detail, reconcilable=False, asked=False)


def kept_outcome(outcome: Outcome, now: datetime) -> dict[str, Any]:
    """The columns that an outcome is kept in."""
    values: dict[str, Any] = {
        "state": ExecutionState.SUCCEEDED,
        "output": None,
        "error_code": None,
        "error": None,
        "error_class": None,
        "finished_at": now,
    }
    match outcome:
        case Succeeded(output):
            return values | {"output": output}
        case Failed(code, detail, error_class):
            error = {"error_code": code, "error": detail, "error_class": error_class.value}
            return values | error | {"state": ExecutionState.FAILED}
        case Unknown(code, detail):
            error = {"error_code": code, "error": detail, "finished_at": None}
            return values | error | {"state": ExecutionState.UNKNOWN}
