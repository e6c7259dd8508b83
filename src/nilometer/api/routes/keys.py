"""Keys of a project. A token is in the answer that made it and nowhere else."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from nilometer.access.types import KeyKind, Scope
from nilometer.api import shapes
from nilometer.api.answers import counted_answer, json_answer
from nilometer.api.auth import ProjectAdmin, Reader
from nilometer.api.bodies import Body, documented, read_body
from nilometer.api.routes.organizations import CountedAnswer, ListQuery, NameBody, acting
from nilometer.api.routing import NO_PARAMETERS, private_router, route
from nilometer.api.services import Ctx

router = private_router("keys")

_PATH = "/projects/{project_id}/keys"
_ONE = f"{_PATH}/{{key_id}}"


class KeyBody(Body):
    """A new key. A project key captures and takes no scopes; a personal key needs one."""

    kind: KeyKind = KeyKind.PROJECT
    name: str
    scopes: list[Scope] = Field(default_factory=list[Scope])


@route(router, "GET", _PATH, response_model=CountedAnswer)
async def list_keys(
    request: Request, caller: Reader, ctx: Ctx, query: Annotated[ListQuery, Query()]
) -> Response:
    """The keys of the project, oldest first, revoked ones too; no tokens."""
    accounts = acting(ctx, caller)
    found = await ctx.database_workers.run(lambda: accounts.keys.list(caller.project_id))
    results = [shapes.key(key) for key in found]
    return counted_answer(request, results, limit=query.limit, offset=query.offset)


@route(
    router,
    "POST",
    _PATH,
    status_code=201,
    openapi_extra=documented(KeyBody),
    dependencies=[NO_PARAMETERS],
)
async def create_key(request: Request, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """A new key; `token` is shown this once. A personal key acts on the whole organization."""
    body = await read_body(request, KeyBody)
    accounts = acting(ctx, caller)
    key = await ctx.database_workers.run(
        lambda: accounts.keys.create(
            kind=body.kind, project_id=caller.project_id, name=body.name, scopes=body.scopes
        )
    )
    return json_answer(shapes.issued_key(key), 201)


@route(router, "GET", _ONE, dependencies=[NO_PARAMETERS])
async def show_key(key_id: str, caller: Reader, ctx: Ctx) -> Response:
    """One key, without its token."""
    keys = acting(ctx, caller).keys
    key = await ctx.database_workers.run(lambda: keys.get(key_id, caller.project_id))
    return json_answer(shapes.key(key))


@route(router, "PATCH", _ONE, openapi_extra=documented(NameBody), dependencies=[NO_PARAMETERS])
async def rename_key(request: Request, key_id: str, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """Give the key another name."""
    body = await read_body(request, NameBody)
    keys = acting(ctx, caller).keys
    key = await ctx.database_workers.run(lambda: keys.rename(key_id, body.name, caller.project_id))
    return json_answer(shapes.key(key))


@route(router, "POST", f"{_ONE}/rotate", dependencies=[NO_PARAMETERS])
async def rotate_key(key_id: str, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """A new token for the key, shown this once; the one before ends within 5 seconds."""
    keys = acting(ctx, caller).keys
    key = await ctx.database_workers.run(lambda: keys.rotate(key_id, caller.project_id))
    return json_answer(shapes.issued_key(key))


@route(router, "DELETE", _ONE, status_code=204, dependencies=[NO_PARAMETERS])
async def revoke_key(key_id: str, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """End the key for good, within 5 seconds. It stays in the list, as revoked."""
    keys = acting(ctx, caller).keys
    await ctx.database_workers.run(lambda: keys.revoke(key_id, caller.project_id))
    return Response(status_code=204)
