"""A tool as it is defined and shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nilometer.errors import InvalidInput
from nilometer.incidents.tools.kinds import INPUTS, ToolKind
from nilometer.incidents.tools.tables import TOOL_NAME, ToolRow

DEFAULT_CONCURRENCY = 4
MAX_CONCURRENCY = 100
DEFAULT_BREAKER_FAILURES = 5
DEFAULT_BREAKER_SECONDS = 60

_NAME = re.compile(rf"[a-z][a-z0-9_.-]{{0,{TOOL_NAME - 1}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool of a project. `version` grows with every change, also from one that was removed to
    the next of its name, and is 0 for a built-in one that nobody changed. `config` is of its kind
    and holds no secret; `secrets` are the names of those that are set. At most `max_concurrency`
    executions are under way at once. The breaker opens after `breaker_failures` in a row, for
    `breaker_seconds`.
    """

    project_id: int
    name: str
    kind: str
    description: str = ""
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    secrets: tuple[str, ...] = ()
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    enabled: bool = True
    max_concurrency: int = DEFAULT_CONCURRENCY
    breaker_failures: int = DEFAULT_BREAKER_FAILURES
    breaker_seconds: int = DEFAULT_BREAKER_SECONDS
    version: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None


def checked_tool_name(name: str) -> str:
    """The name, if one can be called so. Raises InvalidInput."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"a tool's name is 1 to {TOOL_NAME} small letters, digits, '_', '.' and '-', "
            "and begins with a letter",
            attr="name",
        )
    return name


def built_in_tool(project_id: int, kind: ToolKind) -> Tool:
    """The tool of our own that is there without a definition."""
    return Tool(project_id=project_id, name=kind.value, kind=kind.value, input_schema=INPUTS[kind])


def stored_tool(row: ToolRow, secrets: tuple[str, ...] = ()) -> Tool:
    """The tool of a row."""
    return Tool(
        project_id=row.project_id,
        name=row.name,
        kind=row.kind,
        description=row.description,
        config=row.config,
        secrets=secrets,
        input_schema=row.input_schema,
        output_schema=row.output_schema,
        enabled=row.enabled,
        max_concurrency=row.max_concurrency,
        breaker_failures=row.breaker_failures,
        breaker_seconds=row.breaker_seconds,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
