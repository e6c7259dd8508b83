"""Domain packs of incidents, versions of them, and the playbooks that the active ones have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import Depends, Query, Request, Response
from pydantic import Field

from nilometer.access.types import Scope
from nilometer.api import shapes
from nilometer.api.answers import json_answer
from nilometer.api.auth import Caller, ProjectAdmin, Reader, require_in_project
from nilometer.api.bodies import Body, Given, documented, read_body
from nilometer.api.routing import NO_PARAMETERS, QueryModel, private_router, route
from nilometer.api.services import Context, Ctx
from nilometer.errors import InvalidInput, NotFound
from nilometer.incidents.packs import built_in
from nilometer.incidents.packs.documents import read_pack
from nilometer.incidents.packs.pack import Pack, Playbook
from nilometer.incidents.packs.reading import MAX_BYTES, PackInvalid, parse_pack
from nilometer.incidents.packs.store import ListedPack, Packs, StoredPack
from nilometer.incidents.packs.tables import PackState

router = private_router("packs")

_PATH = "/projects/{project_id}/packs"
_VERSION = f"{_PATH}/{{pack}}/{{version}}"

Writer = Annotated[Caller, Depends(require_in_project(Scope.WRITE))]


class PackBody(Body):
    """A pack: one of the three. See docs/packs.md."""

    pack: Given[dict[str, Any]] = Field(None, description="The pack as an object.")
    text: Given[str] = Field(None, description="The pack as text, in YAML or JSON.")
    built_in: Given[str] = Field(None, description="The name of a pack that ships with Nilometer.")


class PacksQuery(QueryModel):
    """Which packs."""

    name: str | None = Field(None, description="Only the versions of this one.")
    state: PackState | None = Field(None, description="Only versions in this state.")


@route(router, "GET", _PATH)
async def list_packs(caller: Reader, ctx: Ctx, query: Annotated[PacksQuery, Query()]) -> Response:
    """The versions of the project's packs, by name, the newest first; without their documents."""
    own = _own(ctx, caller)
    found = await ctx.database_workers.run(
        lambda: own.list(caller.project_id, query.name, query.state)
    )
    return json_answer({"results": [_json(each) for each in found]})


@route(
    router,
    "POST",
    _PATH,
    status_code=201,
    openapi_extra=documented(PackBody),
    dependencies=[NO_PARAMETERS],
)
async def add_pack(request: Request, caller: Writer, ctx: Ctx) -> Response:
    """A draft of the next version. What is wrong with a pack is told all at once, in `problems`.
    The document of the newest version is not added again: that version is the answer."""
    body = await read_body(request, PackBody)
    own = _own(ctx, caller)

    def add() -> StoredPack:
        return own.add(caller.project_id, _pack(body)[1])

    try:
        added = await ctx.pack_workers.run(caller.project_id, add)
    except PackInvalid as error:
        return _refused(error)
    return json_answer(_json(added), 201)


@route(
    router,
    "POST",
    f"{_PATH}/validate",
    openapi_extra=documented(PackBody),
    dependencies=[NO_PARAMETERS],
)
async def validate_pack(request: Request, caller: Reader, ctx: Ctx) -> Response:
    """Whether it is a pack, and everything that is wrong with it. Nothing is stored."""
    body = await read_body(request, PackBody)
    try:
        pack, _ = await ctx.pack_workers.run(caller.project_id, lambda: _pack(body))
    except PackInvalid as error:
        return json_answer({"valid": False, "name": None, "problems": _problems(error)})
    return json_answer({"valid": True, "name": pack.name, "problems": []})


@route(router, "GET", f"{_PATH}/{{pack}}", dependencies=[NO_PARAMETERS])
async def show_pack(pack: str, caller: Reader, ctx: Ctx) -> Response:
    """The active version of a pack with its document, or without one the newest."""
    own = _own(ctx, caller)
    found = await ctx.database_workers.run(lambda: own.get(caller.project_id, pack))
    return json_answer(_whole(found))


@route(router, "GET", _VERSION, dependencies=[NO_PARAMETERS])
async def show_version(pack: str, version: str, caller: Reader, ctx: Ctx) -> Response:
    """One version with its document."""
    own, number = _own(ctx, caller), _number(version)
    found = await ctx.database_workers.run(lambda: own.get(caller.project_id, pack, number))
    return json_answer(_whole(found))


