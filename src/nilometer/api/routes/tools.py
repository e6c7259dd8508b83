"""Tools that playbooks call, and what they were executed for."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from uuid import uuid4

from fastapi import Query, Request, Response
from pydantic import Field

from nilometer.api import shapes
from nilometer.api.answers import json_answer, list_answer
from nilometer.api.auth import Caller, Operator, ProjectAdmin, Reader
from nilometer.api.bodies import Body, documented, read_body
from nilometer.api.routes.events import Text
from nilometer.api.routing import NO_PARAMETERS, QueryModel, private_router, route
from nilometer.api.services import Context, Ctx
from nilometer.incidents.decisions import MAX_REASON
from nilometer.incidents.tools.call import Failed, Pending, Succeeded, ToolCall
from nilometer.incidents.tools.definitions import Changes, ToolInfo, Tools
from nilometer.incidents.tools.execution import Execution
from nilometer.incidents.tools.history import History
from nilometer.incidents.tools.tables import ExecutionState
from nilometer.query import paging

router = private_router("tools")

_TOOLS = "/projects/{project_id}/tools"
_TOOL = f"{_TOOLS}/{{tool}}"
_EXECUTIONS = "/projects/{project_id}/tool_executions"

_NO_INCIDENT = "dry run"


class _Definition(Body):
    description: str = ""
    config: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="What it has, docs/tools.md says for each kind."
    )
    secrets: dict[str, str | None] = Field(
        default_factory=dict[str, str | None],
        description="By name; null takes one away. They are never given back.",
    )
    input_schema: dict[str, Any] | None = Field(None, description="JSON Schema, draft 2020-12.")
    output_schema: dict[str, Any] | None = Field(None, description="Of the answer's body.")
    enabled: bool = True
    max_concurrency: int = Field(4, description="Executions under way at once: 1 to 100.")
    breaker_failures: int = Field(5, description="Failures in a row that open the breaker.")
    breaker_seconds: int = Field(60, description="For how long it stays open: 1 to 3600.")


class ToolBody(_Definition):
    """A new tool."""

    name: str
    kind: str = Field(description="http, webhook, or one of Nilometer's own actions.")


class ToolChangeBody(_Definition):
    """What is changed of a tool: what is not there stays. The members of `config` that are given
    take the place of those there are; null takes one away."""


class RotateToolBody(Body):
    """A new secret to sign with, by default a random one, and for how long the old one signs as
    well."""

    secret: str | None = Field(None, description="`whsec_` and 24 to 64 bytes in base64.")
    overlap_seconds: int = Field(24 * 3600, description="0 to 7 days.")


class DryRunBody(Body):
    """What the tool would be called with."""

    input: dict[str, Any] = Field(default_factory=dict[str, Any])


class DecisionBody(Body):
    """What became of an execution, as the receiver's own records have it."""

    succeeded: bool
    output: dict[str, Any] | None = Field(
        None, description="What it gave back, for the steps that read it. Only if it succeeded."
    )
    reason: str | None = Field(
        None,
        max_length=MAX_REASON,
        description="How that is known; kept in the audit log.",
    )


class ExecutionsQuery(QueryModel):
    """The filters of a list of executions."""

    state: ExecutionState | None = None
    tool: Text | None = Field(None, description="The name of a tool, also of a removed one.")
    incident: Text | None = Field(None, description="The id of an incident.")
    limit: int = Field(paging.DEFAULT_LIMIT, ge=1, le=paging.MAX_LIMIT)
    cursor: Text | None = Field(None, description="From a page's `next`.")


@route(router, "GET", _TOOLS, dependencies=[NO_PARAMETERS])
async def list_tools(caller: Reader, ctx: Ctx) -> Response:
    """The project's tools by name, Nilometer's own included, without their secrets."""
    own = _tools(ctx, caller)
    found = await ctx.database_workers.run(lambda: own.list(caller.project_id))
    return json_answer({"results": [_tool_json(each) for each in found]})


