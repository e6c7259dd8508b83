"""Projects: those of the key's organization. `@current` stands for the key's home project."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import Field

from nilometer.access.types import CaptureMode
from nilometer.api import shapes
from nilometer.api.answers import counted_answer, json_answer
from nilometer.api.auth import (
    OrganizationAdmin,
    OrganizationReader,
    ProjectAdmin,
    Reader,
    named_project,
    no_project,
)
from nilometer.api.bodies import Body, Given, documented, read_body
from nilometer.api.routes.organizations import CountedAnswer, ListQuery, NameBody, acting
from nilometer.api.routing import NO_PARAMETERS, private_router, route
from nilometer.api.services import Ctx
from nilometer.errors import NotFound

router = private_router("projects")

_OF_ORGANIZATION = "/organizations/{organization_id}/projects"
_PATH = "/projects"
_ONE = f"{_PATH}/{{project_id}}"


class ProjectPatch(Body):
    """What to change; what is not given stays as it is."""

    name: Given[str] = None
    capture: Given[CaptureMode] = None
    dropped_distinct_ids: Given[list[str]] = Field(None, description="In place of those before.")
    retention_days: int | None = Field(None, description="null follows the server's setting.")
    keep_other_spans: Given[bool] = Field(
        None, description="Whether OpenTelemetry's spans that are not of AI are kept."
    )
    redaction: dict[str, Any] | None = Field(
        None,
        description="What is kept out of everything that is stored: `patterns`, `keys` and "
        "`content`; null for nothing.",
    )


@route(router, "GET", _OF_ORGANIZATION, response_model=CountedAnswer)
@route(router, "GET", _PATH, response_model=CountedAnswer)
async def list_projects(
    request: Request, member: OrganizationReader, ctx: Ctx, query: Annotated[ListQuery, Query()]
) -> Response:
    """The projects of the key's organization, by id."""
    accounts = acting(ctx, member)
    found = await ctx.database_workers.run(accounts.projects.list)
    results = [shapes.project_brief(project) for project in found]
    return counted_answer(request, results, limit=query.limit, offset=query.offset)


@route(
    router,
    "POST",
    _OF_ORGANIZATION,
    status_code=201,
    openapi_extra=documented(NameBody),
    dependencies=[NO_PARAMETERS],
)
@route(
    router,
    "POST",
    _PATH,
    status_code=201,
    openapi_extra=documented(NameBody),
    dependencies=[NO_PARAMETERS],
)
async def create_project(request: Request, member: OrganizationAdmin, ctx: Ctx) -> Response:
    """A new project. Its project key is `api_token`, shown this once."""
    body = await read_body(request, NameBody)
    accounts = acting(ctx, member)
    project, key = await ctx.database_workers.run(
        lambda: accounts.projects.create_with_key(body.name)
    )
    return json_answer(shapes.project(project, key.token), 201)


@route(router, "GET", _ONE, dependencies=[NO_PARAMETERS])
async def show_project(caller: Reader, ctx: Ctx) -> Response:
    """One project and its rules."""
    accounts = acting(ctx, caller)
    project = await ctx.database_workers.run(lambda: accounts.projects.get(caller.project_id))
    return json_answer(shapes.project(project))


@route(router, "PATCH", _ONE, openapi_extra=documented(ProjectPatch), dependencies=[NO_PARAMETERS])
async def change_project(request: Request, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """Change a project's name or rules. Running processes follow within 5 seconds."""
    body = await read_body(request, ProjectPatch)
    accounts = acting(ctx, caller)
    project = await ctx.database_workers.run(
        lambda: accounts.projects.change(
            caller.project_id,
            name=body.name,
            mode=body.capture,
            dropped_distinct_ids=body.dropped_distinct_ids,
            retention_days=_retention(body),
            keep_other_spans=body.keep_other_spans,
            redaction=_redaction(body),
        )
    )
    return json_answer(shapes.project(project))


@route(router, "POST", f"{_ONE}/rotate", dependencies=[NO_PARAMETERS])
async def rotate_project(caller: ProjectAdmin, ctx: Ctx) -> Response:
    """A new `api_token` in place of the project's key "default", which ends within 5 seconds. Keys
    of other names stay."""
    accounts = acting(ctx, caller)

    def rotate() -> shapes.Json:
        key = accounts.projects.rotate(caller.project_id)
        return shapes.project(accounts.projects.get(caller.project_id), key.token)

    return json_answer(await ctx.database_workers.run(rotate))


@route(router, "DELETE", _ONE, status_code=202, dependencies=[NO_PARAMETERS])
async def delete_project(caller: ProjectAdmin, ctx: Ctx) -> Response:
    """Delete a project for good. 202: from now on it exists for nobody; what it had is deleted soon
    after, see its deletion."""
    accounts = acting(ctx, caller)
    deletion = await ctx.database_workers.run(lambda: accounts.projects.delete(caller.project_id))
    ctx.services.wake_deletions()
    return json_answer(shapes.deletion(deletion), 202)


@route(router, "GET", f"{_ONE}/deletion", dependencies=[NO_PARAMETERS])
async def show_deletion(project_id: str, member: OrganizationReader, ctx: Ctx) -> Response:
    """How far the deletion of a project has come; to be asked with a key of another project."""
    number = named_project(project_id, member.principal)
    projects = acting(ctx, member).projects

    def find() -> shapes.Json:
        try:
            return shapes.deletion(projects.deletion(number))
        except NotFound:
            pass  # it lives, or is none of theirs
        try:
            projects.get(number)
        except NotFound:
            raise no_project() from None
        raise NotFound("This project is not being deleted.", attr="project_id")

    return json_answer(await ctx.database_workers.run(find))


def _redaction(body: ProjectPatch) -> dict[str, Any] | Literal["off"] | None:
    given = "redaction" in body.model_fields_set
    return "off" if given and body.redaction is None else body.redaction


def _retention(body: ProjectPatch) -> int | Literal["default"] | None:
    given = "retention_days" in body.model_fields_set
    return "default" if given and body.retention_days is None else body.retention_days