@route(router, "POST", f"{_VERSION}/activate", dependencies=[NO_PARAMETERS])
async def activate(pack: str, version: str, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """Judge and handle exceptions by this version from now on; the one before is deprecated."""
    own, number = _own(ctx, caller), _number(version)
    done = await ctx.database_workers.run(lambda: own.activate(caller.project_id, pack, number))
    return json_answer(_json(done))


@route(router, "POST", f"{_VERSION}/deactivate", dependencies=[NO_PARAMETERS])
async def deactivate(pack: str, version: str, caller: ProjectAdmin, ctx: Ctx) -> Response:
    """Begin nothing by this version any more; incidents that it has begun to judge go on by it."""
    own, number = _own(ctx, caller), _number(version)
    done = await ctx.database_workers.run(lambda: own.deactivate(caller.project_id, pack, number))
    return json_answer(_json(done))


@route(router, "GET", "/projects/{project_id}/playbooks", dependencies=[NO_PARAMETERS])
async def list_playbooks(caller: Reader, ctx: Ctx) -> Response:
    """The playbooks of the active packs, in the order in which they are chosen from."""
    own = _own(ctx, caller)

    def found() -> list[shapes.Json]:
        active = own.list(caller.project_id, state=PackState.ACTIVE)
        # One after the other: of all their documents only one is in memory.
        stored = (own.get(caller.project_id, each.name, each.version) for each in active)
        return [_playbook(pack, each) for pack in stored for each in _playbooks(pack)]

    return json_answer({"results": await ctx.pack_workers.run(caller.project_id, found)})


def _own(ctx: Context, caller: Caller) -> Packs:
    return ctx.packs.acting_as(caller.authority)


def _pack(body: PackBody) -> tuple[Pack, Mapping[str, Any]]:
    given = [each for each in (body.pack, body.text, body.built_in) if each is not None]
    if len(given) != 1:
        raise InvalidInput("Give exactly one of pack, text and built_in.", attr="pack")
    if body.pack is not None:
        return parse_pack(body.pack, max_bytes=MAX_BYTES), body.pack
    text = built_in.text_of(body.built_in) if body.built_in is not None else (body.text or "")
    return read_pack(text.encode())


def _number(version: str) -> int:
    if not version.isascii() or not version.isdigit() or len(version) > 10 or version[0] == "0":
        raise NotFound("There is no such pack or version.", attr="version")
    return int(version)


def _refused(error: PackInvalid) -> Response:
    body = {
        "type": "validation_error",
        "code": error.code,
        "detail": error.detail,
        "attr": error.attr,
        "problems": _problems(error),
    }
    return Response(orjson.dumps(body), 400, media_type="application/json")


def _problems(error: PackInvalid) -> list[shapes.Json]:
    return [
        {"path": each.path, "detail": each.sentence, "line": each.line} for each in error.problems
    ]


def _json(stored: ListedPack) -> shapes.Json:
    return {
        "project_id": stored.project_id,
        "name": stored.name,
        "version": stored.version,
        "state": stored.state.value,
        "digest": stored.digest,
        "created_at": shapes.moment(stored.created_at),
        "created_by": stored.created_by,
        "changed_at": shapes.moment(stored.changed_at),
        "changed_by": stored.changed_by,
    }


def _whole(stored: StoredPack) -> shapes.Json:
    return {**_json(stored), "document": dict(stored.document)}


def _playbooks(stored: StoredPack) -> list[Playbook]:
    try:
        playbooks = parse_pack(stored.document).playbooks
    except PackInvalid:  # of a later release; `GET …/packs/` has it
        return []
    return sorted(playbooks, key=lambda each: (-each.priority, each.name))


def _playbook(stored: StoredPack, playbook: Playbook) -> shapes.Json:
    return {
        "pack": stored.name,
        "version": stored.version,
        "name": playbook.name,
        "description": playbook.description,
        "types": list(playbook.types),
        "when": playbook.when,
        "priority": playbook.priority,
        "tools": list(playbook.tools),
        "steps": [{"name": step.name, "action": step.action} for step in playbook.steps],
        "recovery": [{"name": step.name, "action": step.action} for step in playbook.recovery],
    }
