"""Organizations. A key sees its own; `@current` stands for it in a path."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from nilometer.access.accounts import Accounts
from nilometer.api import shapes
from nilometer.api.answers import counted_answer, json_answer
from nilometer.api.auth import DeploymentAdmin, Member, OrganizationAdmin, OrganizationReader
from nilometer.api.bodies import Body, documented, read_body
from nilometer.api.routing import NO_PARAMETERS, QueryModel, private_router, route
from nilometer.api.services import Context, Ctx

router = private_router("organizations")

_PATH = "/organizations"
_ONE = f"{_PATH}/{{organization_id}}"


class ListQuery(QueryModel):
    """Which part of a list."""

    limit: int = Field(100, ge=1, le=500)
    offset: int = Field(0, ge=0, le=1_000_000)


class NameBody(Body):
    """A name, of 1 to 100 printable characters."""

    name: str


class CountedAnswer(BaseModel):
    """A part of a list, and how many results all of it has. The links are paths on this server."""

    count: int
    next: str | None
    previous: str | None
    results: list[dict[str, object]]


@route(router, "GET", _PATH, response_model=CountedAnswer)
async def list_organizations(
    request: Request, member: OrganizationReader, ctx: Ctx, query: Annotated[ListQuery, Query()]
) -> Response:
    """The organizations that the key may see: its own."""
    accounts = acting(ctx, member)
    found = await ctx.database_workers.run(accounts.organizations.list)
    results = [shapes.organization_brief(each, member.principal.scopes) for each in found]
    return counted_answer(request, results, limit=query.limit, offset=query.offset)


@route(
    router,
    "POST",
    _PATH,
    status_code=201,
    openapi_extra=documented(NameBody),
    dependencies=[NO_PARAMETERS],
)
async def create_organization(request: Request, member: DeploymentAdmin, ctx: Ctx) -> Response:
    """A new organization with a project and keys, which are shown this once. For an admin of the
    deployment's first organization, whose key stays there and cannot see the new one."""
    body = await read_body(request, NameBody)
    accounts = acting(ctx, member)

    def create() -> shapes.Json:
        made, keys = accounts.organizations.create(body.name)
        everything = ctx.services.accounts.projects
        return shapes.new_organization(made, everything.list(made.organization_id), keys)

    return json_answer(await ctx.database_workers.run(create), 201)


@route(router, "GET", _ONE, dependencies=[NO_PARAMETERS])
async def show_organization(member: OrganizationReader, ctx: Ctx) -> Response:
    """One organization with its projects."""
    accounts = acting(ctx, member)
    return json_answer(await ctx.database_workers.run(lambda: _shown(accounts, member)))


@route(router, "PATCH", _ONE, openapi_extra=documented(NameBody), dependencies=[NO_PARAMETERS])
async def rename_organization(request: Request, member: OrganizationAdmin, ctx: Ctx) -> Response:
    """Give the organization another name; its slug stays."""
    body = await read_body(request, NameBody)
    accounts = acting(ctx, member)

    def rename() -> shapes.Json:
        accounts.organizations.rename(member.principal.organization_id, body.name)
        return _shown(accounts, member)

    return json_answer(await ctx.database_workers.run(rename))


@route(router, "DELETE", _ONE, status_code=202, dependencies=[NO_PARAMETERS])
async def delete_organization(member: OrganizationAdmin, ctx: Ctx) -> Response:
    """Delete the organization with every project and every key of it, the one that asks too.

    202: what the projects had is deleted soon after.
    """
    accounts = acting(ctx, member)
    organization_id = member.principal.organization_id
    deletions = await ctx.database_workers.run(
        lambda: accounts.organizations.delete(organization_id)
    )
    ctx.services.wake_deletions()
    shown = [shapes.deletion(deletion) for deletion in deletions]
    return json_answer({"id": organization_id, "deletions": shown}, 202)


def acting(ctx: Context, member: Member) -> Accounts:
    """The accounts, as far as the caller reaches and under their name."""
    return ctx.services.accounts.acting_as(member.authority)


def _shown(accounts: Accounts, member: Member) -> shapes.Json:
    found = accounts.organizations.get(member.principal.organization_id)
    return shapes.organization(found, accounts.projects.list(), member.principal.scopes)
