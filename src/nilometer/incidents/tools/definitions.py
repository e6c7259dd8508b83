"""A project's tools: defined, listed, changed, rotated and removed, each with its entry in the
audit log, which names a tool and never what is secret in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypedDict

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nilometer.access import audit
from nilometer.access.bounds import check_room
from nilometer.access.lookup import live_project
from nilometer.access.tables import AuditEntry, Project
from nilometer.access.types import OPERATOR, Action, Authority
from nilometer.database.engine import Database
from nilometer.domain import clock
from nilometer.errors import InvalidInput, NotFound
from nilometer.incidents.tools import breaker, definition, secrets
from nilometer.incidents.tools.breaker import CLOSED, Breaker
from nilometer.incidents.tools.configuration import Checked, checked_config
from nilometer.incidents.tools.definition import Tool, built_in_tool, stored_tool
from nilometer.incidents.tools.kinds import REMOTE, ToolKind, built_in, known
from nilometer.incidents.tools.resolving import SIGNING
from nilometer.incidents.tools.schemas import checked_schema
from nilometer.incidents.tools.tables import ToolRow
from nilometer.notifications import signature
from nilometer.notifications.reach import Reach

MAX_TOOLS = 100
"""Of one project."""
MAX_DESCRIPTION = 2000
MAX_BREAKER_FAILURES = 100
MAX_BREAKER_SECONDS = 3600


class Changes(TypedDict, total=False):
    """What of a tool may be given; what is not there stays, or is as by default. Of `config` the
    members that are given take the place of those there are, null takes one away; so do `secrets`,
    which are never given back. Name and kind stay for good."""

    description: str
    config: Mapping[str, Any]
    secrets: Mapping[str, str | None]
    input_schema: Mapping[str, Any] | None
    output_schema: Mapping[str, Any] | None
    enabled: bool
    max_concurrency: int
    breaker_failures: int
    breaker_seconds: int


@dataclass(frozen=True, slots=True)
class ToolInfo:
    """A tool and how its breaker stands. `signing_secret` is a new one, in the answer that made it
    and nowhere else."""

    tool: Tool
    breaker: Breaker = CLOSED
    signing_secret: str | None = field(default=None, repr=False)


class Tools:
    """The tools that an authority may act on. Blocks; safe between threads.

    A change holds for what begins after it. Every method raises DatabaseUnavailable, and NotFound
    for a project or tool that is not the authority's.
    """

    def __init__(self, database: Database, reach: Reach, authority: Authority = OPERATOR) -> None:
        self._database = database
        self._reach = reach
        self._authority = authority

    def acting_as(self, authority: Authority) -> Tools:
        """The same for somebody else."""
        return Tools(self._database, self._reach, authority)

    def list(self, project_id: int) -> list[ToolInfo]:
        """A project's tools by name, those of our own included."""
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            rows = session.scalars(select(ToolRow).where(ToolRow.project_id == project_id)).all()
            names = secrets.stored_names(session, project_id)
            tools = [stored_tool(row, tuple(sorted(names.get(row.name, ())))) for row in rows]
            defined = {tool.name for tool in tools}
            own = [kind for kind in ToolKind if kind not in REMOTE and kind.value not in defined]
            tools += [built_in_tool(project_id, kind) for kind in own]
            states = breaker.states(session, project_id)
        ordered = sorted(tools, key=lambda tool: tool.name)
        return [ToolInfo(tool, states.get(tool.name, CLOSED)) for tool in ordered]

    def get(self, project_id: int, name: str) -> ToolInfo:
        """One tool."""
        with self._database.read(self._authority.rows) as session:
            live_project(session, self._authority, project_id)
            return _info(session, project_id, name)

    def add(self, project_id: int, name: str, kind: str, given: Changes) -> ToolInfo:
        """A new tool. Raises InvalidInput: for a kind that there is not, for a name that another
        has, and for what cannot be. The secret that it signs with is in the answer, if it was not
        given."""
        name, of_kind = definition.checked_tool_name(name), _checked_kind(kind)
        if built_in(name) not in (None, of_kind):
            raise InvalidInput("a tool of our own of another kind has this name", attr="name")
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            if session.get(ToolRow, (project_id, name)) is not None:
                raise InvalidInput(
                    "Another tool of this project has the name.", code="name_taken", attr="name"
                )
            return self._define(session, project, _new_row(project_id, name, of_kind), given)

    def change(self, project_id: int, name: str, given: Changes) -> ToolInfo:
        """Change what is given. Raises InvalidInput, also where secrets would go elsewhere."""
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            row = session.get(ToolRow, (project_id, name))
            own = built_in(name)
            if row is None and own is not None:
                return self._define(session, project, _new_row(project_id, name, own), given)
            if row is None:
                raise _no_tool()
            made = self._write(session, row, given)
            self._record(session, Action.TOOL_CHANGE, project, row, {"changed": sorted(given)})
            return _info(session, project_id, name, made)

    def rotate(
        self, project_id: int, name: str, *, secret: str | None, overlap: timedelta
    ) -> ToolInfo:
        """A new secret to sign with, by default a random one, which is in the answer. The one
        before signs as well for so long. Raises InvalidInput for a tool that does not sign."""
        if not timedelta(0) <= overlap <= secrets.MAX_OVERLAP:
            most = f"{secrets.MAX_OVERLAP.total_seconds():.0f}"
            raise InvalidInput(f"the overlap is 0 to {most} seconds", attr="overlap_seconds")
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            row = _row(session, project_id, name)
            now = clock.now()
            new = secrets.rotate(session, project_id, name, secret, now + overlap, now)
            self._record(session, Action.TOOL_ROTATE, project, row)
            return _info(session, project_id, name, new if secret is None else None)

    def close_breaker(self, project_id: int, name: str) -> ToolInfo:
        """Let calls through again: whoever failed was mended."""
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            info = _info(session, project_id, name)
            breaker.forget(session, project_id, name)
            audit.record_of_project(
                session, self._authority, Action.TOOL_BREAKER_CLOSE, project, subject=name
            )
            return ToolInfo(info.tool)

    def remove(self, project_id: int, name: str) -> None:
        """Remove a tool and its secrets; one of our own is then as it was at first. Executions
        stay; those of it that begin later fail."""
        with self._database.session(self._authority.rows) as session:
            project = live_project(session, self._authority, project_id)
            row = _row(session, project_id, name)
            secrets.drop(session, project_id, name)
            breaker.forget(session, project_id, name)
            self._record(session, Action.TOOL_REMOVE, project, row)
            session.delete(row)

    def _define(self, session: Session, project: Project, row: ToolRow, given: Changes) -> ToolInfo:
        count = select(func.count()).where(ToolRow.project_id == project.id)
        check_room(session.scalar(count) or 0, MAX_TOOLS, "tools of this project")
        made = self._write(session, row, given)
        row.version += _versions_before(session, project, row.name)
        session.add(row)
        self._record(session, Action.TOOL_ADD, project, row, {"kind": row.kind})
        session.flush()
        return _info(session, project.id, row.name, made)

    def _write(self, session: Session, row: ToolRow, given: Changes) -> str | None:
        """Write down what is given; the secret to sign with, if one was made."""
        kind = known(row.kind)
        if kind is None:
            raise InvalidInput("this release knows no tools of this kind", attr="kind")
        _write_plain(row, given)
        there = secrets.stored_names(session, row.project_id, row.name).get(row.name, set())
        checked = checked_config(
            kind,
            before=row.config if row.version else None,
            config=given.get("config", {}),
            secrets=given.get("secrets", {}),
            there=there,
            reach=self._reach,
        )
        now = clock.now()
        row.config, row.updated_at, row.version = checked.config, now, row.version + 1
        made = _keep_secrets(session, row, checked)
        session.flush()
        return made

    def _record(
        self,
        session: Session,
        action: Action,
        project: Project,
        row: ToolRow,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        audit.record_of_project(
            session, self._authority, action, project, subject=row.name, detail=detail
        )


_BOUNDS: Final = {
    "max_concurrency": definition.MAX_CONCURRENCY,
    "breaker_failures": MAX_BREAKER_FAILURES,
    "breaker_seconds": MAX_BREAKER_SECONDS,
}


def _versions_before(session: Session, project: Project, name: str) -> int:
    """The highest version that a tool of this name can have had, or more; 0 where there was none.

    An interrupted call knows by the version whether the tool is still the one that it asked, so no
    version may come again. Each was made by an action that the audit log keeps for good.
    """
    made = select(func.count()).where(
        AuditEntry.organization_id == project.organization_id,
        AuditEntry.project_id == project.id,
        AuditEntry.subject == name,
        AuditEntry.action.in_((Action.TOOL_ADD, Action.TOOL_CHANGE)),
    )
    return session.scalar(made) or 0


def _write_plain(row: ToolRow, given: Changes) -> None:
    values: dict[str, Any] = {**given}
    for name, most in _BOUNDS.items():
        if name in values and not 1 <= values[name] <= most:
            raise InvalidInput(f"{name} is 1 to {most}", attr=name)
    if len(values.get("description", "")) > MAX_DESCRIPTION:
        raise InvalidInput(
            f"a description has at most {MAX_DESCRIPTION} characters", attr="description"
        )
    for name in ("input_schema", "output_schema"):
        if values.get(name) is not None:
            values[name] = checked_schema(values[name], name)
    for name in (*_BOUNDS, "description", "enabled", "input_schema", "output_schema"):
        if name in values:
            setattr(row, name, values[name])


def _keep_secrets(session: Session, row: ToolRow, checked: Checked) -> str | None:
    project_id, name = row.project_id, row.name
    if checked.dropped:
        secrets.drop(session, project_id, name, checked.dropped)
        session.expire_all()
    given = dict(checked.secrets)
    made = None
    if checked.wants_signing:
        given[SIGNING] = made = signature.new_secret()
    secrets.keep(session, project_id, name, given, row.updated_at)
    return made


def _new_row(project_id: int, name: str, kind: ToolKind) -> ToolRow:
    now = clock.now()
    return ToolRow(
        project_id=project_id,
        name=name,
        kind=kind.value,
        description="",
        config={},
        input_schema=None,
        output_schema=None,
        enabled=True,
        max_concurrency=definition.DEFAULT_CONCURRENCY,
        breaker_failures=definition.DEFAULT_BREAKER_FAILURES,
        breaker_seconds=definition.DEFAULT_BREAKER_SECONDS,
        version=0,
        created_at=now,
        updated_at=now,
    )


def _checked_kind(kind: str) -> ToolKind:
    found = known(kind)
    if found is None:
        kinds = ", ".join(each.value for each in ToolKind)
        raise InvalidInput(
            f"there are tools of the kinds {kinds}", code="unknown_kind", attr="kind"
        )
    return found


def _row(session: Session, project_id: int, name: str) -> ToolRow:
    row = session.get(ToolRow, (project_id, name))
    if row is None:
        raise _no_tool()
    return row


def _no_tool() -> NotFound:
    return NotFound("The project has no tool of this name.", attr="tool")


def _info(session: Session, project_id: int, name: str, made: str | None = None) -> ToolInfo:
    row, own = session.get(ToolRow, (project_id, name)), built_in(name)
    if row is None and own is None:
        raise _no_tool()
    names = secrets.stored_names(session, project_id, name).get(name, set[str]())
    if row is not None:
        tool = stored_tool(row, tuple(sorted(names)))
    else:
        assert own is not None, "it has a row or is of our own"
        tool = built_in_tool(project_id, own)
    return ToolInfo(tool, breaker.states(session, project_id).get(name, CLOSED), made)