@route(
    router,
    "POST",
    _TOOLS,
    status_code=201,
    openapi_extra=documented(ToolBody),
    dependencies=[NO_PARAMETERS],
)
async def add_tool(request: Request, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """A new tool. The secret that it signs with, if none was given, is shown this once."""
    body = await read_body(request, ToolBody)
    own, given = _tools(ctx, caller), _given(body)
    added = await ctx.database_workers.run(
        lambda: own.add(caller.project_id, body.name, body.kind, given)
    )
    return json_answer(_tool_json(added), 201)


@route(router, "GET", _TOOL, dependencies=[NO_PARAMETERS])
async def show_tool(tool: str, caller: Reader, ctx: Ctx) -> Response:
    """One tool, without its secrets, and how its breaker stands."""
    own = _tools(ctx, caller)
    return json_answer(
        _tool_json(await ctx.database_workers.run(lambda: own.get(caller.project_id, tool)))
    )


@route(
    router,
    "PATCH",
    _TOOL,
    openapi_extra=documented(ToolChangeBody),
    dependencies=[NO_PARAMETERS],
)
async def change_tool(request: Request, tool: str, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """Change a tool, or enable and disable it. It holds for what begins after it."""
    given = _given(await read_body(request, ToolChangeBody))
    own = _tools(ctx, caller)
    changed = await ctx.database_workers.run(lambda: own.change(caller.project_id, tool, given))
    return json_answer(_tool_json(changed))


@route(router, "DELETE", _TOOL, status_code=204, dependencies=[NO_PARAMETERS])
async def remove_tool(tool: str, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """Remove a tool; one of Nilometer's own is then as it was at first."""
    own = _tools(ctx, caller)
    await ctx.database_workers.run(lambda: own.remove(caller.project_id, tool))
    return Response(status_code=204)


@route(
    router,
    "POST",
    f"{_TOOL}/rotate",
    openapi_extra=documented(RotateToolBody, required=False),
    dependencies=[NO_PARAMETERS],
)
async def rotate_tool(request: Request, tool: str, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """A new secret to sign with, shown this once; the old one signs too for a while."""
    body = await read_body(request, RotateToolBody)
    own, overlap = _tools(ctx, caller), timedelta(seconds=body.overlap_seconds)
    rotated = await ctx.database_workers.run(
        lambda: own.rotate(caller.project_id, tool, secret=body.secret, overlap=overlap)
    )
    return json_answer(_tool_json(rotated))


@route(router, "POST", f"{_TOOL}/close_breaker", dependencies=[NO_PARAMETERS])
async def close_breaker(tool: str, caller: Operator, ctx: Ctx) -> Response:
    """Let calls through again, at once."""
    own = _tools(ctx, caller)
    closed = await ctx.database_workers.run(lambda: own.close_breaker(caller.project_id, tool))
    return json_answer(_tool_json(closed))


@route(
    router,
    "POST",
    f"{_TOOL}/dry_run",
    openapi_extra=documented(DryRunBody, required=False),
    dependencies=[NO_PARAMETERS],
)
async def dry_run_tool(request: Request, tool: str, caller: Operator, ctx: Ctx) -> Response:
    """What would be sent or changed; nothing is. For real a tool is called by a playbook alone."""
    body = await read_body(request, DryRunBody)
    own = _tools(ctx, caller)
    call = ToolCall(
        project_id=caller.project_id,
        incident_id=_NO_INCIDENT,
        execution_id=str(uuid4()),
        tool=tool,
        input=body.input,
        dry_run=True,
    )

    def rehearse() -> shapes.Json:
        own.get(caller.project_id, tool)
        return _outcome_json(ctx.executor.execute(call))

    return json_answer(await ctx.dry_run_workers.run(caller.project_id, rehearse))


@route(router, "GET", _EXECUTIONS)
async def list_executions(
    request: Request, caller: Reader, ctx: Ctx, query: Annotated[ExecutionsQuery, Query()]
) -> Response:
    """What tools were executed, newest first."""
    own = _history(ctx, caller)
    page = await ctx.database_workers.run(
        lambda: own.list(
            caller.project_id,
            state=query.state,
            tool=query.tool or None,
            incident_id=query.incident or None,
            limit=query.limit,
            cursor=query.cursor or None,
        )
    )
    results = [_execution_json(each) for each in page.rows]
    return list_answer(request, results, next_=page.next, previous=page.previous)


@route(router, "GET", f"{_EXECUTIONS}/{{execution_id}}", dependencies=[NO_PARAMETERS])
async def show_execution(execution_id: str, caller: Reader, ctx: Ctx) -> Response:
    """One execution, its input and output as they were kept."""
    own = _history(ctx, caller)
    found = await ctx.database_workers.run(lambda: own.get(caller.project_id, execution_id))
    return json_answer(_execution_json(found))


@route(
    router,
    "POST",
    f"{_EXECUTIONS}/{{execution_id}}/decide",
    openapi_extra=documented(DecisionBody),
    dependencies=[NO_PARAMETERS],
)
async def decide_execution(
    request: Request, execution_id: str, caller: Operator, ctx: Ctx
) -> Response:
    """Say what became of an execution that is unknown. Replay its dead letter then."""
    body = await read_body(request, DecisionBody)
    own = _history(ctx, caller)
    decided = await ctx.database_workers.run(
        lambda: own.decide(
            *(caller.project_id, execution_id),
            succeeded=body.succeeded,
            output=body.output,
            reason=body.reason,
        )
    )
    return json_answer(_execution_json(decided))


def _tools(ctx: Context, caller: Caller) -> Tools:
    return ctx.tools.acting_as(caller.authority)


def _history(ctx: Context, caller: Caller) -> History:
    return ctx.tool_history.acting_as(caller.authority)


def _given(body: _Definition) -> Changes:
    named = body.model_dump(exclude_unset=True)
    members = Changes.__annotations__
    return {name: value for name, value in named.items() if name in members}  # pyright: ignore[reportReturnType]


def _tool_json(info: ToolInfo) -> shapes.Json:
    tool, breaker = info.tool, info.breaker
    told: shapes.Json = {
        "name": tool.name,
        "project_id": tool.project_id,
        "kind": tool.kind,
        "built_in": tool.version == 0,
        "description": tool.description,
        "config": dict(tool.config),
        "secrets": list(tool.secrets),
        "input_schema": tool.input_schema,
        "output_schema": tool.output_schema,
        "enabled": tool.enabled,
        "max_concurrency": tool.max_concurrency,
        "breaker_failures": tool.breaker_failures,
        "breaker_seconds": tool.breaker_seconds,
        "version": tool.version,
        "breaker": {
            "state": breaker.state.value,
            "failures": breaker.failures,
            "opened_at": breaker.opened_at and shapes.moment(breaker.opened_at),
            "retry_at": breaker.retry_at and shapes.moment(breaker.retry_at),
        },
        "created_at": tool.created_at and shapes.moment(tool.created_at),
        "updated_at": tool.updated_at and shapes.moment(tool.updated_at),
    }
    if info.signing_secret is not None:
        told["signing_secret"] = info.signing_secret
    return told


def _outcome_json(outcome: Any) -> shapes.Json:
    assert not isinstance(outcome, Pending), "a dry run changes nothing"
    if isinstance(outcome, Succeeded):
        return {"possible": True, "would": outcome.output["would"], "error": None}
    error: shapes.Json = {"code": outcome.code, "detail": outcome.detail}
    if isinstance(outcome, Failed):
        error["class"] = outcome.error_class.value
    return {"possible": False, "would": None, "error": error}


def _execution_json(each: Execution) -> shapes.Json:
    return {
        "id": each.id,
        "project_id": each.project_id,
        "incident_id": each.incident_id,
        "tool": each.tool,
        "kind": each.kind,
        "tool_version": each.tool_version,
        "state": each.state.value,
        "dry_run": each.dry_run,
        "attempts": each.attempts,
        "input": dict(each.input),
        "output": None if each.output is None else dict(each.output),
        "error_code": each.error_code,
        "error": each.error,
        "error_class": each.error_class,
        "traceparent": each.traceparent,
        "decided_by": each.decided_by,
        "began_at": shapes.moment(each.began_at),
        "attempted_at": shapes.moment(each.attempted_at),
        "finished_at": shapes.moment(each.finished_at),
    }
