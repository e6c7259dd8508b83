"""From a tool's name to all that a call of it needs: read in the transaction that begins the call.

So what is executed is the tool as it was when its attempt was counted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select, tuple_
from sqlalchemy.orm import Session

from nilometer.access.tables import Project
from nilometer.domain.redaction.reading import InvalidRules, read_rules
from nilometer.domain.redaction.rules import UNREADABLE, RedactionRules
from nilometer.incidents.tools.call import ErrorClass, Failed
from nilometer.incidents.tools.definition import (
    DEFAULT_CONCURRENCY,
    Tool,
    built_in_tool,
    stored_tool,
)
from nilometer.incidents.tools.kinds import ToolKind, built_in, known
from nilometer.incidents.tools.tables import ToolRow, ToolSecretRow

Key = tuple[int, str]
"""A project and the name of a tool."""

SIGNING = "signing"
"""The secret that webhooks are signed with."""

# Made once: to build one takes longer than to run it.
_THESE = tuple_(ToolRow.project_id, ToolRow.name).in_(bindparam("keys", expanding=True))
_TOOLS = select(ToolRow).where(_THESE)
_LIMITS = select(ToolRow.project_id, ToolRow.name, ToolRow.max_concurrency).where(_THESE)
_SECRETS = select(ToolSecretRow).where(
    tuple_(ToolSecretRow.project_id, ToolSecretRow.tool).in_(bindparam("keys", expanding=True))
)
_PROJECTS = select(Project.id, Project.redaction).where(
    Project.id.in_(bindparam("ids", expanding=True)), Project.tombstoned_at.is_(None)
)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A tool, ready to be called. `refusal` is why it cannot be; `secrets` are by name, of a
    signing secret that is being replaced both."""

    tool: Tool
    secrets: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, Any], repr=False)
    rules: RedactionRules | None = field(default=None, repr=False)
    refusal: Failed | None = None

    @property
    def kind(self) -> ToolKind:
        """Its kind. Only where nothing refuses it."""
        return ToolKind(self.tool.kind)


def resolve(session: Session, wanted: Collection[Key], now: datetime) -> dict[Key, Resolved]:
    """Each of these tools, in three statements however many they are."""
    projects = _projects(session, {project for project, _ in wanted})
    rows = _rows(session, wanted)
    secrets = _secrets(session, rows, now)
    return {key: _resolved(key, projects, rows.get(key), secrets.get(key, {})) for key in wanted}


def limits(session: Session, wanted: Collection[Key]) -> dict[Key, tuple[str, int]]:
    """Of each of these tools what its executions have in common within the project, and how many of
    them may be under way at once: a task's `limit_key` and `limit`."""
    if not wanted:
        return {}
    found = session.execute(_LIMITS, {"keys": list(wanted)})
    defined = {(project_id, name): most for project_id, name, most in found}
    return {key: (limit_key(key[1]), defined.get(key, DEFAULT_CONCURRENCY)) for key in wanted}


def limit_key(tool: str) -> str:
    """The `limit_key` of the tasks that call a tool."""
    return tool


def _projects(session: Session, ids: Collection[int]) -> dict[int, RedactionRules | None]:
    """The live ones among these projects, with their rules."""
    found = session.execute(_PROJECTS, {"ids": list(ids)})
    return {row[0]: _rules(row[1]) for row in found}


def _rules(stored: Mapping[str, Any] | None) -> RedactionRules | None:
    try:
        return None if stored is None else read_rules(stored)
    except InvalidRules:
        return UNREADABLE


def _rows(session: Session, wanted: Collection[Key]) -> dict[Key, ToolRow]:
    found = session.scalars(_TOOLS, {"keys": list(wanted)})
    return {(row.project_id, row.name): row for row in found}


def _secrets(
    session: Session, rows: Mapping[Key, ToolRow], now: datetime
) -> dict[Key, dict[str, tuple[str, ...]]]:
    if not rows:
        return {}
    found: dict[Key, dict[str, tuple[str, ...]]] = {}
    for row in session.scalars(_SECRETS, {"keys": list(rows)}):
        both = row.previous is not None and row.previous_until is not None
        overlaps = both and row.previous_until is not None and row.previous_until > now
        values = (row.value, row.previous) if overlaps and row.previous else (row.value,)
        found.setdefault((row.project_id, row.tool), {})[row.name] = values
    return found


def _resolved(
    key: Key,
    projects: Mapping[int, RedactionRules | None],
    row: ToolRow | None,
    secrets: Mapping[str, tuple[str, ...]],
) -> Resolved:
    project_id, name = key
    own = built_in(name)
    if row is not None:
        tool = stored_tool(row, tuple(sorted(secrets)))
    elif own is not None:
        tool = built_in_tool(project_id, own)
    else:
        tool = Tool(project_id=project_id, name=name, kind="")
    return Resolved(tool, secrets, projects.get(project_id), _refusal(tool, projects))


def _refusal(tool: Tool, projects: Mapping[int, RedactionRules | None]) -> Failed | None:
    if tool.project_id not in projects:
        return _never("no_project", "There is no such project, or it is being deleted.")
    if not tool.kind:
        return _never("no_tool", "The project has no tool of this name.")
    if known(tool.kind) is None:
        return _never("unknown_kind", "This release knows no tools of this kind.")
    if not tool.enabled:
        return _never("tool_disabled", "The tool is disabled.")
    return None


def _never(code: str, detail: str) -> Failed:
    return Failed(code, detail, ErrorClass.PERMANENT, asked=False)
